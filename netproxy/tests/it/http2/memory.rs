//! Runs a scene in a process of its own and says how much its memory grew at most.

use std::process::Command;

const SCENE: &str = "NETPROXY_TEST_SCENE";

/// Mebibytes that the process may grow by. What the test's own side holds is in it too.
const GROWTH_MIB_MAX: u64 = 24;

/// Runs the named test of this binary again, alone, with `scene` to read; it prints its growth.
pub fn alone(test: &str, scene: &str) {
    let grown = growth_kib(test, scene);
    assert!(grown < GROWTH_MIB_MAX * 1024, "{scene} grew by {grown} KiB");
}

/// The same, and how much it grew.
pub fn growth_kib(test: &str, scene: &str) -> u64 {
    let binary = std::env::current_exe().unwrap();
    let output = Command::new(binary)
        .args(["--exact", test, "--nocapture", "--test-threads=1"])
        .env(SCENE, scene)
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{scene}: {text}{}", String::from_utf8_lossy(&output.stderr));
    let grown: u64 = text
        .lines()
        .find_map(|line| line.split_once("grown by KiB: ")?.1.trim().parse().ok())
        .unwrap_or_else(|| panic!("{scene} did not run: {text}"));
    println!("{scene}: {grown} KiB");
    grown
}

/// The scene to play, in the process that was started for it.
pub fn scene() -> Option<String> {
    std::env::var(SCENE).ok()
}

fn status(key: &str) -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with(key)).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

/// Measures from here on.
pub struct Growth(u64);

impl Growth {
    pub fn start() -> Self {
        // Forgets the peak so far (proc(5)).
        std::fs::write("/proc/self/clear_refs", "5").unwrap();
        Self(status("VmRSS:"))
    }

    pub fn print(&self) {
        println!("grown by KiB: {}", status("VmHWM:").saturating_sub(self.0));
    }
}
