//! A policy's own `[[test]]`s, run through the function that enforces.

use crate::decide::decide;
use crate::error::PolicyError;
use crate::facts::Facts;
use crate::load::File;
use crate::respell::canonical_form;
use crate::ruleset::Ruleset;
use crate::verdict::Effect;

/// One `[[test]]` of a policy and what came of it. It is asked of its own file and what that includes alone, so that
/// it holds wherever the file is used.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
#[non_exhaustive]
pub struct TestRun {
    /// The file it stands in.
    pub file: Box<str>,
    /// Line of its `[[test]]`, from 1.
    pub line: u32,
    /// As written.
    pub request: Box<str>,
    /// The effect it expects.
    pub expect: Effect,
    /// The rule it expects, if it names one.
    pub expect_rule: Option<Box<str>>,
    /// The effect it got.
    pub effect: Effect,
    /// The rule that decided, if one did.
    pub rule: Option<Box<str>>,
    /// Of a test that failed: the verdict, explained.
    pub failure: Option<Box<str>>,
}

impl TestRun {
    /// Whether it got what it expects.
    #[must_use]
    pub fn passed(&self) -> bool {
        self.failure.is_none()
    }
}

/// Runs all of a file's tests. The error is about the first that is no question, or, with `strict`, that fails.
pub(crate) fn run_tests(file: &File, rules: &Ruleset, strict: bool) -> Result<Vec<TestRun>, PolicyError> {
    let mut runs = Vec::with_capacity(file.tests.len());
    for test in &file.tests {
        let facts = Facts::parse(&test.request).map_err(|source| PolicyError::Request {
            at: file.text.locate(test.request_at),
            request: test.request.clone(),
            source,
        })?;
        // Without a time, nothing has expired: else a policy would stop loading by itself one day.
        let facts = facts.at(test.now.unwrap_or(i64::MIN));
        let verdict = decide(rules, &facts);
        let same_rule = |id: &String| verdict.rule.is_some_and(|rule| rule.id == id);
        let passed = verdict.effect == test.expect && test.rule.as_ref().is_none_or(same_rule);
        let explained = || {
            let meant =
                canonical_form(&test.request).map(|form| format!("; write {form:?}")).unwrap_or_default();
            format!("{}{meant}", verdict.explain(&facts))
        };
        if strict && !passed {
            let by = test.rule.as_ref().map(|id| format!(" by rule \"{id}\"")).unwrap_or_default();
            let expected = format!("{}{by}", test.expect);
            return Err(PolicyError::TestFailed {
                at: file.text.locate(test.at),
                expected,
                got: explained(),
            });
        }
        runs.push(TestRun {
            file: (*file.text.name).into(),
            line: file.text.line(test.at),
            request: test.request.as_str().into(),
            expect: test.expect,
            expect_rule: test.rule.as_deref().map(Box::from),
            effect: verdict.effect,
            rule: verdict.rule.map(|rule| rule.id.into()),
            failure: (!passed).then(|| explained().into()),
        });
    }
    Ok(runs)
}
