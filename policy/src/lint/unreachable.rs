//! Rules that allow nothing: denied, beyond a ceiling, or over.

use super::relation::{covers, may_overlap};
use super::{Code, Finding, Severity, Subject};
use crate::rule::Compiled;
use crate::verdict::Effect;

pub(super) fn check<'r>(subject: &Subject<'r>) -> Vec<Finding<'r>> {
    subject.grants().filter_map(|rule| about(subject, rule)).collect()
}

fn about<'r>(subject: &Subject<'r>, rule: &'r Compiled) -> Option<Finding<'r>> {
    let finding = |code, text: String| Finding::new(code, Severity::Warning, rule, text);
    if rule.expires.is_some_and(|end| end <= subject.now) {
        let text = "allows nothing any more: its `expires` has passed; remove it, or set a later time";
        return Some(finding(Code::Expired, text.to_owned()));
    }
    let mut denying = subject.candidates(rule).into_iter().map(|(_, other)| other);
    if let Some(deny) = denying.find(|other| other.effect == Effect::Deny && covers(other, rule)) {
        let text =
            format!("allows nothing: {} denies all of it; remove one, or narrow the deny", deny.reference());
        return Some(finding(Code::Unreachable, text).because_of(deny));
    }
    let numbers = (1u8..).zip(&subject.rules.ceilings);
    let beyond = |number: u8| {
        let mut ceiling = subject.rules.rules.iter().filter(|bound| bound.ceiling == number);
        !ceiling.any(|bound| may_overlap(bound, rule))
    };
    let (_, name) = numbers.into_iter().find(|(number, _)| beyond(*number))?;
    let text = format!(
        "allows nothing: all of it is outside of what the ceiling {name} allows; remove it, or ask for the ceiling \
         to be raised"
    );
    Some(finding(Code::BeyondCeiling, text))
}
