//! A loaded policy: rules in their order and an index over them. No way to make one yields a rule set that
//! allows what no rule names.

use std::sync::Arc;

use crate::builder::RulesetBuilder;
use crate::error::PolicyError;
use crate::index::Index;
use crate::rule::Compiled;
use crate::test_run::TestRun;
use crate::verdict::RuleRef;

/// What becomes of a refusal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// It is carried out.
    #[default]
    Enforce,
    /// It is only recorded. Verdicts have the same effect; who carries them out asks [`Verdict::would_deny`](crate::Verdict::would_deny).
    Audit,
}

/// Rules ready to decide. Cheap to share behind an `Arc`, never changed.
#[derive(Debug, Clone, Default)]
pub struct Ruleset {
    pub(crate) rules: Vec<Compiled>,
    pub(crate) index: Index,
    /// Names of the layers that are ceilings, by number.
    pub(crate) ceilings: Vec<Arc<str>>,
    /// Bit n: ceiling n + 1 only records.
    pub(crate) audit_ceilings: u8,
    /// What becomes of what no rule allows.
    pub(crate) floor: Mode,
    audit_layers: Vec<Arc<str>>,
    generation: u64,
    mode: Mode,
    tests: Vec<TestRun>,
}

/// Of the layers that only record.
#[derive(Debug, Clone, Default)]
pub(crate) struct AuditLayers {
    pub(crate) names: Vec<Arc<str>>,
    pub(crate) ceilings: u8,
    /// There is a layer that grants and enforces.
    pub(crate) enforced_floor: bool,
}

impl Ruleset {
    /// The rule set without rules. It denies everything.
    #[must_use]
    pub fn empty() -> Self {
        Self::default()
    }

    /// Loads one policy. `file_name` is only shown in verdicts and errors; nothing is opened.
    ///
    /// # Errors
    /// See [`PolicyError`]; also if one of the policy's own tests fails.
    pub fn parse(text: &str, file_name: &str) -> Result<Self, PolicyError> {
        Ok(RulesetBuilder::new().source(text, file_name)?.build())
    }

    /// Loads several policies as one, each a layer: `(text, file name)`. What any of them denies is denied;
    /// what none of them allows is denied; and what a layer with `ceiling = true` does not allow is denied,
    /// whatever the others allow. A ceiling grants nothing itself.
    ///
    /// # Errors
    /// Those of [`Ruleset::parse`] for each, and if two rules of different files have one id.
    pub fn from_layers(layers: &[(&str, &str)]) -> Result<Self, PolicyError> {
        let builder = RulesetBuilder::new();
        let builder = layers.iter().try_fold(builder, |builder, (text, name)| builder.source(text, name))?;
        Ok(builder.build())
    }

    /// What becomes of refusals as a whole: `audit` only if every file says so. That of one refusal is
    /// [`Verdict::mode`](crate::Verdict::mode).
    #[must_use]
    pub fn mode(&self) -> Mode {
        self.mode
    }

    /// The number that every verdict of this rule set carries.
    #[must_use]
    pub fn generation(&self) -> u64 {
        self.generation
    }

    /// All rules in their order.
    pub fn rules(&self) -> impl ExactSizeIterator<Item = RuleRef<'_>> {
        self.rules.iter().map(Compiled::reference)
    }

    /// Whether a rule ends (`expires`) after the one of these times and not after the other, in seconds since 1970: what it
    /// allowed and is still open has to be asked about again.
    #[must_use]
    pub fn any_ends(&self, after_s: i64, until_s: i64) -> bool {
        self.rules.iter().filter_map(|rule| rule.expires).any(|end| end > after_s && end <= until_s)
    }

    /// The policy's own tests and what came of them. All have passed, unless it was loaded with
    /// [`RulesetBuilder::even_if_tests_fail`].
    #[must_use]
    pub fn tests(&self) -> &[TestRun] {
        &self.tests
    }

    /// The names of all credentials that rules put in, each once for each rule that does.
    pub fn credentials(&self) -> impl Iterator<Item = &str> {
        self.rules.iter().filter_map(|rule| rule.credential.as_deref())
    }

    /// Names of the layers that are ceilings.
    pub fn ceilings(&self) -> impl ExactSizeIterator<Item = &str> {
        self.ceilings.iter().map(|name| &**name)
    }

    /// Names of the layers whose refusals are only recorded. While there is one, not everything is enforced.
    pub fn audit_layers(&self) -> impl ExactSizeIterator<Item = &str> {
        self.audit_layers.iter().map(|name| &**name)
    }

    /// The names of all upstream proxies that rules name, each once for each rule that does.
    pub fn upstreams(&self) -> impl Iterator<Item = &str> {
        self.rules.iter().filter_map(|rule| rule.upstream.as_deref())
    }

    #[cfg(feature = "live")]
    pub(crate) fn set_generation(&mut self, generation: u64) {
        self.generation = generation;
    }

    pub(crate) fn new(rules: Vec<Compiled>, ceilings: Vec<Arc<str>>, mode: Mode, generation: u64) -> Self {
        let mut index = Index::default();
        for (position, rule) in (0u32..).zip(&rules) {
            index.insert(position, rule);
        }
        Self {
            rules,
            index,
            ceilings,
            generation,
            mode,
            floor: mode,
            audit_ceilings: 0,
            audit_layers: Vec::new(),
            tests: Vec::new(),
        }
    }

    pub(crate) fn with_tests(mut self, tests: Vec<TestRun>) -> Self {
        self.tests = tests;
        self
    }

    pub(crate) fn recording(mut self, layers: AuditLayers) -> Self {
        // Where only ceilings record, which grant nothing, what nobody allows is refused, unless all there is records.
        let granting = layers.names.len() > usize::try_from(layers.ceilings.count_ones()).unwrap_or(0);
        let records = !layers.enforced_floor && (granting || self.mode == Mode::Audit);
        self.floor = if records { Mode::Audit } else { Mode::Enforce };
        self.audit_ceilings = layers.ceilings;
        self.audit_layers = layers.names;
        self
    }
}
