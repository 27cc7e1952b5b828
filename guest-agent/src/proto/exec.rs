//! The exec connection's messages: one program, its streams, its end.
//!
//! Must never mix up a program that failed with a program that never ran.

use serde::{Deserialize, Serialize};

use super::bytes::Bytes;
use super::frame::{self, Kind, WireError};
use crate::limits;

/// A program to run.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExecRequest {
    /// Program and arguments. A program without `/` is looked up in `PATH` of the guest.
    pub argv: Vec<Bytes>,
    /// Added to, and winning over, the environment of `Configure`.
    #[serde(default)]
    pub env: Vec<(Bytes, Bytes)>,
    /// Working directory; empty is `/`.
    #[serde(default)]
    pub cwd: Bytes,
    /// User.
    #[serde(default)]
    pub uid: u32,
    /// Group.
    #[serde(default)]
    pub gid: u32,
    /// Supplementary groups.
    #[serde(default)]
    pub groups: Vec<u32>,
    /// A terminal of this size instead of pipes: output is one stream.
    #[serde(default)]
    pub tty: Option<TtySize>,
    /// Where standard input comes from. Nothing, unless asked for: an open input that nobody feeds hangs programs.
    #[serde(default)]
    pub stdin: StdinMode,
    /// The guest ends the program after so many milliseconds.
    #[serde(default)]
    pub timeout_ms: Option<u64>,
}

/// Standard input of a program.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum StdinMode {
    /// At its end from the start.
    #[default]
    None,
    /// What the host sends.
    Pipe,
}

/// Size of a terminal, in characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct TtySize {
    /// Lines.
    pub rows: u16,
    /// Columns.
    pub cols: u16,
}

/// What the host says while a program runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ExecInput<'a> {
    /// Bytes for standard input; at most as many as the guest gave credit for.
    Stdin(&'a [u8]),
    /// No more input. On a terminal this types the end-of-file character.
    StdinEof,
    /// Send this signal (1 to 64) to the process group.
    Signal(u8),
    /// The terminal has a new size.
    Resize(TtySize),
}

/// What the guest says about a program.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ExecOutput<'a> {
    /// It runs, with this process id in the guest.
    Started(u32),
    /// Bytes from standard output or the terminal.
    Stdout(&'a [u8]),
    /// Bytes from standard error.
    Stderr(&'a [u8]),
    /// So many more bytes of input may be sent.
    StdinCredit(u32),
    /// It closed its input. It still runs.
    StdinClosed,
    /// It ended. Last message.
    Exited(Exit),
    /// It never ran. Last message.
    Failed(Failure),
}

/// How a program ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Exit {
    /// By itself or by a signal.
    pub status: ExitStatus,
    /// The guest ended it as its time was over.
    pub timed_out: bool,
    /// Something it started still held its output when it ended, and was no longer waited for.
    pub output_cut: bool,
}

/// A program's last word.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ExitStatus {
    /// It returned this code.
    Code(u8),
    /// This signal ended it.
    Signal(u8),
}

/// A program never ran.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{kind} ({stage}, error {errno})")]
pub struct Failure {
    /// Why.
    pub kind: FailKind,
    /// Error number of Linux; 0 if none.
    #[serde(default)]
    pub errno: i32,
    /// What was tried: `request`, `pipe`, `tty`, `fork`, `session`, `stdio`, `identity`, `cwd`, `exec`.
    #[serde(default)]
    pub stage: String,
}

/// Why a program never ran.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum FailKind {
    /// No such program, or its interpreter is missing.
    #[error("command not found in the guest")]
    NotFound,
    /// It is there and cannot be run: no permission, a directory, a foreign format.
    #[error("command cannot be executed in the guest")]
    NotExecutable,
    /// The working directory cannot be entered.
    #[error("the working directory cannot be entered in the guest")]
    Cwd,
    /// User or groups cannot be taken on.
    #[error("user or group cannot be taken on in the guest")]
    Identity,
    /// The request breaks a limit or a rule.
    #[error("the guest refuses the request")]
    Request,
    /// Too many programs at once.
    #[error("too many programs at once in the guest")]
    Busy,
    /// The guest is short of memory, processes, files or terminals.
    #[error("the guest is out of resources")]
    Resources,
}

