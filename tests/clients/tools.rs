//! Finds clients on this machine, or says loudly that one is missing.

use std::io::Write as _;
use std::path::{Path, PathBuf};

/// A program of this name on `PATH`.
pub fn find(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|folder| folder.join(name)).find(|file| file.is_file())
}

/// What `cargo xtask ci` prepared: `venv/` and `node/`.
pub fn prepared() -> PathBuf {
    if let Some(folder) = std::env::var_os("AGENT_SANDBOX_CLIENTS") {
        return folder.into();
    }
    let cache = std::env::var_os("XDG_CACHE_HOME").filter(|value| !value.is_empty()).map(PathBuf::from);
    let home = || PathBuf::from(std::env::var_os("HOME").unwrap_or_default()).join(".cache");
    cache.unwrap_or_else(home).join("agent-sandbox/clients")
}

/// Python with the packages.
pub fn python() -> Option<PathBuf> {
    Some(prepared().join("venv/bin/python")).filter(|file| file.is_file())
}

/// The tool, or `None` after saying that the test does not run. In CI a missing tool is a failure.
pub fn need(test: &str, name: &str, found: Option<PathBuf>) -> Option<PathBuf> {
    if found.is_none() {
        skip(test, &format!("{name} is not on this machine; `cargo xtask ci` brings it"));
    }
    found
}

/// Says that a test does not run. In CI that is a failure.
pub fn skip(test: &str, why: &str) {
    assert!(std::env::var_os("AGENT_SANDBOX_REQUIRE_CLIENTS").is_none(), "{test}: {why}");
    let _ = writeln!(std::io::stdout(), "\nSKIPPED: {test}: {why}");
}

/// One of our scripts.
pub fn scenario(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("clients/scenarios").join(name)
}
