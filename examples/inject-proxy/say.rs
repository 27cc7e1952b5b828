//! What the program prints: on standard output how to use the proxy, once; on standard error what happens to it.

use std::io::{self, Write};
use std::net::SocketAddr;

use glue::printable::printable;
use serde_json::{Map, Value, json};

/// How messages are shown.
#[derive(Clone, Copy)]
pub struct Messages {
    pub json: bool,
}

impl Messages {
    /// One message on standard error. It may be closed; there is nobody left to tell then.
    pub fn say(self, event: &str, text: &str) {
        // Parts of a message are a file's or an option's words: shown, never obeyed.
        let shown: Vec<String> = text.lines().map(printable).collect();
        let line = match self.json {
            true => json!({ "event": event, "message": text }).to_string(),
            false => format!("inject-proxy: {}", shown.join("\n")),
        };
        let _ = io::stderr().write_all(format!("{line}\n").as_bytes());
    }

    /// Where the proxy listens, where its other doors are, and what clients need, on standard output.
    pub fn ready(
        self,
        listen: SocketAddr,
        doors: &[(&str, SocketAddr)],
        variables: &[(String, String)],
    ) -> io::Result<()> {
        let text = match self.json {
            true => {
                let variables: Map<String, Value> =
                    variables.iter().map(|(name, value)| (name.clone(), json!(value))).collect();
                let mut ready =
                    json!({ "event": "ready", "listen": listen.to_string(), "environment": variables });
                for (name, at) in doors {
                    ready[*name] = json!(at.to_string());
                }
                ready.to_string() + "\n"
            }
            false => {
                let line = |(name, value): &(String, String)| format!("export {name}={}\n", quoted(value));
                let exports: String = variables.iter().map(line).collect();
                let doors: String = doors.iter().map(|(name, at)| format!("# {name} on {at}\n")).collect();
                format!("# inject-proxy listens on {listen}\n{doors}{exports}# ready\n")
            }
        };
        let mut stdout = io::stdout().lock();
        stdout.write_all(text.as_bytes())?;
        stdout.flush()
    }
}

/// As a word of a POSIX shell.
fn quoted(value: &str) -> String {
    format!("'{}'", value.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_is_one_word() {
        assert_eq!(quoted("it's $x"), r"'it'\''s $x'");
    }
}
