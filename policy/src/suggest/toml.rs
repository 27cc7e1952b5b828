//! Suggested rules as a file that loads.

use std::fmt::{self, Write};

use super::{Caution, Suggested, Suggestions};

impl Suggestions {
    /// A policy file with these rules and, as its tests, some of what they are for; without rules, one that allows
    /// nothing.
    #[must_use]
    pub fn to_toml(&self) -> String {
        let mut text = "version = 1\n".to_owned();
        for rule in &self.rules {
            // Writing to a string does not fail.
            let _ = write_rule(&mut text, rule);
        }
        text
    }
}

fn write_rule(text: &mut String, rule: &Suggested) -> fmt::Result {
    text.push('\n');
    for caution in &rule.cautions {
        writeln!(text, "# Look twice: {}.", caution.text())?;
    }
    writeln!(text, "[[allow]]\nid = {}", quoted(&rule.id))?;
    match &rule.cidr {
        Some(network) => writeln!(text, "cidr = {}", quoted(network))?,
        None => writeln!(text, "host = {}", quoted(&rule.host))?,
    }
    let default_port = match rule.scheme {
        "https" => 443,
        "http" => 80,
        _ => 0,
    };
    if rule.port != default_port {
        writeln!(text, "ports = [{}]", rule.port)?;
    }
    match rule.scheme {
        "tcp" => writeln!(text, "tcp = true")?,
        "http" => writeln!(text, "scheme = \"http\"")?,
        _ => {}
    }
    if !rule.methods.is_empty() {
        writeln!(text, "methods = {}", list(&rule.methods))?;
    }
    if !rule.paths.is_empty() {
        writeln!(text, "paths = {}", list(&rule.paths))?;
    }
    if rule.cautions.contains(&Caution::WriteCapable) {
        writeln!(text, "write_capable = true")?;
    }
    if rule.websocket {
        writeln!(text, "websocket = true")?;
    }
    for request in &rule.examples {
        writeln!(text, "\n[[test]]\nrequest = {}\nexpect = \"allow\"", quoted(request))?;
    }
    Ok(())
}

fn list(items: &[String]) -> String {
    match items {
        [one] => format!("[{}]", quoted(one)),
        many => {
            let lines: String = many.iter().map(|item| format!("    {},\n", quoted(item))).collect();
            let short = many.iter().map(|item| quoted(item)).collect::<Vec<_>>().join(", ");
            if short.len() <= 80 { format!("[{short}]") } else { format!("[\n{lines}]") }
        }
    }
}

/// A basic string of TOML. Everything here is printable ASCII; what is not would be escaped too.
fn quoted(text: &str) -> String {
    let mut quoted = String::with_capacity(text.len().saturating_add(2));
    quoted.push('"');
    for c in text.chars() {
        match c {
            '"' | '\\' => quoted.extend(['\\', c]),
            c if c.is_control() => _ = write!(quoted, "\\u{:04X}", u32::from(c)),
            c => quoted.push(c),
        }
    }
    quoted.push('"');
    quoted
}
