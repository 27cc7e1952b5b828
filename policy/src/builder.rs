//! Puts a rule set together: files with what they include, and rules made in code.

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::sync::Arc;

use crate::compile::{InCode, Places, compile};
use crate::decide::ceiling_bit;
use crate::error::PolicyError;
use crate::limits::{CEILINGS_MAX, INCLUDE_DEPTH_MAX, INCLUDES_MAX, REGISTRY_HOSTS_MAX, RULES_MAX};
use crate::load::{self, File, Written};
use crate::pattern::PatternError;
use crate::presets;
use crate::rule::{Compiled, Rule};
use crate::ruleset::{AuditLayers, Mode, Ruleset};
use crate::sources::{Includes, Registry, RegistryHosts};
use crate::test_run::{TestRun, run_tests};
use crate::verdict::Effect;

/// Puts a rule set together from files and from rules made in code.
#[derive(Debug, Default)]
pub struct RulesetBuilder {
    rules: Vec<Compiled>,
    /// Of the rules so far, to their positions.
    ids: HashMap<Box<str>, usize>,
    ceilings: Vec<Arc<str>>,
    mode: Option<Mode>,
    /// Of the file that is being added; rules made in code are enforced.
    layer_mode: Mode,
    audit: AuditLayers,
    generation: u64,
    tests: Vec<TestRun>,
    /// Tests that fail are only noted.
    lenient: bool,
    hooks: Hooks,
}

/// What the embedder reads for us.
#[derive(Default, Clone)]
struct Hooks {
    includes: Option<Arc<dyn Includes>>,
    registries: Option<Arc<dyn RegistryHosts>>,
}

/// Where a file stands that is being added.
struct Within {
    layer: Arc<str>,
    /// As in a compiled rule.
    ceiling: u8,
    /// Files of this layer so far: each counts once.
    seen: HashSet<String>,
    /// The same for presets, which are no files and do not count as such: where the rules of each are.
    presets: HashMap<String, Vec<usize>>,
    /// Those that are being read, outermost first.
    open: Vec<String>,
}

impl RulesetBuilder {
    /// Without rules.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Who reads what `include` names; without, a policy with `include` does not load. To be given before
    /// [`RulesetBuilder::source`].
    #[must_use]
    pub fn includes(mut self, includes: impl Includes + 'static) -> Self {
        self.hooks.includes = Some(Arc::new(includes));
        self
    }

    /// Who knows the hosts of package registries; without, a policy that needs them does not load. To be
    /// given before [`RulesetBuilder::source`].
    #[must_use]
    pub fn registry_hosts(mut self, registries: impl RegistryHosts + 'static) -> Self {
        self.hooks.registries = Some(Arc::new(registries));
        self
    }

    /// Adds a policy file as a layer, with what it includes. Its tests are run against this layer
    /// alone, so that they hold wherever it is used.
    ///
    /// # Errors
    /// See [`PolicyError`].
    pub fn source(mut self, text: &str, file_name: &str) -> Result<Self, PolicyError> {
        let file = load::read(text, file_name)?;
        let layer = Arc::clone(&file.text.name);
        if file.ceiling {
            if self.ceilings.len() >= CEILINGS_MAX {
                return Err(PolicyError::TooManyCeilings { file: layer, max: CEILINGS_MAX });
            }
            self.ceilings.push(Arc::clone(&layer));
        }
        let number = if file.ceiling { u8::try_from(self.ceilings.len()).unwrap_or(u8::MAX) } else { 0 };
        let name = file_name.to_owned();
        let mut within = Within {
            layer,
            ceiling: number,
            seen: HashSet::from([name.clone()]),
            presets: HashMap::new(),
            open: vec![name],
        };
        self.layer_mode = file.mode.unwrap_or_default();
        self.add_file(&file, &mut within)?;
        self.note_mode(within.layer, number);
        // Audit is a weakening, so all must agree.
        self.mode = match (self.mode, file.mode.unwrap_or_default()) {
            (None | Some(Mode::Audit), Mode::Audit) => Some(Mode::Audit),
            _ => Some(Mode::Enforce),
        };
        Ok(self)
    }

    fn note_mode(&mut self, layer: Arc<str>, ceiling: u8) {
        match std::mem::take(&mut self.layer_mode) {
            Mode::Audit => {
                self.audit.names.push(layer);
                if ceiling != 0 {
                    self.audit.ceilings |= ceiling_bit(ceiling);
                }
            }
            Mode::Enforce => self.audit.enforced_floor |= ceiling == 0,
        }
    }

