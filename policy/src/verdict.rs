//! The answer, for machines (fields, JSON: `docs/verdict.md`) and for people ([`Verdict::explain`]). Borrows from the rule
//! set; holds no secret and nothing of the request.

use std::fmt;

use crate::canonical::Fault;
use crate::facts::Facts;
use crate::ruleset::{Mode, Ruleset};

/// What is to happen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Effect {
    /// It may pass.
    Allow,
    /// It must not.
    Deny,
}

/// What is to happen with TLS.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TlsMode {
    /// It is ended at the proxy, and each request inside is asked about.
    #[default]
    Inspect,
    /// It is passed through unread.
    Opaque,
}

/// What becomes of a response that cannot be decoded, so that nobody can look for secrets in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum OnOpaque {
    /// It is refused.
    #[default]
    Refuse,
    /// It passes unread.
    Pass,
}

/// How much a rule lets pass; `None` is no limit of this rule's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, serde::Serialize)]
pub struct RuleLimits {
    /// Requests in one second.
    pub requests_per_s: Option<u32>,
    /// Body of one request, bytes.
    pub request_body_bytes: Option<u64>,
    /// Connections at a time.
    pub connections: Option<u32>,
}

impl RuleLimits {
    /// Of each limit the stricter.
    #[must_use]
    pub fn stricter(self, other: Self) -> Self {
        fn least<T: Ord>(one: Option<T>, other: Option<T>) -> Option<T> {
            match (one, other) {
                (Some(one), Some(other)) => Some(one.min(other)),
                (one, other) => one.or(other),
            }
        }
        Self {
            requests_per_s: least(self.requests_per_s, other.requests_per_s),
            request_body_bytes: least(self.request_body_bytes, other.request_body_bytes),
            connections: least(self.connections, other.connections),
        }
    }
}

/// The condition of a rule that did not hold, in the order they are looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum Field {
    /// `host` or `cidr`.
    Host,
    /// `ports`.
    Port,
    /// `scheme`, `websocket` or `tcp`.
    Scheme,
    /// `methods`.
    Method,
    /// `paths`.
    Path,
    /// `query`.
    Query,
    /// `expires`: all else matches, but its time is over, or nobody told the time.
    Expires,
    /// `cidr`, for the address a name resolved to.
    Address,
}

/// Why the effect is what it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize)]
#[serde(tag = "kind", content = "fault", rename_all = "snake_case")]
#[non_exhaustive]
pub enum Cause {
    /// [`Verdict::rule`] says so.
    Rule,
    /// No rule allows it.
    NoRule,
    /// Some rule allows it, but the ceiling that [`Verdict::layer`] names does not.
    Ceiling,
    /// The facts were not canonical; no rule was looked at.
    NotCanonical(Fault),
    /// The host may be reached, but not at this special-purpose address: no rule names it by `cidr`.
    SpecialAddress,
    /// The host may be reached, and nothing speaks against this public address.
    PublicAddress,
    /// No rule decides; a person was asked and allowed it, or can be asked about what is inside (see [`crate::ask`]).
    Granted,
}

/// One rule, by name and place.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize)]
#[non_exhaustive]
pub struct RuleRef<'r> {
    /// Its `id`.
    pub id: &'r str,
    /// Allow or deny.
    pub effect: Effect,
    /// The file it was read from, or what stood in for one.
    pub file: &'r str,
    /// Line of its `[[allow]]` or `[[deny]]`, from 1; 0 for a rule that was made in code.
    pub line: u32,
    /// The layer it belongs to: the file that was loaded, also where the rule's own was included.
    pub layer: &'r str,
    /// Its `reason`.
    pub reason: Option<&'r str>,
    /// Its `write_capable`: what is sent there could be read by others. A label; it changes no decision.
    pub write_capable: bool,
}

/// The allow rule that came nearest, and what kept it from matching.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize)]
#[non_exhaustive]
pub struct Miss<'r> {
    /// The rule.
    pub rule: RuleRef<'r>,
    /// Its first condition that did not hold.
    pub field: Field,
}

/// The answer to one question.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize)]
#[must_use = "a verdict that nobody looks at allows everything"]
#[non_exhaustive]
pub struct Verdict<'r> {
    /// Of this shape, as JSON: 1. Fields are only ever added.
    pub(crate) v: u8,
    /// What is to happen.
    pub effect: Effect,
    /// Why.
    pub cause: Cause,
    /// The rule that decided, if one did.
    pub rule: Option<RuleRef<'r>>,
    /// The layer that decided: that of the rule, or the ceiling that does not allow it.
    pub layer: Option<&'r str>,
    /// On a refusal without a rule: the allow rule that came nearest, if any came near.
    pub nearest_miss: Option<Miss<'r>>,
    /// The credential to put in; only at the HTTP layer, where all conditions of the rule have been seen to hold.
    pub credential: Option<&'r str>,
    /// How TLS is to be treated. Inspected unless every matching rule says `opaque` and no deny rule would
    /// have to look inside.
    pub tls: TlsMode,
    /// The proxy to leave through, by name; set where `credential` would be and for tunnels.
    pub upstream: Option<&'r str>,
    /// What becomes of a response that cannot be decoded.
    pub on_opaque: OnOpaque,
    /// How much may pass: what the rule says, and ceilings where they are stricter.
    pub limits: RuleLimits,
    /// Of a refusal: whether it is carried out or only recorded, as the layer says that refuses. Of what is allowed:
    /// that of all layers together.
    pub mode: Mode,
    /// Which load of the policy answered: counted from 1 by `Live`, 0 where nobody counts.
    pub generation: u64,
    /// What [`Facts::with_decision_id`] was given, as a ULID.
    #[serde(serialize_with = "ulid")]
    pub decision_id: Option<u128>,
}

