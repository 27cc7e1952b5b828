//! `policy lint`.

use policy::lint::Severity;
use serde_json::json;

use super::cli::LintArgs;
use super::{count, load, moment};
use crate::error::Result;
use crate::report::{print, printable};

/// Exit code 0 if there is nothing above a note, 1 if there is.
pub fn lint(args: &LintArgs, json: bool) -> Result<u8> {
    let rules = load::enforced(&args.policy.files)?;
    let findings = policy::lint::lint(&rules, moment(args.at));
    let of = |severity: Severity| findings.iter().filter(|finding| finding.severity == severity).count();
    let (errors, warnings, notes) = (of(Severity::Error), of(Severity::Warning), of(Severity::Note));
    if json {
        let object = json!({ "errors": errors, "warnings": warnings, "notes": notes, "findings": findings });
        print(&object.to_string())?;
    } else {
        for finding in &findings {
            print(&printable(&finding.to_string()))?;
        }
        let counts = [count(errors, "error"), count(warnings, "warning"), count(notes, "note")].join(", ");
        print(&format!("{}: {counts}", count(rules.rules().len(), "rule")))?;
    }
    Ok(u8::from(errors > 0 || warnings > 0))
}
