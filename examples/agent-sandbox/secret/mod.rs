//! `secret`: keys in the user's store. `cli.rs` (what is typed), `values.rs` (set, rotate, ls, rm), `places.rs`
//! (stores, init, unlock, lock), `services.rs`, `when.rs` (times). A value never leaves `Secret` and is never shown.

pub mod cli;
mod places;
mod services;
mod values;
mod when;

use std::io::IsTerminal;

use credvault::Secret;
use glue::terminal::{Until, read_hidden};
use serde_json::{Value, json};

use self::cli::{SecretArgs, SecretVerb};
use crate::error::{Error, Result};
use crate::report::{self, Style};

/// The `secret` verb.
pub fn manage(args: &SecretArgs) -> Result<u8> {
    if let Some(warning) = glue::hardening::harden() {
        Style::new(false, args.json).say("not_hardened", &warning, json!({ "message": warning }));
    }
    match &args.verb {
        SecretVerb::Set { name, not_after } => values::set(args, name, *not_after),
        SecretVerb::Rotate { name, not_after } => values::rotate(args, name, *not_after),
        SecretVerb::Ls => values::ls(args),
        SecretVerb::Rm { name } => values::rm(args, name),
        SecretVerb::Stores => places::stores(args),
        SecretVerb::Init => places::init(args),
        SecretVerb::Unlock { time } => places::unlock(args, *time),
        SecretVerb::Lock => places::lock(args),
        SecretVerb::Services { name, file } => services::services(args, name.as_deref(), file.as_deref()),
    }?;
    Ok(0)
}

/// Text for people or one object for programs, on standard output.
fn say(args: &SecretArgs, text: &str, object: Value) -> Result<()> {
    match args.json {
        true => report::print(&object.to_string()),
        false if text.is_empty() => Ok(()),
        // Names of stores are paths: shown, never obeyed.
        false => report::print(&text.lines().map(report::printable).collect::<Vec<_>>().join("\n")),
    }
}

/// From standard input, never an argument: arguments are visible to every user of the host.
fn read_value(what: &str) -> Result<Secret> {
    let stdin = std::io::stdin().lock();
    let value = if stdin.is_terminal() {
        let question = format!("{what} (not shown; end with Enter, then Ctrl-D): ");
        read_hidden(&stdin, &question, Until::EndOfInput)
    } else {
        Secret::read(stdin)
    };
    let value = value.map_err(Error::io("cannot read the value"))?;
    if value.is_empty() {
        let remedy = "standard input was empty; try: printf %s \"$KEY\" | agent-sandbox secret …";
        return Err(problem(what, remedy));
    }
    Ok(value)
}

/// A passphrase: from standard input if that is no terminal, else typed.
fn read_passphrase(question: &str) -> Result<Secret> {
    if !std::io::stdin().is_terminal() {
        return read_value("passphrase");
    }
    glue::terminal::ask_hidden(question).ok_or_else(|| problem("passphrase", "nothing was typed"))
}

fn problem(name: &str, problem: impl std::fmt::Display) -> Error {
    Error::Secret { name: name.to_owned(), problem: problem.to_string() }
}
