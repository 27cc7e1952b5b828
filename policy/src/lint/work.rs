//! How much is spent on comparing rules with each other: a bound, since what a person waits for must end.

use std::cell::Cell;

use super::{Code, Finding, Severity};
use crate::limits::LINT_WORK_MAX;
use crate::rule::Compiled;

/// What two rules cost beside their lists, and two path patterns, in comparisons of two hosts.
const RULE_COST: usize = 8;
const PATH_COST: usize = 16;

/// What is left, and the first rule for which it was too little.
#[derive(Debug)]
pub(super) struct Work<'r> {
    left: Cell<u64>,
    first_left_out: Cell<Option<&'r Compiled>>,
}

impl Default for Work<'_> {
    fn default() -> Self {
        Self { left: Cell::new(LINT_WORK_MAX), first_left_out: Cell::new(None) }
    }
}

impl<'r> Work<'r> {
    /// Whether `rule` may be compared with `other`. If so, that is paid for.
    pub(super) fn may_compare(&self, rule: &'r Compiled, other: &Compiled) -> bool {
        let left = self.left.get().checked_sub(cost(rule, other));
        match left {
            Some(left) => self.left.set(left),
            None => self.leave_out(rule),
        }
        left.is_some()
    }

    /// Whether anything is left to compare `rule` with others.
    pub(super) fn is_left_for(&self, rule: &'r Compiled) -> bool {
        let least = u64::try_from(RULE_COST).unwrap_or(u64::MAX);
        let left = self.left.get() > least;
        if !left {
            self.leave_out(rule);
        }
        left
    }

    fn leave_out(&self, rule: &'r Compiled) {
        self.first_left_out.set(self.first_left_out.get().or(Some(rule)));
    }

    /// That not everything was compared.
    pub(super) fn finding(&self) -> Option<Finding<'r>> {
        let rule = self.first_left_out.get()?;
        let text = "was not compared with all others, and others were not either: too many rules are about the same \
                    hosts, or their lists are too long, so a rule that cannot matter may have gone unnoticed; make one \
                    rule of several";
        Some(Finding::new(Code::NotCompared, Severity::Note, rule, text))
    }
}

/// Each pattern of one with each of the other, at worst.
fn cost(one: &Compiled, other: &Compiled) -> u64 {
    let length = |paths: &Option<Box<[_]>>| paths.as_deref().map_or(0, <[_]>::len);
    let methods = |rule: &Compiled| rule.methods.as_deref().map_or(0, <[_]>::len);
    let pairs = [
        one.hosts.len().saturating_mul(other.hosts.len()),
        one.cidrs.len().saturating_mul(other.cidrs.len()),
        methods(one).saturating_mul(methods(other)),
        length(&one.paths).saturating_mul(length(&other.paths)).saturating_mul(PATH_COST),
    ];
    let sum = pairs.into_iter().fold(RULE_COST, usize::saturating_add);
    u64::try_from(sum).unwrap_or(u64::MAX)
}
