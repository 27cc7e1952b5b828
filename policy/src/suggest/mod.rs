//! The smallest rules that would allow what was refused, to be read and changed by a person: no wildcard for a host,
//! no method that was not asked for, no path but those asked for with `*` in place of what names one thing among many.
//! What a rule denies or a ceiling forbids is left out, with the reason, and so is a path that is too long for a pattern, or has
//! signs that none may have.

mod gather;
mod path;
mod toml;
mod writable;

use std::collections::BTreeMap;

use crate::compile::{InCode, compile};
use crate::decide::decide;
use crate::facts::{Facts, Layer, Scheme};
use crate::rule::{Compiled, Rule};
use crate::ruleset::Ruleset;
use crate::verdict::{Cause, Effect};
use gather::Gathered;

/// A rule that would allow some of it.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
#[non_exhaustive]
pub struct Suggested {
    /// Its name: none of the rule set's.
    pub id: String,
    /// A name; else an address, for `cidr`.
    pub host: String,
    /// For `cidr`: an address alone.
    pub cidr: Option<String>,
    /// The one port.
    pub port: u16,
    /// `https` or `http`; `tcp` for raw bytes.
    pub scheme: &'static str,
    /// Whether it is about WebSockets.
    pub websocket: bool,
    /// Empty for raw bytes.
    pub methods: Vec<String>,
    /// Empty: any.
    pub paths: Vec<String>,
    /// Why it should be looked at twice.
    pub cautions: Vec<Caution>,
    /// Some of what it is for, as in `[[test]]`.
    pub examples: Vec<String>,
}

/// Why a suggested rule should be looked at twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Caution {
    /// The host looks like one where anybody can leave data: what the sandbox knows could leave by it.
    WriteCapable,
    /// A path that servers read in different ways was asked for, which no pattern matches.
    AnyPath,
    /// Only a tunnel was seen, or the look-up of a name, not what was to be asked there.
    RequestsUnseen,
    /// An address instead of a name.
    LiteralAddress,
}

/// What no rule is suggested for.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
#[non_exhaustive]
pub struct LeftOut {
    /// The attempt; hostile bytes are escaped.
    pub request: String,
    /// One sentence.
    pub why: String,
}

/// What [`suggest`] found.
#[derive(Debug, Clone, PartialEq, Eq, Default, serde::Serialize)]
#[non_exhaustive]
pub struct Suggestions {
    /// By host and port.
    pub rules: Vec<Suggested>,
    /// Each attempt once.
    pub left_out: Vec<LeftOut>,
    /// Attempts that the rule set allows already.
    pub already_allowed: usize,
}

/// Rules that would allow `refused` beside those of `existing`. Attempts whose query is not known are taken to have
/// none; the rules say nothing of queries.
pub fn suggest<'f>(existing: &Ruleset, refused: impl IntoIterator<Item = Facts<'f>>) -> Suggestions {
    let limits = WhatMayBe::under(existing);
    let mut result = Suggestions::default();
    let (mut left_out, mut gathered) = (BTreeMap::new(), Gathered::default());
    for facts in refused {
        let known = facts.query().is_some() || facts.layer() != Layer::Http;
        let facts = if known { facts } else { facts.with_query("") };
        if decide(existing, &facts).is_allowed() {
            result.already_allowed = result.already_allowed.saturating_add(1);
        } else if let Some(why) = limits.forbid(&facts) {
            left_out.insert(facts.to_string(), why);
        } else {
            gathered.add(&facts);
        }
    }
    let (rules, without_rule) = gathered.into_rules(existing);
    result.rules = rules;
    left_out.extend(without_rule.into_iter().map(|out| (out.request, out.why)));
    result.left_out = left_out.into_iter().map(|(request, why)| LeftOut { request, why }).collect();
    result
}

/// What denies and ceilings leave, whatever else were allowed.
struct WhatMayBe(Ruleset);

impl WhatMayBe {
    fn under(existing: &Ruleset) -> Self {
        let bounds = existing.rules.iter().filter(|rule| rule.effect == Effect::Deny || rule.ceiling != 0);
        let mut rules: Vec<Compiled> = bounds.cloned().collect();
        // Only asked about here, and never given to anybody.
        let mut everything = Rule::allow().scheme("https").scheme("http").websocket().tcp();
        everything.ports = Some(vec!["1-65535".to_owned()]);
        let addresses = everything.clone().cidr("0.0.0.0/0").cidr("::/0");
        let origin = "any rule".into();
        for rule in [everything.host("**"), addresses] {
            rules.extend(compile(&rule, "any", (&origin, 0), &InCode(origin.clone())));
        }
        Self(Ruleset::new(rules, existing.ceilings.clone(), existing.mode(), 0))
    }

    /// Why no rule could allow it; `None` where one could.
    fn forbid(&self, facts: &Facts<'_>) -> Option<String> {
        if facts.scheme().is_some_and(|scheme| matches!(scheme, Scheme::Ws | Scheme::Wss))
            && facts.method() != Some("GET")
        {
            return Some("no rule allows this: a WebSocket begins with a GET".to_owned());
        }
        let verdict = decide(&self.0, facts);
        let why = match (verdict.cause, verdict.rule) {
            _ if verdict.is_allowed() => return None,
            (Cause::NotCanonical(fault), _) => format!("no rule allows this: {fault}"),
            (Cause::Ceiling, _) => {
                format!("outside of what the ceiling {} allows", verdict.layer.unwrap_or_default())
            }
            (_, Some(rule)) => format!("denied by {rule}; a deny wins over any allow"),
            (_, None) => "no rule could allow it".to_owned(),
        };
        Some(why)
    }
}

impl Caution {
    /// One sentence for a person.
    #[must_use]
    pub fn text(self) -> &'static str {
        match self {
            Self::WriteCapable => {
                "the host looks like one where anybody can leave data; what the sandbox knows could leave by it"
            }
            Self::AnyPath => {
                "any path, since one was asked for that servers read in different ways (`;`, `//`, `%2F`, …) and that \
                 no pattern matches"
            }
            Self::RequestsUnseen => {
                "only a tunnel or the look-up of a name was seen; GET and HEAD are a guess that lets it begin, then \
                 ask again"
            }
            Self::LiteralAddress => "an address, not a name: whoever has it next is allowed too",
        }
    }
}
