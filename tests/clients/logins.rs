//! Tools that find their logins in the files of `--guest-files`: they send placeholders, the upstream sees the key.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use serde_json::json;

use crate::packages::{cargo_fetch, cargo_registry};
use crate::proxy::KEY;
use crate::tools::{find, need, python};
use crate::world::{KEYED, World, shown};

/// `x-access-token` and the key, as Basic has them.
const BASIC: &str = "Basic eC1hY2Nlc3MtdG9rZW46dGVzdC1rZXktMDEyMzQ1Njc4OWFiY2RlZg==";

fn world() -> World {
    World::with(&["--tools", "API_KEY=git,netrc,npm,docker,cargo:ours", "--guest-files", "{home}"])
}

/// Every request under this path that had a login, had the key.
fn logged_in(world: &World, path: &str, value: &str) {
    let seen = world.seen(KEYED);
    let sent: Vec<_> = seen
        .iter()
        .filter(|seen| seen.path.starts_with(path))
        .filter_map(|seen| seen.authorization.clone())
        .collect();
    assert!(!sent.is_empty() && sent.iter().all(|sent| sent == value), "{seen:?}");
}

#[test]
fn the_files_hold_placeholders_and_are_private() {
    let world = world();
    for name in [".gitconfig", ".netrc", ".npmrc", ".docker/config.json", ".cargo/credentials.toml"] {
        let path = world.home().join(name);
        let text = fs::read_to_string(&path).unwrap();
        assert!(!text.contains(KEY) && !text.is_empty(), "{name}: {text}");
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600, "{name}");
    }
    assert!(fs::read_to_string(world.home().join(".netrc")).unwrap().contains(&world.placeholder()));
}

#[test]
fn git_asks_its_helper() {
    let Some(git) = need("git_asks_its_helper", "git", find("git")) else { return };
    let world = world();
    let bare = world.folder.path().join("git/demo.git");
    let made = world.client(&git).args(["init", "-q", "--bare"]).arg(bare).output().unwrap();
    assert!(made.status.success(), "{}", shown(&made));
    let url = world.url(KEYED, "/private/git/demo.git");
    let output = world.client(&git).args(["clone", "-q", &url, "one"]).output().unwrap();
    assert!(output.status.success(), "{}", shown(&output));
    logged_in(&world, "/private/git/", BASIC);
}

#[test]
fn curl_reads_netrc() {
    let Some(curl) = need("curl_reads_netrc", "curl", find("curl")) else { return };
    let world = world();
    let url = world.url(KEYED, "/private/hello");
    let output = world.client(&curl).args(["-sS", "--fail", "--netrc", &url]).output().unwrap();
    assert!(output.status.success(), "{}", shown(&output));
    logged_in(&world, "/private/hello", BASIC);
}

#[test]
fn pip_reads_netrc() {
    let Some(python) = need("pip_reads_netrc", "Python with packages", python()) else { return };
    let world = world();
    world.upstream.put("/private/simple/demo-package/", "text/html", "<!DOCTYPE html><html></html>");
    let mut command = world.client(&python);
    command.args(["-m", "pip", "download", "--no-cache-dir", "--disable-pip-version-check", "--no-deps"]);
    let url = world.url(KEYED, "/private/simple/");
    let output = command.args(["--index-url", &url, "demo-package"]).output().unwrap();
    // The index is empty; what counts is that it was shown.
    assert!(shown(&output).contains("No matching distribution"), "{}", shown(&output));
    logged_in(&world, "/private/simple/", BASIC);
}

#[test]
fn npm_reads_npmrc() {
    let Some(npm) = need("npm_reads_npmrc", "npm", find("npm")) else { return };
    let world = world();
    let version =
        json!({ "name": "demo-package", "version": "1.0.0", "dist": { "tarball": "https://x.invalid/x" } });
    let document = json!({ "name": "demo-package", "dist-tags": { "latest": "1.0.0" },
                           "versions": { "1.0.0": version } });
    world.upstream.put("/demo-package", "application/json", document.to_string());
    let registry = format!("--registry={}", world.url(KEYED, "/"));
    let output = world.client(&npm).args(["view", "demo-package", "version", &registry]).output().unwrap();
    assert!(output.status.success() && shown(&output).contains("1.0.0"), "{}", shown(&output));
    logged_in(&world, "/demo-package", &format!("Bearer {KEY}"));
}

#[test]
fn cargo_reads_its_credentials() {
    let world = world();
    cargo_registry(&world);
    let output = cargo_fetch(&world, "one", &world.url(KEYED, "/locked/")).output().unwrap();
    assert!(output.status.success() && !shown(&output).contains(KEY), "{}", shown(&output));
    logged_in(&world, "/locked/", &format!("Bearer {KEY}"));
    logged_in(&world, "/files/demo.crate", &format!("Bearer {KEY}"));
}

/// Skopeo reads the file of docker's client and logs in as that does.
#[test]
fn skopeo_reads_dockers_config() {
    let Some(skopeo) = need("skopeo_reads_dockers_config", "skopeo", find("skopeo")) else { return };
    let world = world();
    let image = world.url(KEYED, "/demo").replacen("https:", "docker:", 1);
    let mut command = world.client(&skopeo);
    command.args(["list-tags", "--authfile"]).arg(world.home().join(".docker/config.json")).arg(image);
    let output = command.output().unwrap();
    assert!(output.status.success() && shown(&output).contains("one-tag"), "{}", shown(&output));
    logged_in(&world, "/v2/", BASIC);
}
