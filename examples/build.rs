//! Builds the static guest agent, so that `cargo run --example agent-sandbox` needs no extra step.
//!
//! The agent is PID 1 of the guest and must not depend on any library of the guest's root file system:
//! it is linked statically against the C library of the `gnu` target, which every Linux host with a
//! C compiler has. It is built into this package's own output folder, with its own target folder, so that
//! the outer cargo's locks are not waited for. `AGENT_SANDBOX_GUEST_AGENT=FILE` uses a ready one instead.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::{env, fs};

const TARGET: &str = "x86_64-unknown-linux-gnu";

fn main() {
    println!("cargo::rerun-if-env-changed=AGENT_SANDBOX_GUEST_AGENT");
    let out = PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets OUT_DIR"));
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("examples/ is in the workspace");
    for watched in ["guest-agent/src", "guest-agent/Cargo.toml", "Cargo.lock"] {
        println!("cargo::rerun-if-changed={}", root.join(watched).display());
    }
    let agent = match env::var_os("AGENT_SANDBOX_GUEST_AGENT") {
        Some(ready) => PathBuf::from(ready),
        None => build(root, &out.join("agent")),
    };
    fs::copy(&agent, out.join("guest-agent"))
        .unwrap_or_else(|error| panic!("cannot copy {}: {error}", agent.display()));
}

fn build(root: &Path, target_dir: &Path) -> PathBuf {
    let status = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
        .args(["build", "--release", "--package", "guest-agent", "--bin", "guest-agent"])
        .args(["--no-default-features", "--features", "server", "--target", TARGET])
        .arg("--manifest-path")
        .arg(root.join("Cargo.toml"))
        .arg("--target-dir")
        .arg(target_dir)
        // What the outer cargo was told about flags and wrappers is meant for the host programs.
        .env_remove("CARGO_ENCODED_RUSTFLAGS")
        .env_remove("RUSTC_WORKSPACE_WRAPPER")
        .env_remove("RUSTC_WRAPPER")
        .env_remove("CARGO_BUILD_TARGET")
        .env("RUSTFLAGS", "-C target-feature=+crt-static -C relocation-model=static")
        .env("CARGO_PROFILE_RELEASE_PANIC", "abort")
        .env("CARGO_PROFILE_RELEASE_OPT_LEVEL", "s")
        .env("CARGO_PROFILE_RELEASE_DEBUG", "false")
        .env("CARGO_PROFILE_RELEASE_STRIP", "true")
        .env("CARGO_PROFILE_RELEASE_CODEGEN_UNITS", "1")
        .env("CARGO_PROFILE_RELEASE_LTO", "true")
        .status()
        .unwrap_or_else(|error| panic!("cannot start cargo to build the guest agent: {error}"));
    assert!(
        status.success(),
        "the static guest agent did not build ({status}); it needs the static C library of the \
         {TARGET} target (part of the C compiler's development package: libc6-dev, glibc-static)"
    );
    target_dir.join(TARGET).join("release/guest-agent")
}
