//! One `[[allow]]`, `[[deny]]` or `[[test]]` to what it says, each key with its place.

use std::sync::Arc;

use toml::de::DeTable;

use super::keys;
use super::text::Text;
use super::value::{Reader, Value, key};
use crate::compile::Places;
use crate::error::{Location, PolicyError};
use crate::rule::Rule;
use crate::timestamp;
use crate::verdict::{Effect, RuleLimits};

/// Byte offsets of one rule's keys.
#[derive(Debug, Clone)]
pub(crate) struct RulePlaces {
    pub(crate) text: Arc<Text>,
    keys: Vec<(&'static str, usize)>,
    pub(crate) whole: usize,
}

/// A rule as it stands in a file.
#[derive(Debug, Clone)]
pub(crate) struct Written {
    pub(crate) rule: Rule,
    /// Stands for hosts that a client's configuration names.
    pub(crate) registry: Option<String>,
    pub(crate) places: RulePlaces,
}

/// One of a policy's own tests.
#[derive(Debug)]
pub(crate) struct Test {
    pub(crate) at: usize,
    pub(crate) request: String,
    pub(crate) request_at: usize,
    pub(crate) expect: Effect,
    pub(crate) rule: Option<String>,
    pub(crate) now: Option<i64>,
}

pub(crate) fn read_rule(effect: Effect, value: &Value<'_>, text: &Arc<Text>) -> Result<Written, PolicyError> {
    let reader = Reader(text);
    let table = reader.table(value)?;
    let places = RulePlaces {
        text: Arc::clone(text),
        keys: Vec::with_capacity(table.len()),
        whole: value.span().start,
    };
    let mut written = Written { rule: Rule::new(effect), registry: None, places };
    for (name, value) in table {
        let (name, at) = key(name);
        let known = reader.known(keys::RULE, at, name)?;
        written.places.keys.push((known, value.span().start));
        written.take(known, value, reader)?;
    }
    Ok(written)
}

impl Written {
    fn take(&mut self, key: &str, value: &Value<'_>, reader: Reader<'_>) -> Result<(), PolicyError> {
        let rule = &mut self.rule;
        match key {
            "id" => rule.id = Some(reader.text(value)?),
            "host" => rule.hosts = Some(reader.list(value)?),
            "cidr" => rule.cidrs = Some(reader.list(value)?),
            "registry" => self.registry = Some(reader.text(value)?),
            "ports" => rule.ports = Some(reader.ports(value)?),
            "scheme" => rule.schemes = Some(reader.list(value)?),
            "methods" => rule.methods = Some(reader.list(value)?),
            "paths" => rule.paths = Some(reader.list(value)?),
            "query" => rule.query = Some(reader.list(value)?),
            "websocket" => rule.websocket = reader.flag(value)?,
            "tcp" => rule.tcp = reader.flag(value)?,
            "tls" => rule.tls = Some(reader.word(value)?),
            "credential" => rule.credential = Some(reader.text(value)?),
            "upstream" => rule.upstream = Some(reader.text(value)?),
            "on_opaque" => rule.on_opaque = Some(reader.word(value)?),
            "limits" => rule.limits = Some(read_limits(reader.table(value)?, reader)?),
            "expires" => rule.expires = Some(reader.time(value)?),
            "write_capable" => rule.write_capable = reader.flag(value)?,
            _ => rule.reason = Some(reader.text(value)?),
        }
        Ok(())
    }
}

fn read_limits(table: &DeTable<'_>, reader: Reader<'_>) -> Result<RuleLimits, PolicyError> {
    let mut limits = RuleLimits::default();
    for (name, value) in table {
        let (name, at) = key(name);
        match reader.known(keys::LIMITS, at, name)? {
            "requests_per_s" => limits.requests_per_s = Some(reader.limit(value)?),
            "request_body_bytes" => limits.request_body_bytes = Some(reader.limit(value)?),
            _ => limits.connections = Some(reader.limit(value)?),
        }
    }
    Ok(limits)
}

pub(crate) fn read_test(value: &Value<'_>, text: &Text) -> Result<Test, PolicyError> {
    let reader = Reader(text);
    let (at, mut request, mut expect, mut rule, mut now) = (value.span().start, None, None, None, None);
    for (name, value) in reader.table(value)? {
        let (name, key_at) = key(name);
        match reader.known(keys::TEST, key_at, name)? {
            "request" => request = Some((reader.text(value)?, value.span().start)),
            "expect" => expect = Some(reader.word(value)?),
            "rule" => rule = Some(reader.text(value)?),
            _ => {
                let time = timestamp::parse(&reader.time(value)?);
                let wanted = "a date-time with an offset, as 2027-01-31T12:00:00Z";
                now = Some(time.ok_or_else(|| reader.wrong_type(value, wanted))?);
            }
        }
    }
    let missing = |key: &str| text.syntax(at, format!("missing field `{key}`"));
    let (request, request_at) = request.ok_or_else(|| missing("request"))?;
    Ok(Test { at, request, request_at, expect: expect.ok_or_else(|| missing("expect"))?, rule, now })
}

impl Places for RulePlaces {
    fn place(&self, key: &'static str) -> Location {
        let known = self.keys.iter().find(|(name, _)| *name == key);
        self.text.locate(known.map_or(self.whole, |(_, offset)| *offset))
    }

    fn line(&self) -> (Arc<str>, u32) {
        (Arc::clone(&self.text.name), self.text.line(self.whole))
    }
}
