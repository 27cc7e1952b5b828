//! System programs that the tests need, by package name.

use std::process::Command;

use crate::context::{Failure, Outcome, find_program, is_root};

/// A program and the Debian package that has it.
const PROGRAMS: [(&str, &str); 8] = [
    ("cc", "gcc"),
    ("git", "git"),
    ("curl", "curl"),
    ("python3", "python3"),
    ("qemu-system-x86_64", "qemu-system-x86"),
    ("busybox", "busybox-static"),
    ("dbus-run-session", "dbus"),
    ("gnome-keyring-daemon", "gnome-keyring"),
];

/// The command that installs what is missing, if anything is.
pub fn install() -> Outcome<Option<Command>> {
    let missing: Vec<&str> =
        PROGRAMS.into_iter().filter(|(program, _)| find_program(program).is_none()).map(|(_, p)| p).collect();
    install_these(&missing)
}

/// The command that installs these packages, if they are any.
pub fn install_these(missing: &[&str]) -> Outcome<Option<Command>> {
    if missing.is_empty() {
        return Ok(None);
    }
    let packages = missing.join(" ");
    if find_program("apt-get").is_none() {
        return Err(Failure::usage(format!(
            "missing programs; in Debian's words: {packages}. Install them."
        )));
    }
    if !is_root() {
        return Err(Failure::usage(format!("missing packages: sudo apt-get install -y {packages}")));
    }
    let mut command = Command::new("sh");
    command.env("DEBIAN_FRONTEND", "noninteractive");
    command.args([
        "-c",
        &format!("apt-get update -qq; apt-get install -y -qq --no-install-recommends {packages}"),
    ]);
    Ok(Some(command))
}
