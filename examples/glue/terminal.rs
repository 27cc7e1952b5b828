//! One hidden line from the user's terminal, whatever standard input is. Must never show what is typed, or leave a
//! copy of it.

use std::fs::{File, OpenOptions};
use std::io::{Read, Write};

use credvault::Secret;
use rustix::termios::{LocalModes, OptionalActions, Termios, tcgetattr, tcsetattr};

/// Longest passphrase, in bytes.
const LINE_BYTES_MAX: usize = 1024;

/// Asks on the controlling terminal; `None` without one, or if nothing was typed.
#[must_use]
pub fn ask_hidden(question: &str) -> Option<Secret> {
    let terminal = OpenOptions::new().read(true).write(true).open("/dev/tty").ok()?;
    let hidden = Hidden::begin(&terminal)?;
    (&terminal).write_all(question.as_bytes()).ok()?;
    let line = read_line(&mut &terminal);
    drop(hidden);
    let _ = (&terminal).write_all(b"\n");
    line.filter(|line| !line.is_empty())
}

/// Byte by byte, so that no buffer of ours keeps what came after.
fn read_line(from: &mut impl Read) -> Option<Secret> {
    let mut line = Vec::with_capacity(LINE_BYTES_MAX);
    let mut byte = [0];
    while from.read(&mut byte).ok()? == 1 && byte != *b"\n" {
        if line.len() == LINE_BYTES_MAX {
            drop(Secret::new(line));
            return None;
        }
        line.extend_from_slice(&byte);
    }
    Some(Secret::new(line))
}

/// Echo is off until dropped.
struct Hidden<'t> {
    terminal: &'t File,
    before: Termios,
}

impl<'t> Hidden<'t> {
    fn begin(terminal: &'t File) -> Option<Self> {
        let before = tcgetattr(terminal).ok()?;
        let mut hidden = before.clone();
        hidden.local_modes.remove(LocalModes::ECHO);
        tcsetattr(terminal, OptionalActions::Flush, &hidden).ok()?;
        Some(Self { terminal, before })
    }
}

impl Drop for Hidden<'_> {
    fn drop(&mut self) {
        // The terminal may be gone; then there is nothing to restore.
        let _ = tcsetattr(self.terminal, OptionalActions::Now, &self.before);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_ends_at_its_end_and_has_a_limit() {
        assert_eq!(read_line(&mut &b"correct horse\nnext"[..]).unwrap().expose(), b"correct horse");
        assert_eq!(read_line(&mut &b"no end"[..]).unwrap().expose(), b"no end");
        assert!(read_line(&mut std::io::repeat(b'x')).is_none());
    }
}
