//! Every key that a policy file may have, with what it holds. The loader refuses what does not stand here, and the
//! schema for editors ([`crate::schema`]) is made from the same tables, so that neither knows more than the other.

use crate::limits::{CREDENTIAL_BYTES_MAX, ID_BYTES_MAX, REASON_BYTES_MAX};
use crate::ruleset::Mode;
use crate::verdict::{Effect, OnOpaque, TlsMode};

/// What stands behind a key.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Kind {
    /// The number 1.
    Version,
    /// One of these.
    Words(fn() -> Vec<&'static str>),
    /// One of these, or a list of them.
    WordList(fn() -> Vec<&'static str>),
    Flag,
    /// One line of at most so many bytes.
    Text(usize),
    /// One string or a list of them.
    Texts,
    /// The same, and an empty list means something.
    TextsOrNone,
    Ports,
    Time,
    /// From 1.
    Count,
    Limits,
    Rules(Effect),
    Tests,
}

/// One key.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Key {
    pub(crate) name: &'static str,
    pub(crate) kind: Kind,
    /// One or two sentences for whoever writes the file.
    pub(crate) about: &'static str,
    /// Whether only rules that allow may have it.
    pub(crate) grants: bool,
}

const fn key(name: &'static str, kind: Kind, about: &'static str) -> Key {
    Key { name, kind, about, grants: false }
}

const fn grant(name: &'static str, kind: Kind, about: &'static str) -> Key {
    Key { name, kind, about, grants: true }
}

/// A word of the file for each value of a type.
pub(crate) trait Word: Copy + 'static {
    const WORDS: &'static [(&'static str, Self)];
}

impl Word for Mode {
    const WORDS: &'static [(&'static str, Self)] = &[("enforce", Self::Enforce), ("audit", Self::Audit)];
}

impl Word for TlsMode {
    const WORDS: &'static [(&'static str, Self)] = &[("inspect", Self::Inspect), ("opaque", Self::Opaque)];
}

impl Word for OnOpaque {
    const WORDS: &'static [(&'static str, Self)] = &[("refuse", Self::Refuse), ("pass", Self::Pass)];
}

impl Word for Effect {
    const WORDS: &'static [(&'static str, Self)] = &[("allow", Self::Allow), ("deny", Self::Deny)];
}

fn words<T: Word>() -> Vec<&'static str> {
    T::WORDS.iter().map(|(word, _)| *word).collect()
}

fn schemes() -> Vec<&'static str> {
    crate::compile::SCHEMES.iter().map(|scheme| scheme.as_str()).collect()
}

fn registries() -> Vec<&'static str> {
    crate::sources::Registry::ALL.iter().map(|registry| registry.as_str()).collect()
}

fn presets() -> Vec<&'static str> {
    crate::presets::names().collect()
}

/// Keys of a file.
pub(crate) const FILE: &[Key] = &[
    key("version", Kind::Version, "Version of this format. Required."),
    key(
        "mode",
        Kind::Words(words::<Mode>),
        "`audit` only records what would be refused; the default `enforce` refuses it.",
    ),
    key(
        "ceiling",
        Kind::Flag,
        "true: this layer allows nothing itself, but no other layer may go beyond what it allows.",
    ),
    key("use", Kind::WordList(presets), "Ready-made rules that come with the program."),
    key("include", Kind::Texts, "Other policy files, beneath the folder of this one."),
    key("allow", Kind::Rules(Effect::Allow), "What may pass. Nothing else does."),
    key("deny", Kind::Rules(Effect::Deny), "What must not pass, whatever else allows it."),
    key("test", Kind::Tests, "Questions with their answers: a policy whose tests fail does not load."),
];

/// Keys of a rule, in the order of the documentation.
pub(crate) const RULE: &[Key] = &[
    key(
        "id",
        Kind::Text(ID_BYTES_MAX),
        "Name of the rule, shown with every verdict: letters, digits, `.`, `_`, `-`.",
    ),
    key(
        "host",
        Kind::Texts,
        "Exact name, `*.x` (one label before x), `**.x` (one or more) or `**` (any name). Never an address.",
    ),
    key(
        "cidr",
        Kind::Texts,
        "Address or network, as 10.0.0.0/8. With `host`: where that name may resolve to.",
    ),
    key(
        "registry",
        Kind::Words(registries),
        "The hosts that this machine's own client is set up to use. In place of host, cidr, ports and scheme.",
    ),
    key(
        "ports",
        Kind::Ports,
        "Ports and ranges as \"8000-8099\", or \"any\". An allow rule without means 443 (80 for http).",
    ),
    key("scheme", Kind::WordList(schemes), "An allow rule without means https."),
    key("methods", Kind::Texts, "Methods in upper case; without, any."),
    key(
        "paths",
        Kind::Texts,
        "Globs over the path: `*` within a segment, `**` any number of segments; without, any.",
    ),
    key(
        "query",
        Kind::TextsOrNone,
        "Allow: no other keys may be in the query, and [] means none at all. Deny: any of these keys is enough.",
    ),
    key("websocket", Kind::Flag, "Allow: WebSockets too. Deny: only WebSockets."),
    key("tcp", Kind::Flag, "Raw bytes; an allow rule then needs `ports`."),
    grant(
        "tls",
        Kind::Words(words::<TlsMode>),
        "`opaque`: nobody looks inside, so the rule has no methods, paths, query or credential.",
    ),
    grant(
        "credential",
        Kind::Text(CREDENTIAL_BYTES_MAX),
        "Name of the key that is put into matching requests.",
    ),
    grant(
        "upstream",
        Kind::Text(ID_BYTES_MAX),
        "Name of the upstream proxy that matching requests leave by.",
    ),
    grant(
        "on_opaque",
        Kind::Words(words::<OnOpaque>),
        "What becomes of an answer that cannot be searched for secrets; `refuse` is the default.",
    ),
    grant("limits", Kind::Limits, "How much may pass."),
    grant("expires", Kind::Time, "Date-time with an offset, from which on the rule allows nothing."),
    grant(
        "write_capable",
        Kind::Flag,
        "A label: data that is sent here could be read by others, so `policy lint` names the rule.",
    ),
    key("reason", Kind::Text(REASON_BYTES_MAX), "One line, shown with the verdict."),
];

/// Keys of `limits`.
pub(crate) const LIMITS: &[Key] = &[
    key("requests_per_s", Kind::Count, "Requests in one second."),
    key("request_body_bytes", Kind::Count, "Body of one request, bytes."),
    key("connections", Kind::Count, "Connections at a time."),
];

/// Keys of a `[[test]]`.
pub(crate) const TEST: &[Key] = &[
    key(
        "request",
        Kind::Text(usize::MAX),
        "`METHOD URL`, `CONNECT host:port`, `TCP host:port` or `DNS name`. Required.",
    ),
    key("expect", Kind::Words(words::<Effect>), "What the policy must say. Required."),
    key("rule", Kind::Text(ID_BYTES_MAX), "The id of the rule that must say so."),
    key("now", Kind::Time, "The time it is asked at; without, nothing has expired."),
];
