//! What the program says on standard error: plain lines for people, JSON lines for programs, or nothing.

use std::io::{ErrorKind, IsTerminal, Write};

pub use glue::printable::printable;
use serde_json::{Value, json};

use crate::error::{Error, Result};

/// How our own messages are shown.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Style {
    Quiet,
    Text,
    Json,
}

impl Style {
    pub fn new(quiet: bool, json: bool) -> Self {
        match (quiet, json) {
            (true, _) => Self::Quiet,
            (_, true) => Self::Json,
            _ => Self::Text,
        }
    }

    /// For what must not go unsaid.
    pub fn or_text(self) -> Self {
        if self == Self::Quiet { Self::Text } else { self }
    }

    /// One message: `text` for people, `event` with `fields` for programs.
    pub fn say(self, event: &str, text: &str, fields: Value) {
        let line = match self {
            Self::Quiet => return,
            // Parts of a message are a policy's, a guest's or an option's words: shown, never obeyed.
            Self::Text => {
                format!("agent-sandbox: {}\n", text.lines().map(printable).collect::<Vec<_>>().join("\n"))
            }
            Self::Json => {
                let mut object = json!({ "event": event });
                if let (Some(object), Value::Object(fields)) = (object.as_object_mut(), fields) {
                    object.extend(fields);
                }
                format!("{object}\n")
            }
        };
        // Standard error may be closed; there is nobody left to tell then.
        let _ = std::io::stderr().write_all(line.as_bytes());
    }
}

/// Whether colour and progress bars belong on standard error.
pub fn stderr_is_terminal() -> bool {
    std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none()
}

/// Whether colour belongs on standard output.
pub fn stdout_is_terminal() -> bool {
    std::io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none()
}

/// One line on standard output. A reader that has gone is no failure.
pub fn print(line: &str) -> Result<()> {
    let mut stdout = std::io::stdout().lock();
    match writeln!(stdout, "{line}").and_then(|()| stdout.flush()) {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => Err(Error::Output(error)),
        _ => Ok(()),
    }
}
