//! What the program says on standard error: plain lines for people, JSON lines for programs, or nothing.

use std::io::{IsTerminal, Write};

use serde_json::{Value, json};

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
            (_, true) => Self::Json,
            (true, _) => Self::Quiet,
            _ => Self::Text,
        }
    }

    /// One message: `text` for people, `event` with `fields` for programs.
    pub fn say(self, event: &str, text: &str, fields: Value) {
        let line = match self {
            Self::Quiet => return,
            Self::Text => format!("agent-sandbox: {text}\n"),
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

/// Text of somebody else's, safe to print: control bytes are shown, not obeyed.
pub fn printable(text: &str) -> String {
    let show = |c: char| if c.is_control() { format!("\\x{:02x}", u32::from(c)) } else { c.to_string() };
    text.chars().map(show).collect()
}
