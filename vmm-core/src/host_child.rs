//! A helper process on the host, such as QEMU, that does not outlive the program that started it.
//!
//! Must never allocate, lock or panic between fork and exec, where another thread may have held a lock.

use std::io;
use std::os::unix::process::CommandExt;
use std::process::Command;

/// Makes the child get SIGKILL when the **thread** that starts it ends (`PR_SET_PDEATHSIG`), however that
/// comes about: a return, a panic, SIGKILL to the whole process.
///
/// It is the thread and not the process: call [`Command::spawn`] on a thread that lives as long as the child
/// shall, such as the main thread, and not on one from a pool. Call this on a `Command` of the process that
/// spawns it, before `spawn`. The kernel forgets the signal when the child executes a set-user-ID program or one
/// with file capabilities; children of the child do not inherit it.
///
/// `spawn` fails with `ESRCH` where the parent has died before the signal was set.
pub fn dies_with_parent(command: &mut Command) {
    let parent = std::process::id();
    let set = move || {
        // SAFETY: system calls with integers only; they touch no memory of this process.
        let (set, now) = unsafe { (libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL), libc::getppid()) };
        if set != 0 {
            return Err(io::Error::last_os_error());
        }
        // The parent may have died before the signal was set: then nobody would ever send it.
        if u32::try_from(now) == Ok(parent) { Ok(()) } else { Err(io::Error::from_raw_os_error(libc::ESRCH)) }
    };
    // SAFETY: the closure runs in the child between fork and exec and keeps to what is allowed there: it makes
    // two async-signal-safe system calls, reads `errno` and compares integers; neither its values nor its errors
    // allocate, and nothing in it can panic.
    unsafe { command.pre_exec(set) };
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::os::unix::process::ExitStatusExt;
    use std::process::Stdio;
    use std::thread;

    use super::*;

    /// Set in the process that stands between the test and the grandchild.
    const MIDDLE: &str = "VMM_CORE_TEST_MIDDLE";
    const STARTED: &str = "the grandchild has started";

    #[test]
    fn the_child_is_killed_when_the_thread_that_started_it_ends() {
        let start = || {
            let mut command = Command::new("sleep");
            dies_with_parent(command.arg("60"));
            command.spawn().unwrap()
        };
        let mut child = thread::spawn(start).join().unwrap();
        assert_eq!(child.wait().unwrap().signal(), Some(libc::SIGKILL));
    }

    /// This test, started anew, is the process between; it and the grandchild share a pipe in and a pipe out.
    #[test]
    fn a_grandchild_dies_when_the_process_between_is_killed() {
        if std::env::var_os(MIDDLE).is_some() {
            let mut echo = Command::new("cat");
            dies_with_parent(&mut echo);
            let mut child = echo.spawn().unwrap();
            println!("{STARTED}");
            child.wait().unwrap();
            return;
        }
        let mut middle = Command::new(std::env::current_exe().unwrap())
            .args(["a_grandchild_dies_when_the_process_between_is_killed", "--nocapture"])
            .env(MIDDLE, "1")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let (mut input, mut output) = (middle.stdin.take().unwrap(), middle.stdout.take().unwrap());
        let (mut said, mut byte) = (Vec::new(), [0]);
        while !said.ends_with(STARTED.as_bytes()) {
            output.read_exact(&mut byte).unwrap();
            said.extend(byte);
        }
        middle.kill().unwrap();
        middle.wait().unwrap();
        // The signal came before the end of the process between could be waited for. One that still lives echoes.
        let _ = input.write_all(b"alive");
        drop(input);
        let mut rest = String::new();
        output.read_to_string(&mut rest).unwrap();
        assert_eq!(rest.trim(), "");
    }
}
