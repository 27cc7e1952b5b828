//! A loaded policy: rules in their order, an index over them, and the ways to make one. None of them
//! yields a rule set that allows what no rule names.

use std::collections::HashMap;
use std::sync::Arc;

use crate::compile::{InCode, Places, compile};
use crate::error::PolicyError;
use crate::index::Index;
use crate::limits::RULES_MAX;
use crate::load;
use crate::rule::{Compiled, Rule};
use crate::verdict::{Effect, RuleRef};

/// What becomes of a refusal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// It is carried out.
    #[default]
    Enforce,
    /// It is only recorded. Verdicts are the same; who carries them out asks [`Ruleset::mode`].
    Audit,
}

/// Rules ready to decide. Cheap to share behind an `Arc`, never changed.
#[derive(Debug, Clone, Default)]
pub struct Ruleset {
    pub(crate) rules: Vec<Compiled>,
    pub(crate) index: Index,
    pub(crate) generation: u64,
    mode: Mode,
}

/// Puts a rule set together from files and from rules made in code.
#[derive(Debug, Default)]
pub struct RulesetBuilder {
    rules: Vec<Compiled>,
    /// Of the rules so far, to their positions.
    ids: HashMap<Box<str>, usize>,
    mode: Option<Mode>,
    generation: u64,
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

    /// Loads several policies as one: `(text, file name)` each. What any of them denies is denied, what
    /// none of them allows is denied.
    ///
    /// # Errors
    /// Those of [`Ruleset::parse`] for each, and if two rules of different files have one id.
    pub fn from_layers(layers: &[(&str, &str)]) -> Result<Self, PolicyError> {
        let builder = RulesetBuilder::new();
        let builder = layers.iter().try_fold(builder, |builder, (text, name)| builder.source(text, name))?;
        Ok(builder.build())
    }

    /// What becomes of refusals: `audit` only if every file says so.
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

    /// The names of all credentials that rules put in, each once for each rule that does.
    pub fn credentials(&self) -> impl Iterator<Item = &str> {
        self.rules.iter().filter_map(|rule| rule.credential.as_deref())
    }

    fn new(rules: Vec<Compiled>, mode: Mode, generation: u64) -> Self {
        let mut index = Index::default();
        for (position, rule) in (0u32..).zip(&rules) {
            index.insert(position, rule);
        }
        Self { rules, index, generation, mode }
    }
}

impl RulesetBuilder {
    /// Without rules.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds the rules of a policy file. Its tests are run against this file alone, so that they hold
    /// wherever it is used.
    ///
    /// # Errors
    /// See [`PolicyError`].
    pub fn source(mut self, text: &str, file_name: &str) -> Result<Self, PolicyError> {
        let file = load::read(text, file_name)?;
        let first = self.rules.len();
        for (rule, places) in &file.rules {
            self.push(rule, places)?;
        }
        // Audit is a weakening, so all must agree.
        self.mode = match (self.mode, file.mode) {
            (None | Some(Mode::Audit), Mode::Audit) => Some(Mode::Audit),
            _ => Some(Mode::Enforce),
        };
        if !file.tests.is_empty() {
            let own = self.rules.iter().skip(first).cloned().collect();
            load::run_tests(&file, &Ruleset::new(own, file.mode, 0))?;
        }
        Ok(self)
    }

    /// Adds a rule made in code.
    ///
    /// # Errors
    /// The same as for a rule in a file.
    pub fn rule(mut self, rule: Rule) -> Result<Self, PolicyError> {
        let places = InCode(Arc::from(rule.origin.as_deref().unwrap_or("built in")));
        self.push(&rule, &places)?;
        Ok(self)
    }

    /// The number that every verdict shall carry: count up with each reload.
    #[must_use]
    pub fn generation(mut self, generation: u64) -> Self {
        self.generation = generation;
        self
    }

    /// Done.
    #[must_use]
    pub fn build(self) -> Ruleset {
        Ruleset::new(self.rules, self.mode.unwrap_or_default(), self.generation)
    }

    fn push(&mut self, rule: &Rule, places: &dyn Places) -> Result<(), PolicyError> {
        if self.rules.len() >= RULES_MAX {
            return Err(PolicyError::TooManyRules { at: places.place(""), max: RULES_MAX });
        }
        let compiled = compile(rule, &self.free_id(rule.effect), places)?;
        if let Some(first) = self.ids.get(&compiled.id).and_then(|position| self.rules.get(*position)) {
            let first = match first.line {
                0 => first.file.to_string(),
                line => format!("{}:{line}", first.file),
            };
            return Err(PolicyError::DuplicateId { at: places.place("id"), id: compiled.id, first });
        }
        self.ids.insert(compiled.id.clone(), self.rules.len());
        self.rules.push(compiled);
        Ok(())
    }

    /// `allow-1`, `deny-2`…, by position; the next free one where the user has taken that name.
    fn free_id(&self, effect: Effect) -> String {
        let mut ids = (self.rules.len().saturating_add(1)..).map(|number| format!("{effect}-{number}"));
        ids.find(|id| !self.ids.contains_key(id.as_str())).unwrap_or_default()
    }
}
