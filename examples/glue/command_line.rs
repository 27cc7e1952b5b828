//! Command lines of both programs. A key that was written where none belongs is never printed back: neither by clap's
//! errors, which are masked here, nor by the parsers of values, which never repeat what they were given.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::error::{ContextKind, ContextValue, ErrorKind};

/// Options whose values could hold a key by mistake.
const MAY_HOLD_A_KEY: [&str; 10] = [
    "--secret",
    "--service",
    "--inject",
    "--upstream-proxy",
    "--client-cert",
    "--tools",
    "--store",
    "--identity",
    "--env",
    "--resolve",
];
/// In place of what may be one.
const MASK: &str = "…";
/// Longest unknown option that is repeated, in bytes: above it, it may be something else.
const OPTION_BYTES_MAX: usize = 24;

/// Parses a command line whose first word is the program.
///
/// # Errors
/// clap's, also for `--help` and `--version`; without any value that may be a key.
pub fn parse<P, T>(words: impl IntoIterator<Item = T>) -> Result<P, clap::Error>
where
    P: clap::Parser,
    T: Into<OsString> + Clone,
{
    P::try_parse_from(words).map_err(without_value)
}

/// Longest name of a sandbox, in bytes.
const NAME_BYTES_MAX: usize = 64;

/// What a sandbox is called in its log and its certificate.
///
/// # Errors
/// One sentence that does not repeat the text.
pub fn sandbox_name(text: &str) -> Result<String, String> {
    let is_plain = text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte));
    if is_plain && (1..=NAME_BYTES_MAX).contains(&text.len()) {
        Ok(text.to_owned())
    } else {
        Err(format!("a name has up to {NAME_BYTES_MAX} letters, digits, `-`, `_` and `.`"))
    }
}

/// A file's name; that a key was written instead is noticed before an error names the file.
///
/// # Errors
/// One sentence that does not repeat the text.
pub fn file(text: &str) -> Result<PathBuf, String> {
    let upper = text.to_ascii_uppercase();
    if upper.contains("AGE-SECRET-KEY-") || upper.contains("-----BEGIN") {
        return Err("expected the name of a file that holds the key, not the key itself".to_owned());
    }
    Ok(PathBuf::from(text))
}

fn without_value(mut error: clap::Error) -> clap::Error {
    let argument = match error.get(ContextKind::InvalidArg) {
        Some(ContextValue::String(argument)) => argument.clone(),
        _ => String::new(),
    };
    let mask = || ContextValue::String(MASK.to_owned());
    if error.kind() == ErrorKind::UnknownArgument {
        if !is_option(&argument) {
            error.insert(ContextKind::InvalidArg, mask());
            // clap's advice repeats it.
            error.remove(ContextKind::Suggested);
        }
    } else if error.get(ContextKind::InvalidValue).is_some()
        && MAY_HOLD_A_KEY.contains(&argument.split([' ', '=']).next().unwrap_or_default())
    {
        error.insert(ContextKind::InvalidValue, mask());
    }
    error
}

/// Whether it looks like a mistyped option and not like a word that belongs to one.
fn is_option(text: &str) -> bool {
    let name = text.trim_start_matches('-');
    text.starts_with('-')
        && name.len() <= OPTION_BYTES_MAX
        && name.bytes().all(|byte| byte == b'-' || byte.is_ascii_lowercase())
}
