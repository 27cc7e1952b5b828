//! Policy files to one rule set.

use std::path::PathBuf;

use glue::policy_files::load_with;
use glue::registries::Machine;
use policy::{Ruleset, RulesetBuilder};

use crate::error::{Error, Result};

/// As `run` would load them, but for where they stand: it refuses those that its sandbox may write to, which only its
/// options tell.
pub fn enforced(files: &[PathBuf]) -> Result<Ruleset> {
    load(RulesetBuilder::new(), files)
}

/// Also where their tests fail.
pub fn untested(files: &[PathBuf]) -> Result<Ruleset> {
    load(RulesetBuilder::new().even_if_tests_fail(), files)
}

fn load(builder: RulesetBuilder, files: &[PathBuf]) -> Result<Ruleset> {
    match load_with(builder, files, &Machine::this(&[])) {
        Ok(loaded) => Ok(loaded.rules),
        Err(error) => Err(Error::PolicyFiles(error.to_string())),
    }
}
