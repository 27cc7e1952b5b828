//! Rules that could be taken away without anybody noticing, since another one does the same or comes first.

use super::relation::covers;
use super::{Code, Finding, Severity, Subject};
use crate::presets::FILE_PREFIX;
use crate::rule::Compiled;
use crate::verdict::{Effect, RuleLimits, TlsMode};

pub(super) fn check<'r>(subject: &Subject<'r>) -> Vec<Finding<'r>> {
    (0u32..).zip(&subject.rules.rules).filter_map(|(position, rule)| about(subject, position, rule)).collect()
}

fn about<'r>(subject: &Subject<'r>, position: u32, rule: &'r Compiled) -> Option<Finding<'r>> {
    let alike = |other: &Compiled| other.effect == rule.effect && other.ceiling == rule.ceiling;
    let candidates = subject.candidates(rule).into_iter();
    let compared = |other: &Compiled| subject.work.may_compare(rule, other) && covers(other, rule);
    let found = candidates.filter(|(at, other)| *at != position && alike(other) && compared(other));
    let found = found.filter_map(|(at, other)| reason(rule, other, at < position).map(|why| (why, other)));
    let (why, other) = found.min_by_key(|(why, _)| *why)?;
    // Files that stack, and presets, say some things twice.
    let own = rule.layer == other.layer && !rule.file.starts_with(FILE_PREFIX);
    let severity = if own { Severity::Warning } else { Severity::Note };
    let verb = if rule.effect == Effect::Allow { "allows" } else { "denies" };
    let name = other.reference();
    let (code, text) = match why {
        Why::Same => (Code::Duplicate, format!("says the same as {name}; remove one of them")),
        Why::SameButGrants => (
            Code::Duplicate,
            format!("has the conditions of {name}, which comes before it; make one rule of both"),
        ),
        Why::NeverNamed => {
            let text = format!(
                "never decides: {name} {verb} all of it and comes before it, so what else this rule says is not \
                 followed; remove one, or give this one a narrower host"
            );
            (Code::Shadowed, text)
        }
        Why::Included => {
            (Code::Shadowed, format!("is not needed: {name} {verb} all of it; remove one of them"))
        }
    };
    Some(Finding::new(code, severity, rule, text).because_of(other))
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Why {
    Same,
    SameButGrants,
    NeverNamed,
    Included,
}

/// Why `rule`, all of which `other` covers, does not matter; `None` where it does.
fn reason(rule: &Compiled, other: &Compiled, after: bool) -> Option<Why> {
    let same_grants = rule.credential == other.credential
        && rule.upstream == other.upstream
        && rule.tls == other.tls
        && rule.on_opaque == other.on_opaque;
    // Each rule counts its own limits.
    let unlimited = [rule, other].iter().all(|rule| rule.limits == RuleLimits::default());
    let same = covers(rule, other);
    // Of two that say the same, it is about the second.
    if same && same_grants && unlimited {
        return after.then_some(Why::Same);
    }
    if never_named(rule, other, after) {
        return Some(if same { Why::SameButGrants } else { Why::NeverNamed });
    }
    (same_grants && unlimited).then_some(Why::Included)
}

/// Whether [`decide`](crate::decide) always names `other` first. A rule that inspects matters also unnamed.
fn never_named(rule: &Compiled, other: &Compiled, after: bool) -> bool {
    if rule.tls == TlsMode::Inspect && other.tls == TlsMode::Opaque {
        return false;
    }
    match (other.credential.is_some(), rule.credential.is_some()) {
        (true, false) => true,
        (false, true) => false,
        _ => {
            let as_exact = rule.hosts == other.hosts && rule.cidrs == other.cidrs;
            after && as_exact && rule.condition_count() == other.condition_count()
        }
    }
}
