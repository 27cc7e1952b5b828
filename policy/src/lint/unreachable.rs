//! Rules that allow nothing: denied, beyond a ceiling, or over.

use super::relation::{covers, may_overlap};
use super::{Code, Finding, Severity, Subject};
use crate::rule::Compiled;
use crate::verdict::Effect;

pub(super) fn check<'r>(subject: &Subject<'r>) -> Vec<Finding<'r>> {
    let of = |number: u8| subject.rules.rules.iter().filter(|rule| rule.ceiling == number).collect();
    let ceilings: Vec<Ceiling<'_>> =
        (1u8..).zip(&subject.rules.ceilings).map(|(number, name)| (&**name, of(number))).collect();
    subject.grants().filter_map(|rule| about(subject, &ceilings, rule)).collect()
}

/// Its name and what it allows.
type Ceiling<'r> = (&'r str, Vec<&'r Compiled>);

fn about<'r>(subject: &Subject<'r>, ceilings: &[Ceiling<'_>], rule: &'r Compiled) -> Option<Finding<'r>> {
    let finding = |code, text: String| Finding::new(code, Severity::Warning, rule, text);
    if rule.expires.is_some_and(|end| end <= subject.now) {
        let text = "allows nothing any more: its `expires` has passed; remove it, or set a later time";
        return Some(finding(Code::Expired, text.to_owned()));
    }
    let mut denying = subject.candidates(rule).into_iter().map(|(_, other)| other);
    let may_compare = |other: &Compiled| subject.work.may_compare(rule, other);
    let covered =
        |other: &Compiled| other.effect == Effect::Deny && may_compare(other) && covers(other, rule);
    if let Some(deny) = denying.find(|other| covered(other)) {
        let text =
            format!("allows nothing: {} denies all of it; remove one, or narrow the deny", deny.reference());
        return Some(finding(Code::Unreachable, text).because_of(deny));
    }
    // What was not compared may be what allows it.
    let within = |bound: &&Compiled| !may_compare(bound) || may_overlap(bound, rule);
    let (name, _) = ceilings.iter().find(|(_, bounds)| !bounds.iter().any(within))?;
    let text = format!(
        "allows nothing: all of it is outside of what the ceiling {name} allows; remove it, or ask for the ceiling \
         to be raised"
    );
    Some(finding(Code::BeyondCeiling, text))
}