/// Crockford's base 32: 26 digits, none of them I, L, O or U.
fn ulid<S: serde::Serializer>(id: &Option<u128>, serializer: S) -> Result<S::Ok, S::Error> {
    let Some(id) = id else { return serializer.serialize_none() };
    let digit = |place: u32| {
        let value = usize::try_from(id >> (5 * place) & 31).unwrap_or(0);
        b"0123456789ABCDEFGHJKMNPQRSTVWXYZ".get(value).map_or('0', |byte| char::from(*byte))
    };
    serializer.collect_str(&(0..26).rev().map(digit).collect::<String>())
}

impl<'r> Verdict<'r> {
    /// Whether it may pass.
    #[must_use]
    pub fn is_allowed(&self) -> bool {
        self.effect == Effect::Allow
    }

    /// Refused, but only by layers that record refusals: it may pass, without a credential, and the record says what
    /// would have happened. Never said of facts that are not canonical, nor of a refusal about an address: letting
    /// these pass is no rehearsal but a hole.
    #[must_use]
    pub fn would_deny(&self) -> bool {
        let judged = matches!(self.cause, Cause::Rule | Cause::NoRule | Cause::Ceiling);
        !self.is_allowed() && self.mode == Mode::Audit && judged
    }

    /// Allowed, or refused by layers that only record.
    #[must_use]
    pub fn may_pass(&self) -> bool {
        self.is_allowed() || self.would_deny()
    }

    /// One or two sentences for a person. Bytes of the request that a terminal would obey are escaped.
    #[must_use]
    pub fn explain<'a>(&'a self, facts: &'a Facts<'a>) -> Explanation<'a, 'r> {
        Explanation { verdict: self, facts }
    }

    pub(crate) fn refuse(cause: Cause, rules: &Ruleset, facts: &Facts<'_>) -> Self {
        Self {
            v: 1,
            effect: Effect::Deny,
            cause,
            rule: None,
            layer: None,
            nearest_miss: None,
            credential: None,
            tls: TlsMode::Inspect,
            upstream: None,
            on_opaque: OnOpaque::Refuse,
            limits: RuleLimits::default(),
            mode: rules.mode(),
            generation: rules.generation(),
            decision_id: facts.decision_id(),
        }
    }
}

impl Effect {
    /// As in the file.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Allow => "allow",
            Self::Deny => "deny",
        }
    }
}

impl Field {
    /// The condition's key in the file.
    #[must_use]
    pub fn key(self) -> &'static str {
        match self {
            Self::Host => "host",
            Self::Port => "ports",
            Self::Scheme => "scheme",
            Self::Method => "methods",
            Self::Path => "paths",
            Self::Query => "query",
            Self::Expires => "expires",
            Self::Address => "cidr",
        }
    }
}

impl fmt::Display for Effect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Display for RuleRef<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.line {
            0 => write!(f, "rule \"{}\" ({})", self.id, self.file),
            line => write!(f, "rule \"{}\" ({}:{line})", self.id, self.file),
        }
    }
}

/// What [`Verdict::explain`] prints.
#[derive(Debug, Clone, Copy)]
pub struct Explanation<'a, 'r> {
    verdict: &'a Verdict<'r>,
    facts: &'a Facts<'a>,
}

impl fmt::Display for Explanation<'_, '_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (verdict, facts) = (self.verdict, self.facts);
        let word = match (verdict.is_allowed(), verdict.would_deny()) {
            (true, _) => "allowed",
            (_, true) => "only recorded, would be denied",
            _ => "denied",
        };
        write!(f, "{word}: {facts}: ")?;
        match (verdict.cause, verdict.rule) {
            (Cause::NotCanonical(fault), _) => write!(f, "{fault}")?,
            (Cause::SpecialAddress, _) => {
                f.write_str("no rule names this private or local address by cidr")?
            }
            (Cause::PublicAddress, _) => f.write_str("nothing speaks against this address")?,
            (Cause::Granted, _) => f.write_str("no rule decides, and the user can be or was asked")?,
            (Cause::Ceiling, _) => {
                write!(f, "outside of what the ceiling {} allows", verdict.layer.unwrap_or("above"))?
            }
            (_, Some(rule)) => {
                write!(f, "{rule}")?;
                if let Some(reason) = rule.reason {
                    write!(f, ": {reason}")?;
                }
            }
            (_, None) => f.write_str("no rule allows it")?,
        }
        if let Some(miss) = verdict.nearest_miss {
            let problem = if miss.field == Field::Expires { "is over" } else { "does not match" };
            write!(f, "; nearest is {}, whose `{}` {problem}", miss.rule, miss.field.key())?;
        }
        match verdict.generation {
            // Loaded once, for one question.
            0 => Ok(()),
            generation => write!(f, " (policy generation {generation})"),
        }
    }
}
