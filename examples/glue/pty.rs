//! A terminal for tests, and the side where the person sits. Shared with the tests of the programs.

use std::fs::{File, OpenOptions};
use std::io::{Read, Write};
use std::os::unix::fs::OpenOptionsExt;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::OFlags;
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{LocalModes, tcgetattr};

/// Far beyond what any test takes: past it, something hangs, and the test says what was seen.
const HANG: Timespec = Timespec { tv_sec: 240, tv_nsec: 0 };

/// Who sees what is shown, and types.
pub struct Person(File);

/// A terminal of its own, which is nobody's controlling terminal yet, and its person.
pub fn pty() -> (File, Person) {
    let person = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC).unwrap();
    grantpt(&person).unwrap();
    unlockpt(&person).unwrap();
    let name = ptsname(&person, Vec::new()).unwrap();
    let flags = OFlags::NOCTTY.bits().cast_signed();
    let terminal =
        OpenOptions::new().read(true).write(true).custom_flags(flags).open(name.to_str().unwrap()).unwrap();
    (terminal, Person(File::from(person)))
}

impl Person {
    /// Reads what is shown up to `end`, without returns: whether a line feed comes with one is the terminal's to know.
    pub fn read_until(&mut self, end: &str) -> String {
        let mut seen = Vec::new();
        while !seen.ends_with(end.as_bytes()) {
            let ready = poll(&mut [PollFd::new(&self.0, PollFlags::IN)], Some(&HANG)).unwrap();
            assert_ne!(ready, 0, "no {end:?} after {:?}", String::from_utf8_lossy(&seen));
            let mut byte = [0];
            self.0.read_exact(&mut byte).unwrap();
            seen.extend(byte);
        }
        String::from_utf8(seen).unwrap().replace('\r', "")
    }

    pub fn types(&mut self, text: &str) {
        self.0.write_all(text.as_bytes()).unwrap();
    }
}

/// Whether `terminal` shows what is typed, takes it by the line, and makes signals of Ctrl-C and its like.
pub fn is_usual(terminal: &File) -> bool {
    let modes = tcgetattr(terminal).unwrap().local_modes;
    modes.contains(LocalModes::ECHO | LocalModes::ICANON | LocalModes::ISIG)
}