/// What is wrong with an [`ExecRequest`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RequestError {
    /// There is no program.
    #[error("the command is empty: name a program")]
    Empty,
    /// A list is too long.
    #[error("too many arguments, variables or groups")]
    TooMany,
    /// One string is too long.
    #[error("an argument, variable or path is longer than Linux allows")]
    TooLong,
    /// A NUL byte, which Linux cannot carry.
    #[error("an argument, variable or path holds a NUL byte")]
    Nul,
    /// A variable without a name, or with `=` in it.
    #[error("a variable's name is empty or holds '='")]
    VariableName,
}

impl ExecRequest {
    /// A request for `argv`, as root in `/`, without input.
    pub fn new<T: Into<Bytes>>(argv: impl IntoIterator<Item = T>) -> Self {
        Self { argv: argv.into_iter().map(Into::into).collect(), ..Self::default() }
    }

    /// Checks every count and length.
    ///
    /// # Errors
    /// The first rule that is broken.
    pub fn validate(&self) -> Result<(), RequestError> {
        if self.argv.first().is_none_or(Bytes::is_empty) {
            return Err(RequestError::Empty);
        }
        if self.argv.len() > limits::ARGV_ENTRIES_MAX
            || self.env.len() > limits::ENV_ENTRIES_MAX
            || self.groups.len() > limits::GROUP_ENTRIES_MAX
        {
            return Err(RequestError::TooMany);
        }
        self.argv.iter().try_for_each(|a| string(a, limits::ARG_BYTES_MAX))?;
        string(&self.cwd, limits::PATH_BYTES_MAX)?;
        for (name, value) in &self.env {
            string(name, limits::ARG_BYTES_MAX)?;
            string(value, limits::ARG_BYTES_MAX.saturating_sub(name.as_slice().len()))?;
            if name.is_empty() || name.as_slice().contains(&b'=') {
                return Err(RequestError::VariableName);
            }
        }
        Ok(())
    }

    /// Appends the frame.
    ///
    /// # Errors
    /// Arguments and environment together exceed the frame's limit.
    pub fn encode(&self, out: &mut Vec<u8>) -> Result<(), WireError> {
        frame::append_json(out, Kind::ExecRequest, self)
    }
}

fn string(bytes: &Bytes, max: usize) -> Result<(), RequestError> {
    if bytes.as_slice().len() > max {
        return Err(RequestError::TooLong);
    }
    if bytes.as_slice().contains(&0) {
        return Err(RequestError::Nul);
    }
    Ok(())
}

impl<'a> ExecInput<'a> {
    /// Reads a frame.
    ///
    /// # Errors
    /// A payload that is not of its kind's form, or a kind that has no place here.
    pub fn parse(kind: Kind, payload: &'a [u8]) -> Result<Self, WireError> {
        Ok(match (kind, payload) {
            (Kind::Stdin, bytes) => Self::Stdin(bytes),
            (Kind::StdinEof, []) => Self::StdinEof,
            (Kind::Signal, [number @ 1..=64]) => Self::Signal(*number),
            (Kind::Resize, [a, b, c, d]) => Self::Resize(TtySize {
                rows: u16::from_be_bytes([*a, *b]),
                cols: u16::from_be_bytes([*c, *d]),
            }),
            (Kind::StdinEof | Kind::Signal | Kind::Resize, _) => {
                return Err(WireError::Malformed { kind, what: "wrong length or value" });
            }
            _ => return Err(WireError::Misplaced { kind, expected: "input of a program" }),
        })
    }

    /// Appends the frame.
    ///
    /// # Errors
    /// More stdin than one frame holds.
    pub fn encode(&self, out: &mut Vec<u8>) -> Result<(), WireError> {
        match self {
            Self::Stdin(bytes) => frame::append(out, Kind::Stdin, bytes),
            Self::StdinEof => frame::append(out, Kind::StdinEof, &[]),
            Self::Signal(number) => frame::append(out, Kind::Signal, &[*number]),
            Self::Resize(size) => {
                let ([a, b], [c, d]) = (size.rows.to_be_bytes(), size.cols.to_be_bytes());
                frame::append(out, Kind::Resize, &[a, b, c, d])
            }
        }
    }
}

const HOW_CODE: u8 = 0;
const HOW_SIGNAL: u8 = 1;
const FLAG_TIMED_OUT: u8 = 1;
const FLAG_OUTPUT_CUT: u8 = 2;

