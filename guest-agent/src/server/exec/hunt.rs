//! Ends what a program has started: its process group, and its session.
//!
//! An interactive shell gives every job a group of its own, so the group alone misses them. What made a session of
//! its own, as a daemon does, is left alone: it meant to outlive the program.

use std::fs;

use rustix::process::{Pid, Signal};

use crate::server::sys;

const KILL: u8 = 9;

/// Kills the group and the session of `leader`, which the caller has not reaped: so neither number is another's.
pub(super) fn kill_session(leader: Pid) {
    let _ = sys::kill_group(leader, KILL);
    let Ok(entries) = fs::read_dir("/proc") else { return };
    for entry in entries.flatten() {
        let name = entry.file_name();
        let Some(pid) = name.to_str().and_then(|n| n.parse().ok()).and_then(Pid::from_raw) else { continue };
        // A name need not be UTF-8.
        let member = fs::read(entry.path().join("stat")).is_ok_and(|stat| {
            session(&String::from_utf8_lossy(&stat)) == Some(leader.as_raw_nonzero().get())
        });
        if member {
            // Between reading and killing it may end, and in theory its number be given anew. Numbers go round, so
            // that takes a whole turn of them within these microseconds.
            let _ = rustix::process::kill_process(pid, Signal::KILL);
        }
    }
}

/// The session in a line of `/proc/PID/stat`: fourth after the name, which may itself hold anything.
fn session(stat: &str) -> Option<i32> {
    let (_, after_name) = stat.rsplit_once(')')?;
    after_name.split_ascii_whitespace().nth(3)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_session_is_found_behind_any_name() {
        assert_eq!(session("7 (sh) S 1 2 3 4 5"), Some(3));
        assert_eq!(session("7 (a) 9 (b) S 1 2 33 4"), Some(33));
        assert_eq!(session("7 (sh"), None);
        assert_eq!(session("7 (sh) S 1"), None);
    }
}
