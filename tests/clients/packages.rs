//! pip, npm and cargo against a registry of ours: an index, a package, and the same behind a key.

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use serde_json::json;

use crate::proxy::KEY;
use crate::tools::{find, need, python};
use crate::world::{ALLOWED, DENIED, KEYED, World, shown};

/// Runs a helper of the test itself, outside of the proxy, in the test's folder.
fn prepare(world: &World, program: &Path, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).current_dir(world.folder.path()).output().unwrap();
    assert!(output.status.success(), "{}", shown(&output));
    String::from_utf8(output.stdout).unwrap()
}

/// One denial, one credential, no key in what the client said.
fn check(world: &mut World, outputs: [Output; 3], reason: &str) {
    let [allowed, denied, keyed] = outputs.map(|output| (output.status.success(), shown(&output)));
    assert!(allowed.0, "allowed: {}", allowed.1);
    assert!(keyed.0 && !keyed.1.contains(KEY), "keyed: {}", keyed.1);
    assert!(!denied.0 && denied.1.contains(reason), "denied, without {reason:?}: {}", denied.1);
    let log = world.stop();
    assert_eq!(log.denials(DENIED).len(), 1, "attempts at a denied host: {:?}", log.denials(DENIED));
    assert!(log.requests(KEYED).iter().any(|line| line["credential"] == "API_KEY"));
}

#[test]
fn pip() {
    let Some(python) = need("pip", "Python with packages", python()) else { return };
    let mut world = World::start();
    let wheel = "demo_package-1.0-py3-none-any.whl";
    prepare(&world, &python, &["-c", WHEEL, wheel]);
    world.upstream.put(
        &format!("/files/{wheel}"),
        "application/zip",
        fs::read(world.folder.path().join(wheel)).unwrap(),
    );
    let index = format!("<!DOCTYPE html><html><body><a href=\"/files/{wheel}\">{wheel}</a></body></html>");
    world.upstream.put("/simple/demo-package/", "text/html", index);
    let install = |index: &str, what: &str| pip_install(&world, &python, index, what);
    // The placeholder inside Basic authentication, as registries want it.
    let user = format!("https://user:{}@{KEYED}:{}/simple/", world.placeholder(), world.upstream.port);
    let index = world.url(ALLOWED, "/simple/");
    let denied = format!("demo-package @ {}", world.url(DENIED, &format!("/files/{wheel}")));
    let outputs = [install(&index, "demo-package"), install(&index, &denied), install(&user, "demo-package")];
    assert_eq!(fs::read_to_string(world.home().join("packages/demo_package.py")).unwrap(), "answer = 42\n");
    let basic = world.seen(KEYED).into_iter().filter_map(|seen| seen.authorization).next_back().unwrap();
    let decode = "import base64,sys; print(base64.b64decode(sys.argv[1].split()[1]).decode(), end='')";
    assert_eq!(prepare(&world, &python, &["-c", decode, &basic]), format!("user:{KEY}"));
    check(&mut world, outputs, "Blocked by the sandbox's network policy");
}

/// pip keeps to itself what an index answered; at least it does not ask again.
#[test]
fn pip_asks_a_denied_index_once() {
    let Some(python) = need("pip_asks…", "Python with packages", python()) else { return };
    let mut world = World::start();
    let output = pip_install(&world, &python, &world.url(DENIED, "/simple/"), "demo-package");
    assert!(!output.status.success() && shown(&output).contains("No matching distribution"));
    assert_eq!(world.stop().denials(DENIED).len(), 1);
}

fn pip_install(world: &World, python: &Path, index: &str, what: &str) -> Output {
    let mut command = world.client(python);
    command.args(["-m", "pip", "install", "--no-cache-dir", "--disable-pip-version-check"]);
    command.args(["--force-reinstall", "--target", "packages", "--index-url", index, what]);
    command.output().unwrap()
}

/// Makes the wheel in the current folder.
const WHEEL: &str = "
import sys, zipfile
with zipfile.ZipFile(sys.argv[1], 'w') as wheel:
    info = 'demo_package-1.0.dist-info/'
    wheel.writestr('demo_package.py', 'answer = 42\\n')
    wheel.writestr(info + 'METADATA', 'Metadata-Version: 2.1\\nName: demo-package\\nVersion: 1.0\\n')
    wheel.writestr(info + 'WHEEL', 'Wheel-Version: 1.0\\nGenerator: t\\nRoot-Is-Purelib: true\\nTag: py3-none-any\\n')
    wheel.writestr(info + 'RECORD', 'demo_package.py,,\\n%sMETADATA,,\\n%sWHEEL,,\\n%sRECORD,,\\n' % (info, info, info))
";

