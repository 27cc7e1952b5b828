//! A policy file's text to rules and tests, each with its place. Strict: an unknown key is an error.

use std::ops::Range;
use std::sync::Arc;

use serde::Deserialize;
use toml::Spanned;

use crate::compile::Places;
use crate::decide::decide;
use crate::error::{Location, PolicyError};
use crate::facts::Facts;
use crate::limits::FILE_BYTES_MAX;
use crate::rule::Rule;
use crate::ruleset::{Mode, Ruleset};
use crate::verdict::{Effect, TlsMode};

/// A file taken apart.
pub(crate) struct File {
    pub(crate) mode: Mode,
    pub(crate) rules: Vec<(Rule, RulePlaces)>,
    pub(crate) tests: Vec<Spanned<RawTest>>,
    text: Arc<Text>,
}

/// The file's text with the beginnings of its lines.
struct Text {
    name: Arc<str>,
    text: Box<str>,
    line_starts: Vec<usize>,
}

/// Byte offsets of one rule's keys.
pub(crate) struct RulePlaces {
    text: Arc<Text>,
    keys: Vec<(&'static str, usize)>,
    whole: usize,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawFile {
    version: Option<Spanned<i64>>,
    #[serde(default)]
    mode: Mode,
    #[serde(default)]
    allow: Vec<Spanned<RawRule>>,
    #[serde(default)]
    deny: Vec<Spanned<RawRule>>,
    #[serde(default)]
    test: Vec<Spanned<RawTest>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawRule {
    id: Option<Spanned<String>>,
    host: Option<Spanned<OneOrMany>>,
    cidr: Option<Spanned<OneOrMany>>,
    ports: Option<Spanned<Ports>>,
    scheme: Option<Spanned<OneOrMany>>,
    methods: Option<Spanned<OneOrMany>>,
    paths: Option<Spanned<OneOrMany>>,
    tls: Option<Spanned<TlsMode>>,
    tcp: Option<Spanned<bool>>,
    websocket: Option<Spanned<bool>>,
    credential: Option<Spanned<String>>,
    reason: Option<Spanned<String>>,
}

/// One of a policy's own tests.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct RawTest {
    request: Spanned<String>,
    expect: Effect,
    rule: Option<String>,
}

#[derive(Deserialize)]
#[serde(untagged, expecting = "a string or a list of strings")]
enum OneOrMany {
    One(String),
    Many(Vec<String>),
}

#[derive(Deserialize)]
#[serde(untagged, expecting = "\"any\", or a list of numbers and of ranges as \"8000-8099\"")]
enum Ports {
    One(Port),
    Many(Vec<Port>),
}

#[derive(Deserialize)]
#[serde(untagged, expecting = "a port number or a range as \"8000-8099\"")]
enum Port {
    Number(i64),
    Text(String),
}

pub(crate) fn read(text: &str, file_name: &str) -> Result<File, PolicyError> {
    let name: Arc<str> = Arc::from(file_name);
    if text.len() > FILE_BYTES_MAX {
        return Err(PolicyError::FileTooLarge { file: name, max: FILE_BYTES_MAX });
    }
    let place = Arc::new(Text::new(Arc::clone(&name), text));
    let raw: RawFile = toml::from_str(text).map_err(|error| place.syntax(&error))?;
    match &raw.version {
        Some(version) if *version.get_ref() == 1 => {}
        version => {
            let at = version.as_ref().map_or(0, |version| version.span().start);
            return Err(PolicyError::Version { at: place.locate(at) });
        }
    }
    let allow = raw.allow.into_iter().map(|raw| (Effect::Allow, raw));
    let deny = raw.deny.into_iter().map(|raw| (Effect::Deny, raw));
    let mut rules: Vec<_> = allow.chain(deny).map(|(effect, raw)| into_rule(effect, raw, &place)).collect();
    // As they stand in the file, so that names by position and ties mean what a reader sees.
    rules.sort_by_key(|(_, places)| places.whole);
    Ok(File { mode: raw.mode, rules, tests: raw.test, text: place })
}

/// Runs a file's own tests through the function that enforces.
pub(crate) fn run_tests(file: &File, rules: &Ruleset) -> Result<(), PolicyError> {
    for test in &file.tests {
        let at = || file.text.locate(test.span().start);
        let test = test.get_ref();
        let line = test.request.get_ref();
        let facts = Facts::parse(line).map_err(|source| PolicyError::Request {
            at: file.text.locate(test.request.span().start),
            request: line.clone(),
            source,
        })?;
        let verdict = decide(rules, &facts);
        let same_rule = |id: &String| verdict.rule.is_some_and(|rule| rule.id == id);
        if verdict.effect != test.expect || !test.rule.as_ref().is_none_or(same_rule) {
            let by = test.rule.as_ref().map(|id| format!(" by rule \"{id}\"")).unwrap_or_default();
            let expected = format!("{}{by}", test.expect);
            return Err(PolicyError::TestFailed {
                at: at(),
                expected,
                got: verdict.explain(&facts).to_string(),
            });
        }
    }
    Ok(())
}

fn into_rule(effect: Effect, raw: Spanned<RawRule>, text: &Arc<Text>) -> (Rule, RulePlaces) {
    let whole = raw.span().start;
    let raw = raw.into_inner();
    let mut keys = Vec::new();
    let rule = Rule {
        effect,
        id: take("id", raw.id, &mut keys),
        hosts: take("host", raw.host, &mut keys).map(OneOrMany::into_list),
        cidrs: take("cidr", raw.cidr, &mut keys).map(OneOrMany::into_list),
        ports: take("ports", raw.ports, &mut keys).map(Ports::into_list),
        schemes: take("scheme", raw.scheme, &mut keys).map(OneOrMany::into_list),
        methods: take("methods", raw.methods, &mut keys).map(OneOrMany::into_list),
        paths: take("paths", raw.paths, &mut keys).map(OneOrMany::into_list),
        tls: take("tls", raw.tls, &mut keys),
        tcp: take("tcp", raw.tcp, &mut keys).unwrap_or(false),
        websocket: take("websocket", raw.websocket, &mut keys).unwrap_or(false),
        credential: take("credential", raw.credential, &mut keys),
        reason: take("reason", raw.reason, &mut keys),
        origin: None,
    };
    (rule, RulePlaces { text: Arc::clone(text), keys, whole })
}

fn take<T>(key: &'static str, value: Option<Spanned<T>>, keys: &mut Vec<(&'static str, usize)>) -> Option<T> {
    let value = value?;
    keys.push((key, value.span().start));
    Some(value.into_inner())
}

impl OneOrMany {
    fn into_list(self) -> Vec<String> {
        match self {
            Self::One(text) => vec![text],
            Self::Many(list) => list,
        }
    }
}

impl Ports {
    fn into_list(self) -> Vec<String> {
        let into_text = |port| match port {
            Port::Number(number) => number.to_string(),
            Port::Text(text) => text,
        };
        match self {
            Self::One(port) => vec![into_text(port)],
            Self::Many(ports) => ports.into_iter().map(into_text).collect(),
        }
    }
}

impl Places for RulePlaces {
    fn place(&self, key: &'static str) -> Location {
        let known = self.keys.iter().find(|(name, _)| *name == key);
        self.text.locate(known.map_or(self.whole, |(_, offset)| *offset))
    }
}

impl Text {
    fn new(name: Arc<str>, text: &str) -> Self {
        let breaks = text.bytes().enumerate().filter(|(_, byte)| *byte == b'\n');
        let starts = breaks.map(|(at, _)| at.saturating_add(1));
        Self { name, text: text.into(), line_starts: std::iter::once(0).chain(starts).collect() }
    }

    /// Offsets beyond the text mean its end.
    fn locate(&self, offset: usize) -> Location {
        let line = self.line_starts.partition_point(|start| *start <= offset).max(1);
        let start = self.line_starts.get(line.saturating_sub(1)).copied().unwrap_or(0);
        let rest = self.text.get(start..).unwrap_or("");
        let content = rest.lines().next().unwrap_or("");
        let before = content.get(..offset.saturating_sub(start)).unwrap_or(content);
        let number = |count: usize| u32::try_from(count).unwrap_or(u32::MAX);
        Location {
            file: Arc::clone(&self.name),
            line: number(line),
            column: number(before.chars().count().saturating_add(1)),
            text: Some(content.into()),
        }
    }

    fn syntax(&self, error: &toml::de::Error) -> PolicyError {
        let Range { start, .. } = error.span().unwrap_or(0..0);
        let message = error.message().lines().collect::<Vec<_>>().join("; ");
        PolicyError::Syntax { at: self.locate(start), message }
    }
}
