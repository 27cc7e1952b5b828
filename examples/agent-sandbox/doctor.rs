//! `doctor`: what this machine offers, each with what to do if it is missing. Changes nothing.

use glue::stores::StoreArgs;
use serde::Serialize;
use serde_json::json;

use crate::cli::DoctorArgs;
use crate::engine::{choose, qemu};
use crate::error::Result;
use crate::guest::kernel;
use crate::report;

#[derive(Serialize)]
struct Finding {
    name: &'static str,
    ok: bool,
    detail: String,
}

/// Exit code 0 if a sandbox can run here, 1 if not.
pub fn doctor(args: &DoctorArgs) -> Result<u8> {
    let findings = [kvm(), emulator(), guest_kernel(), keyring()];
    let usable = (findings[0].ok || findings[1].ok) && findings[2].ok;
    if args.json {
        report::print(&json!({ "ok": usable, "checks": findings }).to_string())?;
    } else {
        for finding in &findings {
            let mark = if finding.ok { "✓" } else { "✗" };
            let lines: Vec<String> = finding.detail.lines().map(report::printable).collect();
            report::print(&format!("{mark} {:<8} {}", finding.name, lines.join("\n           ")))?;
        }
    }
    Ok(u8::from(!usable))
}

fn kvm() -> Finding {
    let (ok, detail) = match choose::probe_kvm(vmm_core::probe::TIME_LIMIT) {
        Ok(()) => (true, "runs Linux".to_owned()),
        Err(problem) => (false, problem),
    };
    Finding { name: "kvm", ok, detail }
}

fn emulator() -> Finding {
    let (ok, detail) = match qemu::find() {
        Some(path) => (true, path.display().to_string()),
        None => {
            (false, "not installed; the package is qemu-system-x86 (`run` offers to install it)".to_owned())
        }
    };
    Finding { name: "qemu", ok, detail }
}

fn guest_kernel() -> Finding {
    match kernel::cached() {
        Some(release) => Finding { name: "kernel", ok: true, detail: release },
        None if qemu::find_program("apt-get").is_some() => Finding {
            name: "kernel",
            ok: true,
            detail: "none cached; the first run fetches Debian's by package name".to_owned(),
        },
        None => Finding {
            name: "kernel",
            ok: true,
            detail: "none cached; the host's own is used, or give one with --kernel".to_owned(),
        },
    }
}

fn keyring() -> Finding {
    match StoreArgs::default().open() {
        Ok(opened) => Finding { name: "keyring", ok: true, detail: opened.describe() },
        Err(problem) => Finding { name: "keyring", ok: false, detail: problem.to_string() },
    }
}
