//! A value typed at the user's terminal without being shown. Must never leave the terminal hidden, or a copy of what
//! was typed.
//!
//! The keys that end or edit a line are read here and not by the terminal: a signal of its would end the process with
//! echo off, and its line input cuts a long key at 4,095 bytes. What they are is the terminal's own setting.

use std::fs::OpenOptions;
use std::io::{self, Read};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};

use credvault::Secret;
use credvault::limits::SECRET_BYTES_MAX;
use rustix::io::Errno;
use rustix::process::{Signal, kill_current_process_group};
use rustix::termios::{
    InputModes, LocalModes, OptionalActions, SpecialCodeIndex, Termios, tcgetattr, tcsetattr,
};
use zeroize::Zeroizing;

/// One line end more than the longest value, so that whoever checks the length sees that there was too much.
const TYPED_BYTES_MAX: usize = SECRET_BYTES_MAX + 3;

/// What ends the value.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Until {
    /// The first line end.
    Enter,
    /// Ctrl-D: a value may have several lines.
    EndOfInput,
}

/// Asks on the controlling terminal, whatever standard input is; `None` without one, or if nothing was typed.
#[must_use]
pub fn ask_hidden(question: &str) -> Option<Secret> {
    let terminal = OpenOptions::new().read(true).write(true).open("/dev/tty").ok()?;
    read_hidden(&terminal, question, Until::Enter).ok().filter(|typed| !typed.is_empty())
}

/// Shows `question` on `terminal` and reads what is typed, without one line end at its end. Ctrl-C, Ctrl-\ and Ctrl-Z
/// do what they usually do, to the whole process group, once the terminal is as it was.
///
/// # Errors
/// It is no terminal, or has gone; the value is too long; `Interrupted` where this process outlives a Ctrl-C.
pub fn read_hidden(terminal: &impl AsFd, question: &str, until: Until) -> io::Result<Secret> {
    let terminal = terminal.as_fd();
    loop {
        match read_once(terminal, question, until)? {
            Ended::Value(value) => return Ok(value),
            Ended::By(signal) => {
                kill_current_process_group(signal)?;
                if signal != Signal::TSTP {
                    return Err(io::ErrorKind::Interrupted.into());
                }
            }
        }
    }
}

/// How one showing of the question ended.
enum Ended {
    Value(Secret),
    /// By a key that sends this.
    By(Signal),
}

fn read_once(terminal: BorrowedFd<'_>, question: &str, until: Until) -> io::Result<Ended> {
    let hidden = Hidden::begin(terminal)?;
    show(terminal, question.as_bytes())?;
    let ended = read_keys(&mut Keyboard(terminal), &Keys::of(&hidden.before), until);
    drop(hidden);
    show(terminal, b"\n")?;
    ended
}

/// Standard input may be a terminal that was opened for reading only (`</dev/tty`): then it is opened once more.
fn show(terminal: BorrowedFd<'_>, text: &[u8]) -> io::Result<()> {
    match write_all(terminal, text) {
        Err(error) if error.raw_os_error() == Some(Errno::BADF.raw_os_error()) => {
            let again = format!("/proc/self/fd/{}", terminal.as_raw_fd());
            write_all(OpenOptions::new().write(true).open(again)?.as_fd(), text)
        }
        done => done,
    }
}

/// Byte by byte, so that no buffer of ours keeps what came after.
fn read_keys(from: &mut impl Read, keys: &Keys, until: Until) -> io::Result<Ended> {
    // All of its length from the start: one that grows would leave copies.
    let mut typed = Zeroizing::new(Vec::with_capacity(TYPED_BYTES_MAX));
    let mut pressed_end = false;
    loop {
        let mut byte = [0];
        match from.read(&mut byte) {
            Ok(0) => break,
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        }
        let [byte] = byte;
        // As in a terminal's own line input: in the midst of a line, the key that ends the input has to be pressed twice.
        let ends = std::mem::take(&mut pressed_end) || typed.last().is_none_or(|last| *last == b'\n');
        match keys.meaning(byte) {
            Key::Signal(signal) => return Ok(Ended::By(signal)),
            Key::End if ends => break,
            Key::End => pressed_end = true,
            Key::Erase => erase_letter(&mut typed),
            Key::EraseLine => {
                let start = start_of_line(&typed);
                typed.truncate(start);
            }
            Key::Typed if byte == b'\n' && until == Until::Enter => break,
            Key::Typed if typed.len() == TYPED_BYTES_MAX => break,
            Key::Typed => typed.push(byte),
        }
    }
    Secret::read(&typed[..]).map(Ended::Value)
}

