//! Values of TOML as the types that keys want, or an error that says where and what.

use std::borrow::Cow;

use toml::Spanned;
use toml::de::{DeArray, DeTable, DeValue};

use super::keys::{Key, Word};
use super::text::Text;
use crate::error::PolicyError;

pub(crate) type Value<'t> = Spanned<DeValue<'t>>;
type Result<T> = std::result::Result<T, PolicyError>;

/// Reads values of one file.
#[derive(Clone, Copy)]
pub(crate) struct Reader<'a>(pub(crate) &'a Text);

impl Reader<'_> {
    pub(crate) fn wrong_type(self, value: &Value<'_>, expected: &str) -> PolicyError {
        let found = value.get_ref().type_str();
        self.0.syntax(value.span().start, format!("invalid type: {found}, expected {expected}"))
    }

    /// The key of this name, as it stands in the table.
    pub(crate) fn known(self, keys: &[Key], at: usize, found: &str) -> Result<&'static str> {
        if let Some(key) = keys.iter().find(|key| key.name == found) {
            return Ok(key.name);
        }
        let known = keys.iter().map(|key| format!("`{}`", key.name)).collect::<Vec<_>>().join(", ");
        let found: String = found.escape_debug().take(80).collect();
        Err(self.0.syntax(at, format!("unknown field `{found}`, expected one of {known}")))
    }

    pub(crate) fn table<'v, 't>(self, value: &'v Value<'t>) -> Result<&'v DeTable<'t>> {
        value.get_ref().as_table().ok_or_else(|| self.wrong_type(value, "a table"))
    }

    pub(crate) fn array<'v, 't>(self, value: &'v Value<'t>, of: &str) -> Result<&'v DeArray<'t>> {
        value.get_ref().as_array().ok_or_else(|| self.wrong_type(value, of))
    }

    pub(crate) fn text(self, value: &Value<'_>) -> Result<String> {
        value.get_ref().as_str().map(str::to_owned).ok_or_else(|| self.wrong_type(value, "a string"))
    }

    pub(crate) fn flag(self, value: &Value<'_>) -> Result<bool> {
        value.get_ref().as_bool().ok_or_else(|| self.wrong_type(value, "true or false"))
    }

    pub(crate) fn number(self, value: &Value<'_>) -> Result<i64> {
        let number = value.get_ref().as_integer();
        let number = number.and_then(|number| i64::from_str_radix(number.as_str(), number.radix()).ok());
        number.ok_or_else(|| self.wrong_type(value, "a whole number"))
    }

    /// From 1 to what fits.
    pub(crate) fn limit<T: TryFrom<i64>>(self, value: &Value<'_>) -> Result<T> {
        let expected = "a whole number from 1, small enough for its unit";
        let number = self.number(value)?;
        let limit = T::try_from(number).ok().filter(|_| number > 0);
        limit.ok_or_else(|| self.0.syntax(value.span().start, format!("{number} is not {expected}")))
    }

    /// One string or a list of them.
    pub(crate) fn list(self, value: &Value<'_>) -> Result<Vec<String>> {
        let expected = "a string or a list of strings";
        match value.get_ref() {
            DeValue::String(text) => Ok(vec![text.clone().into_owned()]),
            DeValue::Array(list) => {
                let text = |item: &Value<'_>| item.get_ref().as_str().map(str::to_owned);
                let texts = list.iter().map(|item| text(item).ok_or_else(|| self.wrong_type(item, expected)));
                texts.collect()
            }
            _ => Err(self.wrong_type(value, expected)),
        }
    }

    /// Numbers and ranges, as text.
    pub(crate) fn ports(self, value: &Value<'_>) -> Result<Vec<String>> {
        let port = |item: &Value<'_>| match item.get_ref() {
            DeValue::Integer(_) => self.number(item).map(|number| number.to_string()),
            DeValue::String(text) => Ok(text.clone().into_owned()),
            _ => Err(self.wrong_type(item, "\"any\", or a list of numbers and of ranges as \"8000-8099\"")),
        };
        match value.get_ref() {
            DeValue::Array(list) => list.iter().map(port).collect(),
            _ => Ok(vec![port(value)?]),
        }
    }

    /// A date-time, with or without quotes.
    pub(crate) fn time(self, value: &Value<'_>) -> Result<String> {
        match value.get_ref() {
            DeValue::Datetime(time) => Ok(time.to_string()),
            DeValue::String(text) => Ok(text.clone().into_owned()),
            _ => Err(self.wrong_type(value, "a date-time, as 2027-01-31T12:00:00Z")),
        }
    }

    /// One of a few words.
    pub(crate) fn word<T: Word>(self, value: &Value<'_>) -> Result<T> {
        let words = T::WORDS;
        let names = || words.iter().map(|(name, _)| format!("`{name}`")).collect::<Vec<_>>().join(" or ");
        let Some(text) = value.get_ref().as_str() else {
            return Err(self.wrong_type(value, &names()));
        };
        let found = words.iter().find(|(name, _)| *name == text).map(|(_, word)| *word);
        found.ok_or_else(|| {
            let shown: String = text.escape_debug().take(80).collect();
            self.0.syntax(value.span().start, format!("unknown word `{shown}`, expected {}", names()))
        })
    }
}

/// A key as a name and a place.
pub(crate) fn key<'k>(key: &'k Spanned<Cow<'_, str>>) -> (&'k str, usize) {
    (key.get_ref(), key.span().start)
}
