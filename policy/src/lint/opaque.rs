//! `tls = "opaque"` beside rules that look inside: one of the two is not what it seems.

use super::relation::share_connections;
use super::{Code, Finding, Severity, Subject};
use crate::rule::Compiled;
use crate::verdict::{Effect, TlsMode};

pub(super) fn check<'r>(subject: &Subject<'r>) -> Vec<Finding<'r>> {
    let mut findings = Vec::new();
    for opaque in subject.grants().filter(|rule| rule.tls == TlsMode::Opaque) {
        let mut overruled = None;
        let shares =
            |other: &Compiled| subject.work.may_compare(opaque, other) && share_connections(opaque, other);
        let others = subject.about_hosts_of(opaque).into_iter();
        for other in others.filter(|other| shares(other)) {
            match other.effect {
                Effect::Allow if other.tls == TlsMode::Opaque => continue,
                Effect::Allow if other.ceiling == 0 && other.condition_count() > 0 => {
                    findings.push(conditions(opaque, other));
                }
                Effect::Deny if other.condition_count() == 0 => continue,
                _ => {}
            }
            overruled = overruled.or(Some(other));
        }
        findings.extend(overruled.map(|other| not_in_force(opaque, other)));
    }
    findings
}

fn conditions<'r>(opaque: &'r Compiled, rule: &'r Compiled) -> Finding<'r> {
    let text = format!(
        "restricts nothing on hosts where {} allows everything (tls = \"opaque\"): its `methods`, `paths` and `query` \
         only choose which rule is named; remove one of them",
        opaque.reference()
    );
    Finding::new(Code::ConditionsOnOpaqueHost, Severity::Warning, rule, text).because_of(opaque)
}

fn not_in_force<'r>(opaque: &'r Compiled, other: &'r Compiled) -> Finding<'r> {
    let text = format!(
        "does not pass TLS unread (tls = \"opaque\") everywhere: {} needs to look inside on some of its hosts, and \
         that wins",
        other.reference()
    );
    Finding::new(Code::OpaqueNotInForce, Severity::Note, opaque, text).because_of(other)
}
