//! The answer, for machines (fields, JSON) and for people ([`Verdict::explain`]). Borrows from the rule
//! set; holds no secret and nothing of the request.

use std::fmt;

use crate::canonical::Fault;
use crate::facts::Facts;

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
    /// The facts were not canonical; no rule was looked at.
    NotCanonical(Fault),
    /// The host may be reached, but not at this special-purpose address: no rule names it by `cidr`.
    SpecialAddress,
    /// The host may be reached, and nothing speaks against this public address.
    PublicAddress,
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
    /// Its `reason`.
    pub reason: Option<&'r str>,
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
    /// What is to happen.
    pub effect: Effect,
    /// Why.
    pub cause: Cause,
    /// The rule that decided, if one did.
    pub rule: Option<RuleRef<'r>>,
    /// On a refusal without a rule: the allow rule that came nearest, if any came near.
    pub nearest_miss: Option<Miss<'r>>,
    /// The credential to put in; only at the HTTP layer, where all conditions of the rule have been seen to hold.
    pub credential: Option<&'r str>,
    /// How TLS is to be treated. Inspected unless every matching rule says `opaque` and no deny rule would
    /// have to look inside.
    pub tls: TlsMode,
    /// Which load of the policy answered.
    pub generation: u64,
}

impl<'r> Verdict<'r> {
    /// Whether it may pass.
    #[must_use]
    pub fn is_allowed(&self) -> bool {
        self.effect == Effect::Allow
    }

    /// One or two sentences for a person. Bytes of the request that a terminal would obey are escaped.
    #[must_use]
    pub fn explain<'a>(&'a self, facts: &'a Facts<'a>) -> Explanation<'a, 'r> {
        Explanation { verdict: self, facts }
    }

    pub(crate) fn refuse(cause: Cause, generation: u64) -> Self {
        Self {
            effect: Effect::Deny,
            cause,
            rule: None,
            nearest_miss: None,
            credential: None,
            tls: TlsMode::Inspect,
            generation,
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
        let word = if verdict.is_allowed() { "allowed" } else { "denied" };
        write!(f, "{word}: {facts}: ")?;
        match (verdict.cause, verdict.rule) {
            (Cause::NotCanonical(fault), _) => write!(f, "{fault}")?,
            (Cause::SpecialAddress, _) => {
                f.write_str("no rule names this private or local address by cidr")?
            }
            (Cause::PublicAddress, _) => f.write_str("nothing speaks against this address")?,
            (_, Some(rule)) => {
                write!(f, "{rule}")?;
                if let Some(reason) = rule.reason {
                    write!(f, ": {reason}")?;
                }
            }
            (_, None) => f.write_str("no rule allows it")?,
        }
        if let Some(miss) = verdict.nearest_miss {
            write!(f, "; nearest is {}, whose `{}` does not match", miss.rule, miss.field.key())?;
        }
        Ok(())
    }
}
