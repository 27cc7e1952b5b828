//! A policy file's text to rules and tests, each with its place. Strict: an unknown key is an error.

pub(crate) mod keys;
mod rule;
mod text;
mod value;

use std::sync::Arc;

use toml::de::DeTable;

use crate::error::PolicyError;
use crate::limits::FILE_BYTES_MAX;
use crate::ruleset::Mode;
use crate::verdict::Effect;

pub(crate) use rule::{Test, Written};
use rule::{read_rule, read_test};
pub(crate) use text::Text;
use value::{Reader, Value, key};

/// A file taken apart.
#[derive(Debug)]
pub(crate) struct File {
    pub(crate) mode: Option<Mode>,
    pub(crate) ceiling: bool,
    /// Names of presets with their places.
    pub(crate) presets: Vec<(String, usize)>,
    /// Names with their places.
    pub(crate) includes: Vec<(String, usize)>,
    pub(crate) rules: Vec<Written>,
    pub(crate) tests: Vec<Test>,
    pub(crate) text: Arc<Text>,
}

pub(crate) fn read(text: &str, file_name: &str) -> Result<File, PolicyError> {
    let name: Arc<str> = Arc::from(file_name);
    if text.len() > FILE_BYTES_MAX {
        return Err(PolicyError::FileTooLarge { file: name, max: FILE_BYTES_MAX });
    }
    let place = Arc::new(Text::new(name, text));
    let table = DeTable::parse(text).map_err(|error| {
        let message = error.message().lines().collect::<Vec<_>>().join("; ");
        place.syntax(error.span().map_or(0, |span| span.start), message)
    })?;
    let mut file = File {
        mode: None,
        ceiling: false,
        presets: Vec::new(),
        includes: Vec::new(),
        rules: Vec::new(),
        tests: Vec::new(),
        text: place,
    };
    let mut version = None;
    for (name, value) in table.get_ref() {
        let (name, at) = key(name);
        match name {
            "version" => version = Some((Reader(&file.text).number(value)?, value.span().start)),
            _ => file.take(Reader(&file.text).known(keys::FILE, at, name)?, value)?,
        }
    }
    match version {
        Some((1, _)) => {}
        version => {
            return Err(PolicyError::Version { at: file.text.locate(version.map_or(0, |(_, at)| at)) });
        }
    }
    // As they stand in the file, so that names by position and ties mean what a reader sees.
    file.rules.sort_by_key(|written| written.places.whole);
    Ok(file)
}

impl File {
    fn take(&mut self, name: &str, value: &Value<'_>) -> Result<(), PolicyError> {
        let text = Arc::clone(&self.text);
        let reader = Reader(&text);
        let sequence = |what: &str| reader.array(value, &format!("a sequence; write [[{what}]]"));
        match name {
            "mode" => self.mode = Some(reader.word(value)?),
            "ceiling" => self.ceiling = reader.flag(value)?,
            "use" => self.presets = names(value, reader)?,
            "include" => self.includes = names(value, reader)?,
            "allow" | "deny" => {
                let effect = if name == "allow" { Effect::Allow } else { Effect::Deny };
                for rule in sequence(name)? {
                    self.rules.push(read_rule(effect, rule, &text)?);
                }
            }
            _ => {
                for test in sequence(name)? {
                    self.tests.push(read_test(test, &text)?);
                }
            }
        }
        Ok(())
    }
}

fn names(value: &Value<'_>, reader: Reader<'_>) -> Result<Vec<(String, usize)>, PolicyError> {
    let at = value.span().start;
    match value.get_ref().as_array() {
        Some(list) => list.iter().map(|item| Ok((reader.text(item)?, item.span().start))).collect(),
        None => Ok(reader.list(value)?.into_iter().map(|name| (name, at)).collect()),
    }
}