    /// Adds a rule made in code.
    ///
    /// # Errors
    /// The same as for a rule in a file.
    pub fn rule(mut self, rule: Rule) -> Result<Self, PolicyError> {
        let origin: Arc<str> = Arc::from(rule.origin.as_deref().unwrap_or("built in"));
        let places = InCode(Arc::clone(&origin));
        self.push(&rule, (&origin, 0), &places)?;
        Ok(self)
    }

    /// Loads a policy also where its tests fail, for a program that shows which do ([`Ruleset::tests`]). Not for one
    /// that enforces it. To be given before [`RulesetBuilder::source`].
    #[must_use]
    pub fn even_if_tests_fail(mut self) -> Self {
        self.lenient = true;
        self
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
        let mode = self.mode.unwrap_or_default();
        let rules = Ruleset::new(self.rules, self.ceilings, mode, self.generation);
        rules.recording(self.audit).with_tests(self.tests)
    }

    fn add_file(&mut self, file: &File, within: &mut Within) -> Result<(), PolicyError> {
        let first = self.rules.len();
        for (name, at) in &file.includes {
            self.include(file, name, *at, within)?;
        }
        for written in &file.rules {
            self.add_rule(written, within)?;
        }
        // Last, so that a preset that grows changes neither the user's ids nor which of two like rules is named.
        let mut of_presets = Vec::new();
        for (name, at) in &file.presets {
            of_presets.extend(self.use_preset(file, name, *at, within)?);
        }
        // A preset that another file of the layer used before is there already, and this file's tests count on it.
        let before = of_presets.iter().filter(|position| **position < first);
        let before = before.filter_map(|position| self.rules.get(*position));
        if !file.tests.is_empty() {
            let mut own: Vec<Compiled> = self.rules.iter().skip(first).chain(before).cloned().collect();
            own.iter_mut().for_each(|rule| rule.ceiling = 0);
            let own = Ruleset::new(own, Vec::new(), file.mode.unwrap_or_default(), 0);
            self.tests.extend(run_tests(file, &own, !self.lenient)?);
        }
        Ok(())
    }

    /// Where the rules are that it means. Its own tests are run when this crate is tested, not at each load.
    fn use_preset(
        &mut self,
        file: &File,
        name: &str,
        at: usize,
        within: &mut Within,
    ) -> Result<Vec<usize>, PolicyError> {
        let Some(text) = presets::text(name) else {
            let (at, nearest) = (file.text.locate(at), presets::nearest(name));
            return Err(PolicyError::Preset { at, name: name.into(), nearest });
        };
        let title = format!("{}{name}", presets::FILE_PREFIX);
        if let Some(rules) = within.presets.get(&title) {
            return Ok(rules.clone());
        }
        // Known from here on, so that one that used itself would end.
        within.presets.insert(title.clone(), Vec::new());
        let preset = load::read(text, &title)?;
        let mut rules = Vec::new();
        for (name, _) in &preset.presets {
            rules.extend(self.use_preset(file, name, at, within)?);
        }
        let first = self.rules.len();
        for written in &preset.rules {
            // Each layer may use it, and each rule needs a name of its own.
            let mut written = written.clone();
            written.rule.id = written.rule.id.map(|id| self.free_variant(id));
            self.add_rule(&written, within).map_err(|error| match error {
                // Where the user can write something else.
                PolicyError::Registry { registry, problem, .. } => {
                    PolicyError::Registry { at: file.text.locate(at), registry, problem }
                }
                other => other,
            })?;
        }
        rules.extend(first..self.rules.len());
        within.presets.insert(title, rules.clone());
        Ok(rules)
    }

    fn include(
        &mut self,
        file: &File,
        wanted: &str,
        at: usize,
        within: &mut Within,
    ) -> Result<(), PolicyError> {
        let refused = |problem: String| PolicyError::Include {
            at: file.text.locate(at),
            wanted: wanted.into(),
            problem,
        };
        let Some(reader) = self.hooks.includes.clone() else {
            return Err(refused("nothing can be included here; put it into this file".to_owned()));
        };
        let included = reader.read(&file.text.name, wanted).map_err(refused)?;
        if within.open.contains(&included.name) {
            return Err(refused("it includes itself; leave one of the two out".to_owned()));
        }
        if within.open.len() >= INCLUDE_DEPTH_MAX || within.seen.len() >= INCLUDES_MAX {
            let limits = format!("at most {INCLUDE_DEPTH_MAX} deep and {INCLUDES_MAX} in all");
            return Err(refused(format!("too many files ({limits}); put some together")));
        }
        if !within.seen.insert(included.name.clone()) {
            return Ok(());
        }
        let inner = load::read(&included.text, &included.name)?;
        if inner.ceiling || inner.mode.is_some() {
            let problem = "`ceiling` and `mode` belong to the file that includes, not to the included one";
            return Err(refused(problem.to_owned()));
        }
        within.open.push(included.name);
        let added = self.add_file(&inner, within);
        within.open.pop();
        added
    }