#[test]
fn npm() {
    let Some(npm) = need("npm", "npm", find("npm")) else { return };
    let mut world = World::start();
    let package = world.folder.path().join("package");
    fs::create_dir(&package).unwrap();
    let manifest = json!({ "name": "demo-package", "version": "1.0.0", "main": "index.js" });
    fs::write(package.join("package.json"), manifest.to_string()).unwrap();
    fs::write(package.join("index.js"), "module.exports = 42;\n").unwrap();
    prepare(&world, "tar".as_ref(), &["-czf", "demo.tgz", "package"]);
    world.upstream.put(
        "/files/demo.tgz",
        "application/gzip",
        fs::read(world.folder.path().join("demo.tgz")).unwrap(),
    );
    let document = |host: &str| {
        let version = json!({ "name": "demo-package", "version": "1.0.0",
                              "dist": { "tarball": world.url(host, "/files/demo.tgz") } });
        json!({ "name": "demo-package", "dist-tags": { "latest": "1.0.0" }, "versions": { "1.0.0": version } })
    };
    world.upstream.put("/demo-package", "application/json", document(ALLOWED).to_string());
    world.upstream.put("/keyed/demo-package", "application/json", document(KEYED).to_string());
    let placeholder = world.placeholder();
    let install = |folder: &str, registry: String| {
        let project = world.home().join(folder);
        fs::create_dir(&project).unwrap();
        let token = format!("//{KEYED}:{}/:_authToken={placeholder}\n", world.upstream.port);
        fs::write(project.join(".npmrc"), format!("registry={registry}\n{token}")).unwrap();
        fs::write(project.join("package.json"), "{}").unwrap();
        let mut command = world.client(&npm);
        command.args(["install", "--no-audit", "--no-fund", "--no-update-notifier", "demo-package"]);
        command.current_dir(project).output().unwrap()
    };
    let outputs = [
        install("one", world.url(ALLOWED, "/")),
        install("two", world.url(DENIED, "/")),
        install("three", world.url(KEYED, "/keyed/")),
    ];
    check(&mut world, outputs, "blocked_by_policy");
    for folder in ["one", "three"] {
        assert!(world.home().join(folder).join("node_modules/demo-package/index.js").is_file());
    }
    let bearer = format!("Bearer {KEY}");
    assert!(world.seen(KEYED).iter().all(|seen| seen.authorization.as_ref() == Some(&bearer)));
}

/// A sparse registry with one package, `demo`, on an open host and on one that wants a login.
pub fn cargo_registry(world: &World) {
    let package = world.folder.path().join("demo-1.0.0");
    fs::create_dir_all(package.join("src")).unwrap();
    let manifest = "[package]\nname = \"demo\"\nversion = \"1.0.0\"\nedition = \"2021\"\n";
    fs::write(package.join("Cargo.toml"), manifest).unwrap();
    fs::write(package.join("src/lib.rs"), "").unwrap();
    prepare(world, "tar".as_ref(), &["-czf", "demo.crate", "demo-1.0.0"]);
    let sum = prepare(world, "sha256sum".as_ref(), &["demo.crate"]);
    let sum = sum.split_whitespace().next().unwrap();
    world.upstream.put(
        "/files/demo.crate",
        "application/gzip",
        fs::read(world.folder.path().join("demo.crate")).unwrap(),
    );
    let entry =
        json!({ "name": "demo", "vers": "1.0.0", "deps": [], "cksum": sum, "features": {}, "yanked": false });
    for (index, host, locked) in [("/index", ALLOWED, false), ("/locked", KEYED, true)] {
        let config = json!({ "dl": world.url(host, "/files/{crate}.crate"), "auth-required": locked });
        world.upstream.put(&format!("{index}/config.json"), "application/json", config.to_string());
        world.upstream.put(&format!("{index}/de/mo/demo"), "text/plain", entry.to_string() + "\n");
    }
}

/// Fetches `demo` from the registry `ours` at `index`, for a project in `folder`. Where a login comes from is left open.
pub fn cargo_fetch(world: &World, folder: &str, index: &str) -> Command {
    let cargo = Path::new(env!("CARGO"));
    let project = world.home().join(folder);
    fs::create_dir_all(project.join("src")).unwrap();
    fs::write(project.join("src/lib.rs"), "").unwrap();
    let manifest = "[package]\nname = \"user\"\nversion = \"0.1.0\"\nedition = \"2021\"\n[dependencies]\n\
                    demo = { version = \"1\", registry = \"ours\" }\n[workspace]\n";
    fs::write(project.join("Cargo.toml"), manifest).unwrap();
    let others = std::env::var_os("PATH").unwrap();
    let path = cargo.parent().map(Path::to_owned).into_iter().chain(std::env::split_paths(&others));
    let mut command = world.client(cargo);
    command.env("PATH", std::env::join_paths(path).unwrap());
    command.env("CARGO_REGISTRIES_OURS_INDEX", format!("sparse+{index}"));
    command.arg("fetch").current_dir(project);
    command
}

#[test]
fn cargo() {
    let mut world = World::start();
    cargo_registry(&world);
    let placeholder = format!("Bearer {}", world.placeholder());
    let fetch = |folder: &str, index: String| {
        let mut command = cargo_fetch(&world, folder, &index);
        command.env("CARGO_HOME", world.home().join(format!("{folder}-cargo")));
        command.env("CARGO_REGISTRIES_OURS_CREDENTIAL_PROVIDER", "cargo:token");
        command.env("CARGO_REGISTRIES_OURS_TOKEN", &placeholder).output().unwrap()
    };
    let outputs = [
        fetch("one", world.url(ALLOWED, "/index/")),
        fetch("two", world.url(DENIED, "/index/")),
        fetch("three", world.url(KEYED, "/locked/")),
    ];
    check(&mut world, outputs, "no rule allows it");
    let bearer = format!("Bearer {KEY}");
    assert!(world.seen(KEYED).iter().any(|seen| seen.path.ends_with("demo.crate")));
    assert!(
        world.seen(KEYED).iter().filter_map(|seen| seen.authorization.as_ref()).all(|sent| *sent == bearer)
    );
}