fn start_of_line(typed: &[u8]) -> usize {
    typed.iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end.saturating_add(1))
}

/// The last letter of the line, whatever number of bytes it has in UTF-8.
fn erase_letter(typed: &mut Vec<u8>) {
    let start = start_of_line(typed);
    while typed.len() > start && typed.pop().is_some_and(|byte| byte & 0xc0 == 0x80) {}
}

#[derive(Clone, Copy)]
enum Key {
    Signal(Signal),
    End,
    Erase,
    EraseLine,
    Typed,
}

/// Which bytes are more than themselves.
struct Keys(Vec<(u8, Key)>);

impl Keys {
    fn of(before: &Termios) -> Self {
        let code = |index, key| (before.special_codes[index], key);
        let mut keys = vec![
            code(SpecialCodeIndex::VEOF, Key::End),
            code(SpecialCodeIndex::VERASE, Key::Erase),
            code(SpecialCodeIndex::VKILL, Key::EraseLine),
        ];
        if before.local_modes.contains(LocalModes::ISIG) {
            keys.push(code(SpecialCodeIndex::VINTR, Key::Signal(Signal::INT)));
            keys.push(code(SpecialCodeIndex::VQUIT, Key::Signal(Signal::QUIT)));
            keys.push(code(SpecialCodeIndex::VSUSP, Key::Signal(Signal::TSTP)));
        }
        // Zero is no key (_POSIX_VDISABLE).
        keys.retain(|(byte, _)| *byte != 0);
        Self(keys)
    }

    fn meaning(&self, byte: u8) -> Key {
        self.0.iter().find(|(code, _)| *code == byte).map_or(Key::Typed, |(_, key)| *key)
    }
}

struct Keyboard<'t>(BorrowedFd<'t>);

impl Read for Keyboard<'_> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        Ok(rustix::io::read(self.0, into)?)
    }
}

fn write_all(terminal: BorrowedFd<'_>, mut text: &[u8]) -> io::Result<()> {
    while !text.is_empty() {
        let written = rustix::io::retry_on_intr(|| rustix::io::write(terminal, text))?;
        text = text.get(written..).unwrap_or_default();
    }
    Ok(())
}

/// Nothing typed is shown or obeyed until dropped.
struct Hidden<'t> {
    terminal: BorrowedFd<'t>,
    before: Termios,
}

impl<'t> Hidden<'t> {
    fn begin(terminal: BorrowedFd<'t>) -> io::Result<Self> {
        let before = tcgetattr(terminal)?;
        let mut hidden = before.clone();
        hidden.local_modes.remove(
            LocalModes::ECHO
                | LocalModes::ECHONL
                | LocalModes::ICANON
                | LocalModes::ISIG
                | LocalModes::IEXTEN,
        );
        hidden.input_modes.insert(InputModes::ICRNL);
        hidden.special_codes[SpecialCodeIndex::VMIN] = 1;
        hidden.special_codes[SpecialCodeIndex::VTIME] = 0;
        tcsetattr(terminal, OptionalActions::Flush, &hidden)?;
        Ok(Self { terminal, before })
    }
}

