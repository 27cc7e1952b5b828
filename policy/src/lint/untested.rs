//! Rules that allow and are decisive in no `[[test]]`: nobody would notice if they changed their meaning.

use std::collections::HashSet;

use super::{Code, Finding, Severity, Subject};
use crate::presets::FILE_PREFIX;
use crate::rule::Compiled;

pub(super) fn check<'r>(subject: &Subject<'r>) -> Vec<Finding<'r>> {
    let tested: HashSet<&str> = subject.rules.tests().iter().filter_map(|run| run.rule.as_deref()).collect();
    let with_tests: HashSet<&str> = subject.rules.tests().iter().map(|run| &*run.file).collect();
    let mut told = HashSet::new();
    let mut findings = Vec::new();
    // What was made in code has no place for tests; a preset has its own, which are not run at each load.
    let own = |rule: &&Compiled| rule.line != 0 && !rule.file.starts_with(FILE_PREFIX);
    for rule in subject.grants().filter(own).filter(|rule| !tested.contains(&*rule.id)) {
        if with_tests.contains(&*rule.file) {
            let text = "decides none of the file's tests; write a [[test]] with a request that it allows";
            findings.push(Finding::new(Code::Untested, Severity::Note, rule, text));
        } else if told.insert(&*rule.file) {
            let text = "and the rest of its file have no tests; write a [[test]] for what each rule allows, and for \
                        what must be denied";
            findings.push(Finding::new(Code::Untested, Severity::Note, rule, text));
        }
    }
    findings
}