impl<'a> ExecOutput<'a> {
    /// Reads a frame.
    ///
    /// # Errors
    /// A payload that is not of its kind's form, or a kind that has no place here.
    pub fn parse(kind: Kind, payload: &'a [u8]) -> Result<Self, WireError> {
        let number = |what| match payload {
            [a, b, c, d] => Ok(u32::from_be_bytes([*a, *b, *c, *d])),
            _ => Err(WireError::Malformed { kind, what }),
        };
        Ok(match kind {
            Kind::Stdout => Self::Stdout(payload),
            Kind::Stderr => Self::Stderr(payload),
            Kind::Started => Self::Started(number("four bytes of process id")?),
            Kind::StdinCredit => Self::StdinCredit(number("four bytes of credit")?),
            Kind::StdinClosed => Self::StdinClosed,
            Kind::Exited => Self::Exited(Exit::parse(payload)?),
            Kind::Failed => Self::Failed(frame::parse_json(kind, payload)?),
            _ => return Err(WireError::Misplaced { kind, expected: "output of a program" }),
        })
    }

    /// Appends the frame.
    ///
    /// # Errors
    /// More output than one frame holds.
    pub fn encode(&self, out: &mut Vec<u8>) -> Result<(), WireError> {
        match self {
            Self::Started(pid) => frame::append(out, Kind::Started, &pid.to_be_bytes()),
            Self::Stdout(bytes) => frame::append(out, Kind::Stdout, bytes),
            Self::Stderr(bytes) => frame::append(out, Kind::Stderr, bytes),
            Self::StdinCredit(bytes) => frame::append(out, Kind::StdinCredit, &bytes.to_be_bytes()),
            Self::StdinClosed => frame::append(out, Kind::StdinClosed, &[]),
            Self::Exited(exit) => frame::append(out, Kind::Exited, &exit.payload()),
            Self::Failed(failure) => frame::append_json(out, Kind::Failed, failure),
        }
    }
}

impl Exit {
    /// A plain end with this code.
    #[must_use]
    pub fn code(code: u8) -> Self {
        Self { status: ExitStatus::Code(code), timed_out: false, output_cut: false }
    }

    /// A plain end by this signal.
    #[must_use]
    pub fn signal(signal: u8) -> Self {
        Self { status: ExitStatus::Signal(signal), timed_out: false, output_cut: false }
    }

    /// What a shell would put into `$?`: the code, or 128 and the signal.
    #[must_use]
    pub fn shell_code(self) -> i32 {
        match self.status {
            ExitStatus::Code(code) => i32::from(code),
            ExitStatus::Signal(signal) => 128 + i32::from(signal),
        }
    }

    fn payload(self) -> [u8; 3] {
        let (how, value) = match self.status {
            ExitStatus::Code(code) => (HOW_CODE, code),
            ExitStatus::Signal(signal) => (HOW_SIGNAL, signal),
        };
        let mut flags = 0;
        if self.timed_out {
            flags |= FLAG_TIMED_OUT;
        }
        if self.output_cut {
            flags |= FLAG_OUTPUT_CUT;
        }
        [how, value, flags]
    }

    fn parse(payload: &[u8]) -> Result<Self, WireError> {
        let (status, flags) = match *payload {
            [HOW_CODE, code, flags] => (ExitStatus::Code(code), flags),
            [HOW_SIGNAL, signal @ 1..=127, flags] => (ExitStatus::Signal(signal), flags),
            _ => return Err(WireError::Malformed { kind: Kind::Exited, what: "how, value and flags" }),
        };
        if flags & !(FLAG_TIMED_OUT | FLAG_OUTPUT_CUT) != 0 {
            return Err(WireError::Malformed { kind: Kind::Exited, what: "unknown flags" });
        }
        Ok(Self { status, timed_out: flags & FLAG_TIMED_OUT != 0, output_cut: flags & FLAG_OUTPUT_CUT != 0 })
    }
}