    fn add_rule(&mut self, written: &Written, within: &Within) -> Result<(), PolicyError> {
        let layer = (&within.layer, within.ceiling);
        match &written.registry {
            None => self.push(&written.rule, layer, &written.places),
            Some(name) => self.add_registry(written, name, layer),
        }
    }

    /// One rule for each scheme and port, since a rule's hosts and ports are independent.
    fn add_registry(
        &mut self,
        written: &Written,
        name: &str,
        layer: (&Arc<str>, u8),
    ) -> Result<(), PolicyError> {
        let (rule, places) = (&written.rule, &written.places);
        let taken =
            rule.hosts.is_some() || rule.cidrs.is_some() || rule.ports.is_some() || rule.schemes.is_some();
        let id = rule.id.clone().unwrap_or_else(|| self.free_id(rule.effect));
        if taken || rule.tcp {
            let conflict = crate::error::Conflict::RegistryTarget;
            return Err(PolicyError::Rule { at: places.place("registry"), id: id.into(), conflict });
        }
        let Some(registry) = Registry::parse(name) else {
            let (at, value) = (places.place("registry"), name.to_owned());
            return Err(PolicyError::Value { at, key: "registry", value, source: PatternError::Registry });
        };
        let refused =
            |problem: String| PolicyError::Registry { at: places.place("registry"), registry, problem };
        let Some(reader) = &self.hooks.registries else {
            return Err(refused("nobody here reads its configuration; name the hosts yourself".to_owned()));
        };
        let mut hosts = reader.hosts(registry).map_err(refused)?;
        hosts.sort();
        hosts.dedup();
        if hosts.is_empty() || hosts.len() > REGISTRY_HOSTS_MAX {
            return Err(refused(format!("its configuration names {} hosts", hosts.len())));
        }
        hosts.sort_by_key(|host| (host.port, host.scheme.as_str()));
        let groups = hosts.chunk_by(|one, other| (one.scheme, one.port) == (other.scheme, other.port));
        for (number, group) in (1..).zip(groups) {
            let Some(first) = group.first() else { continue };
            let id = if number == 1 { id.clone() } else { self.free_variant(format!("{id}-{number}")) };
            let base = rule.clone().id(id).port(first.port).scheme(first.scheme.as_str());
            let rule = group.iter().fold(base, |rule, host| rule.host(&host.host));
            self.push(&rule, layer, places)?;
        }
        Ok(())
    }

    fn push(&mut self, rule: &Rule, layer: (&Arc<str>, u8), places: &dyn Places) -> Result<(), PolicyError> {
        if self.rules.len() >= RULES_MAX {
            return Err(PolicyError::TooManyRules { at: places.place(""), max: RULES_MAX });
        }
        let fallback = if rule.id.is_some() { String::new() } else { self.free_id(rule.effect) };
        let compiled = Compiled { mode: self.layer_mode, ..compile(rule, &fallback, layer, places)? };
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

    /// This id, or where it is taken, one with the next free number.
    fn free_variant(&self, id: String) -> String {
        let numbered = (2_u32..).map(|number| format!("{id}-{number}"));
        let mut ids = std::iter::once(id.clone()).chain(numbered);
        ids.find(|id| !self.ids.contains_key(id.as_str())).unwrap_or(id)
    }

    /// `allow-1`, `deny-2`…, by position; the next free one where the user has taken that name.
    pub(crate) fn free_id(&self, effect: Effect) -> String {
        let mut ids = (self.rules.len().saturating_add(1)..).map(|number| format!("{effect}-{number}"));
        ids.find(|id| !self.ids.contains_key(id.as_str())).unwrap_or_default()
    }
}

impl fmt::Debug for Hooks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (includes, registries) = (self.includes.is_some(), self.registries.is_some());
        write!(f, "Hooks {{ includes: {includes}, registries: {registries} }}")
    }
}