impl Drop for Hidden<'_> {
    fn drop(&mut self) {
        // The terminal may be gone; then there is nothing to restore. What was pasted beyond the end is no command
        // for the shell, and may be a part of the secret: it is thrown away.
        let _ = tcsetattr(self.terminal, OptionalActions::Flush, &self.before);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pty::{is_usual, pty};

    /// What was read of what was typed, what was shown meanwhile, and how the terminal is afterwards.
    fn typed(text: &str, until: Until) -> (io::Result<Ended>, String, bool) {
        let (terminal, mut person) = pty();
        // Typed before the question: no part of the answer. Once it is shown, the terminal has it.
        person.types("before");
        person.read_until("before");
        std::thread::scope(|scope| {
            let read = scope.spawn(|| read_once(terminal.as_fd(), "key? ", until));
            person.read_until("key? ");
            person.types(text);
            let ended = read.join().unwrap();
            write_all(terminal.as_fd(), b"#").unwrap();
            (ended, person.read_until("#"), is_usual(&terminal))
        })
    }

    #[test]
    fn nothing_of_what_is_typed_is_shown_and_the_terminal_is_as_before() {
        for (text, until, value) in [
            ("correct horse\r", Until::Enter, "correct horse"),
            ("correct horse\rnext", Until::Enter, "correct horse"),
            ("\u{4}", Until::Enter, ""),
            ("one\rtwo\r\u{4}", Until::EndOfInput, "one\ntwo"),
            ("one\r\r\u{4}", Until::EndOfInput, "one\n"),
            ("o\u{4}ne\u{4}\u{4}", Until::EndOfInput, "one"),
            ("x\u{7f}\u{7f}one\u{e9}\u{7f}\rtwo\u{15}\u{7f}2\r\u{4}", Until::EndOfInput, "one\n2"),
        ] {
            let (ended, shown, usual) = typed(text, until);
            assert!(
                matches!(ended, Ok(Ended::Value(secret)) if secret.expose() == value.as_bytes()),
                "{text:?}"
            );
            assert_eq!((shown.as_str(), usual), ("\n#", true), "{text:?}");
        }
    }

    #[test]
    fn a_key_longer_than_a_terminals_own_line_is_whole_and_there_is_a_limit() {
        for (length, fits) in
            [(SECRET_BYTES_MAX, true), (SECRET_BYTES_MAX + 1, false), (SECRET_BYTES_MAX + 9, false)]
        {
            let text = "k".repeat(length) + "\n";
            let ended = read_keys(&mut text.as_bytes(), &Keys(Vec::new()), Until::Enter);
            match ended {
                Ok(Ended::Value(secret)) => assert!(fits && secret.len() == length, "{length}"),
                Ok(Ended::By(_)) => panic!("no key was a signal"),
                Err(error) => assert!(!fits && error.kind() == io::ErrorKind::InvalidData, "{length}"),
            }
        }
    }

    #[test]
    fn a_key_that_sends_a_signal_ends_it_with_the_terminal_as_before() {
        for (key, signal) in [("\u{3}", Signal::INT), ("\u{1c}", Signal::QUIT), ("\u{1a}", Signal::TSTP)] {
            let (ended, shown, usual) = typed(&format!("half a k{key}"), Until::Enter);
            assert!(matches!(ended, Ok(Ended::By(sent)) if sent == signal), "{key:?}");
            assert_eq!((shown.as_str(), usual), ("\n#", true), "{key:?}");
        }
    }

    #[test]
    fn a_terminal_that_was_opened_for_reading_only_shows_the_question_all_the_same() {
        let (terminal, mut person) = pty();
        let reading = std::fs::File::open(format!("/proc/self/fd/{}", terminal.as_raw_fd())).unwrap();
        let read = std::thread::spawn(move || read_hidden(&reading, "key? ", Until::Enter));
        person.read_until("key? ");
        person.types("horse\r");
        assert!(read.join().unwrap().is_ok_and(|typed| typed.expose() == b"horse"));
    }

    #[test]
    fn a_terminal_that_goes_away_is_an_error() {
        let (terminal, person) = pty();
        drop(person);
        assert!(read_hidden(&terminal, "key? ", Until::Enter).is_err());
    }
}