impl FailKind {
    /// The exit code shells use for it: 127 not found, 126 not executable, 125 for all else.
    #[must_use]
    pub fn shell_code(self) -> i32 {
        match self {
            Self::NotFound => 127,
            Self::NotExecutable => 126,
            _ => 125,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn back(wire: &[u8]) -> (Kind, &[u8]) {
        match frame::split(wire).unwrap() {
            frame::Split::Frame { kind, payload, used } if used == wire.len() => (kind, payload),
            other => panic!("{other:?}"),
        }
    }

    fn input(bytes: &[u8], choice: u8, a: u16, b: u16) -> ExecInput<'_> {
        match choice % 4 {
            0 => ExecInput::Stdin(bytes),
            1 => ExecInput::StdinEof,
            2 => ExecInput::Signal(u8::try_from(a % 64 + 1).unwrap()),
            _ => ExecInput::Resize(TtySize { rows: a, cols: b }),
        }
    }

    fn output(bytes: &[u8], choice: u8, n: u32, flags: (bool, bool)) -> ExecOutput<'_> {
        let byte = u8::try_from(n & 127).unwrap().max(1);
        let status = if n & 128 == 0 { ExitStatus::Code(byte) } else { ExitStatus::Signal(byte) };
        match choice % 7 {
            0 => ExecOutput::Started(n),
            1 => ExecOutput::Stdout(bytes),
            2 => ExecOutput::Stderr(bytes),
            3 => ExecOutput::StdinCredit(n),
            4 => ExecOutput::StdinClosed,
            5 => ExecOutput::Exited(Exit { status, timed_out: flags.0, output_cut: flags.1 }),
            _ => ExecOutput::Failed(Failure { kind: FailKind::Cwd, errno: 2, stage: "cwd".into() }),
        }
    }

    proptest! {
        #[test]
        fn input_survives_the_wire(bytes: Vec<u8>, choice: u8, a: u16, b: u16) {
            let message = input(&bytes, choice, a, b);
            let mut wire = Vec::new();
            message.encode(&mut wire).unwrap();
            let (kind, payload) = back(&wire);
            prop_assert_eq!(ExecInput::parse(kind, payload).unwrap(), message);
        }

        #[test]
        fn output_survives_the_wire(bytes: Vec<u8>, choice: u8, n: u32, flags: (bool, bool)) {
            let message = output(&bytes, choice, n, flags);
            let mut wire = Vec::new();
            message.encode(&mut wire).unwrap();
            let (kind, payload) = back(&wire);
            prop_assert_eq!(ExecOutput::parse(kind, payload).unwrap(), message);
        }

        #[test]
        fn hostile_payloads_are_read_or_refused(kind in prop::sample::select(Kind::ALL), payload: Vec<u8>) {
            if let Ok(message) = ExecInput::parse(kind, &payload) {
                let mut wire = Vec::new();
                message.encode(&mut wire).unwrap();
                prop_assert_eq!(back(&wire), (kind, payload.as_slice()));
            }
            let _ = ExecOutput::parse(kind, &payload);
            let _ = frame::parse_json::<ExecRequest>(kind, &payload);
        }
    }

    #[test]
    fn requests_that_linux_cannot_carry_are_refused() {
        assert!(ExecRequest::new(["true"]).validate().is_ok());
        let with = |change: fn(&mut ExecRequest)| {
            let mut request = ExecRequest::new(["true"]);
            change(&mut request);
            request.validate()
        };
        assert_eq!(with(|r| r.argv.clear()), Err(RequestError::Empty));
        assert_eq!(with(|r| r.argv = vec!["".into()]), Err(RequestError::Empty));
        assert_eq!(with(|r| r.argv.push("a\0b".into())), Err(RequestError::Nul));
        assert_eq!(with(|r| r.argv.push("x".repeat(131_072).into())), Err(RequestError::TooLong));
        assert_eq!(with(|r| r.env = vec![("A=B".into(), "c".into())]), Err(RequestError::VariableName));
        assert_eq!(with(|r| r.env = vec![("".into(), "c".into())]), Err(RequestError::VariableName));
        assert_eq!(with(|r| r.groups = vec![0; 65]), Err(RequestError::TooMany));
        assert_eq!(with(|r| r.cwd = "/\0".into()), Err(RequestError::Nul));
    }

    #[test]
    fn shells_agree_on_the_codes() {
        assert_eq!(Exit::code(3).shell_code(), 3);
        assert_eq!(Exit::signal(9).shell_code(), 137);
        assert_eq!(FailKind::NotFound.shell_code(), 127);
        assert_eq!(FailKind::NotExecutable.shell_code(), 126);
        assert_eq!(FailKind::Cwd.shell_code(), 125);
    }
}
