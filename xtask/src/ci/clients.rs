//! Real clients for the tests of the proxy: system packages, and a folder in the cache with the Python and Node
//! packages at fixed versions. Never writes into the checkout or the system's Python.

use std::path::PathBuf;
use std::process::Command;

use super::packages;
use crate::context::{Context, Outcome, at, find_program};

/// Programs, and the Debian packages that have them.
const PROGRAMS: [(&str, &str); 6] = [
    ("curl", "curl"),
    ("go", "golang-go"),
    ("skopeo", "skopeo"),
    ("javac", "default-jdk-headless"),
    ("node", "nodejs"),
    ("npm", "npm"),
];

/// The one package of Node's, of the last line that runs on the oldest Node of a Debian that we name (18).
const UNDICI: &str = "undici@6.29.1";

/// Where the packages are.
pub fn folder(context: &Context) -> PathBuf {
    context.cache.join("clients")
}

/// System packages that are missing; Python's `venv` is a package without a program.
pub fn programs() -> Outcome<Option<Command>> {
    let probe = Command::new("python3").args(["-c", "import ensurepip"]).output();
    let has_venv = probe.is_ok_and(|output| output.status.success());
    let venv = if has_venv { None } else { Some("python3-venv") };
    let missing = PROGRAMS.into_iter().filter(|(program, _)| find_program(program).is_none()).map(|(_, p)| p);
    packages::install_these(&missing.chain(venv).collect::<Vec<_>>())
}

/// The commands that fill [`folder`]; none if it holds what this checkout wants.
pub fn libraries(context: &Context) -> Outcome<Vec<Command>> {
    let folder = folder(context);
    let wanted = context.root.join("tests/clients/requirements.txt");
    let (done, text) = (folder.join("done"), at(&wanted, std::fs::read_to_string(&wanted))? + UNDICI);
    if std::fs::read_to_string(&done).is_ok_and(|had| had == text) {
        return Ok(Vec::new());
    }
    at(&folder, std::fs::create_dir_all(&folder))?;
    let (venv, next) = (folder.join("venv"), folder.join("next"));
    at(&next, std::fs::write(&next, text))?;
    let mut environment = Command::new("python3");
    environment.args(["-m", "venv", "--clear"]).arg(&venv);
    let mut pip = Command::new(venv.join("bin/pip"));
    pip.args(["install", "--disable-pip-version-check", "--requirement"]).arg(&wanted);
    let mut npm = Command::new("npm");
    npm.args(["install", "--no-audit", "--no-fund", "--prefix"]).arg(folder.join("node")).arg(UNDICI);
    let mut mark = Command::new("mv");
    mark.arg(&next).arg(&done);
    Ok(vec![environment, pip, npm, mark])
}
