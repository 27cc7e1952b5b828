//! `policy test`.

use policy::TestRun;
use serde_json::{Value, json};

use super::cli::PolicyFiles;
use super::{count, load};
use crate::error::Result;
use crate::report::{print, printable};

/// Exit code 0 if all pass, 1 if not.
pub fn test(files: &PolicyFiles, json: bool) -> Result<u8> {
    let rules = load::untested(&files.files)?;
    let runs = rules.tests();
    let failed = runs.iter().filter(|run| !run.passed()).count();
    let passed = runs.len().saturating_sub(failed);
    if json {
        let tests: Vec<Value> = runs.iter().map(object).collect();
        print(&json!({ "passed": passed, "failed": failed, "tests": tests }).to_string())?;
    } else {
        let places: Vec<String> =
            runs.iter().map(|run| printable(&format!("{}:{}", run.file, run.line))).collect();
        let width = places.iter().map(|place| place.chars().count()).max().unwrap_or(0);
        for (run, place) in runs.iter().zip(&places) {
            print(&line(run, place, width))?;
        }
        print(&format!("{}: {passed} passed, {failed} failed", count(runs.len(), "test")))?;
    }
    Ok(u8::from(failed > 0))
}

fn line(run: &TestRun, place: &str, width: usize) -> String {
    let request = printable(&run.request);
    match &run.failure {
        None => {
            let rule = run.rule.as_deref().map(|id| format!("  rule \"{id}\"")).unwrap_or_default();
            format!("✓ {place:<width$}  {:<5}  {request}{}", run.effect.as_str(), printable(&rule))
        }
        Some(failure) => {
            let rule = run.expect_rule.as_deref().map(|id| format!(" by rule \"{id}\"")).unwrap_or_default();
            let expected = format!("expected {}{}", run.expect, printable(&rule));
            format!(
                "✗ {place:<width$}  {:<5}  {request}\n    {expected}, got {}",
                run.effect.as_str(),
                printable(failure)
            )
        }
    }
}

fn object(run: &TestRun) -> Value {
    let mut value = json!(run);
    if let Some(object) = value.as_object_mut() {
        object.insert("passed".to_owned(), json!(run.passed()));
    }
    value
}
