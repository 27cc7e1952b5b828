//! Installs what is missing, by package name, after asking.

use std::io::{BufRead, IsTerminal, Write};
use std::process::{Command, Stdio};

use crate::engine::qemu;
use crate::error::{Error, Result};
use crate::report::Style;

const PACKAGE: &str = "qemu-system-x86";

/// Makes sure that QEMU is there. Asks first, unless `yes` was given or this is CI.
pub fn ensure_qemu(yes: bool, style: Style) -> Result<()> {
    if qemu::find().is_some() {
        return Ok(());
    }
    let missing =
        |problem: &str, remedy: String| Error::Engine { engine: "qemu", problem: problem.to_owned(), remedy };
    let Some(apt) = qemu::find_program("apt-get") else {
        let remedy = format!("install your distribution's package that has {}", qemu::PROGRAM);
        return Err(missing("QEMU is not installed", remedy));
    };
    if !rustix::process::geteuid().is_root() {
        let remedy = format!("run: sudo apt-get install --no-install-recommends {PACKAGE}");
        return Err(missing("QEMU is not installed, and installing it needs root", remedy));
    }
    if !yes && std::env::var_os("CI").is_none() && !ask()? {
        let remedy = format!("run: apt-get install --no-install-recommends {PACKAGE} (or give --yes)");
        return Err(missing("QEMU is not installed", remedy));
    }
    style.say(
        "install",
        &format!("installing {PACKAGE} (about 60 MB) …"),
        serde_json::json!({ "package": PACKAGE }),
    );
    let run = |arguments: &[&str]| {
        Command::new(&apt)
            .args(arguments)
            .env("DEBIAN_FRONTEND", "noninteractive")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .status()
            .is_ok_and(|status| status.success())
    };
    let install = ["install", "-qq", "-y", "--no-install-recommends", PACKAGE];
    // A machine without package lists refuses at once; only then are they fetched.
    if !(run(&install) || (run(&["update", "-qq"]) && run(&install))) || qemu::find().is_none() {
        return Err(missing(
            "QEMU could not be installed",
            format!("run: apt-get update && apt-get install {PACKAGE}"),
        ));
    }
    Ok(())
}

fn ask() -> Result<bool> {
    if !std::io::stdin().is_terminal() {
        return Ok(false);
    }
    eprint!(
        "agent-sandbox: QEMU is needed, as this machine has no usable KVM. Install {PACKAGE} now? [Y/n] "
    );
    let _ = std::io::stderr().flush();
    let mut answer = String::new();
    std::io::stdin().lock().read_line(&mut answer).map_err(Error::io("cannot read the answer"))?;
    Ok(matches!(answer.trim(), "" | "y" | "Y" | "yes"))
}
