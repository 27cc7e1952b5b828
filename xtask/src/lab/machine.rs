//! One boot of the outer machine: QEMU with emulated AMD SVM, output on our stdout, exit code by a port.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::context::{Failure, Outcome, at, find_program};

/// What is booted, and for how long.
#[derive(Debug)]
pub struct Machine {
    pub qemu: PathBuf,
    pub kernel: PathBuf,
    pub initrd: PathBuf,
    pub scratch: PathBuf,
    pub cpus: u32,
    pub memory_mib: u32,
    pub timeout: Duration,
    pub console: bool,
}

/// How a boot ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// The program ran; this is its exit code.
    Exited(u8),
    /// The machine ended or stood still without an exit code.
    Died {
        /// Whether the program had been started.
        started: bool,
    },
    /// The machine was stopped.
    TimedOut,
}

/// The outer machine reports every few seconds, whatever runs in it. After this silence it stands still: its
/// emulated processor was seen to sleep for good, without one more timer tick. It boots within this time, too.
const STANDSTILL: Duration = Duration::from_secs(90);

/// When the machine last said anything.
struct Heard {
    bytes: u64,
    at: Instant,
}

impl Heard {
    fn silent_for(&mut self, bytes: u64) -> Duration {
        if bytes != self.bytes {
            *self = Self { bytes, at: Instant::now() };
        }
        self.at.elapsed()
    }
}

/// How much of the console is shown when the machine died, in bytes.
const CONSOLE_TAIL_BYTES: usize = 4000;

/// QEMU, or how to get it.
pub fn find_qemu() -> Outcome<PathBuf> {
    find_program("qemu-system-x86_64").ok_or_else(|| {
        Failure::usage("qemu-system-x86_64 is not on this machine: sudo apt-get install -y qemu-system-x86")
    })
}

/// Kills QEMU when we leave early.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Machine {
    /// Boots once.
    pub fn run(&self) -> Outcome<End> {
        let file = |name: &str| self.scratch.join(name);
        for name in ["rc", "console"] {
            at(&file(name), fs::write(file(name), ""))?;
        }
        let child = self.command().spawn();
        let mut child = Running(child.map_err(|e| Failure::usage(format!("cannot run QEMU: {e}")))?);
        let start = Instant::now();
        let mut heard = Heard { bytes: 0, at: start };
        let mut timed_out = false;
        while at(&self.qemu, child.0.try_wait())?.is_none() {
            timed_out = start.elapsed() > self.timeout;
            let silent = heard.silent_for(at(&file("rc"), fs::metadata(file("rc")))?.len());
            if timed_out || silent > STANDSTILL {
                break;
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        drop(child);
        let end = match end(&String::from_utf8_lossy(&at(&file("rc"), fs::read(file("rc")))?)) {
            End::Died { .. } if timed_out => End::TimedOut,
            end => end,
        };
        if self.console || !matches!(end, End::Exited(_)) {
            let console = at(&file("console"), fs::read(file("console")))?;
            let skip = if self.console { 0 } else { console.len().saturating_sub(CONSOLE_TAIL_BYTES) };
            eprintln!("{}", String::from_utf8_lossy(console.get(skip..).unwrap_or_default()));
        }
        Ok(end)
    }

    fn command(&self) -> Command {
        // A comma would start a new option.
        let path = |path: &Path| path.display().to_string().replace(',', ",,");
        let chardev = |id: &str, name: &str| format!("file,id={id},path={}", path(&self.scratch.join(name)));
        let mut command = Command::new(&self.qemu);
        command.args(["-nodefaults", "-no-user-config", "-display", "none", "-no-reboot", "-M", "q35"]);
        command.args(["-accel", "tcg,thread=multi", "-cpu", "max,+svm"]);
        command.args(["-smp", &self.cpus.to_string(), "-m", &self.memory_mib.to_string()]);
        command.arg("-kernel").arg(&self.kernel).arg("-initrd").arg(&self.initrd);
        command.args(["-append", "console=ttyS0 panic=-1 reboot=t quiet mitigations=off tsc=reliable"]);
        command.args(["-chardev", &chardev("console", "console"), "-serial", "chardev:console"]);
        command.args(["-device", "virtio-serial-pci", "-chardev", "stdio,id=out,signal=off"]);
        command.args(["-device", "virtserialport,chardev=out,name=lab.out"]);
        command.args(["-chardev", &chardev("rc", "rc"), "-device", "virtserialport,chardev=rc,name=lab.rc"]);
        // QEMU takes the end of its input for a hang-up of the port; a pipe that stays open has none.
        command.stdin(Stdio::piped());
        command
    }
}

/// Reads what lab-init wrote to its port.
fn end(report: &str) -> End {
    let code = report.lines().find_map(|line| line.strip_prefix("rc ")?.parse::<u8>().ok());
    code.map_or(End::Died { started: report.contains("start") }, End::Exited)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dead_lab_is_not_a_failed_test() {
        assert_eq!(end(""), End::Died { started: false });
        assert_eq!(end("start\n"), End::Died { started: true });
        assert_eq!(end("start\nalive\nalive\n"), End::Died { started: true });
        assert_eq!(end("start\nalive\nrc 101\n"), End::Exited(101));
        assert_eq!(end("start\nrc 0\n"), End::Exited(0));
    }
}
