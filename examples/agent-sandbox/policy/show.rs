//! `policy show` and `policy schema`.

use policy::{Mode, RuleView};
use serde_json::json;

use super::cli::PolicyFiles;
use super::{count, load};
use crate::error::Result;
use crate::report::{print, printable};

/// Every rule in force, by layer: includes read, presets and registries replaced by what they stand for.
pub fn show(files: &PolicyFiles, json: bool) -> Result<u8> {
    let rules = load::enforced(&files.files)?;
    let views: Vec<RuleView<'_>> = rules.views().collect();
    let ceilings: Vec<&str> = rules.ceilings().collect();
    if json {
        print(&json!({ "mode": rules.mode(), "ceilings": ceilings, "rules": views }).to_string())?;
        return Ok(0);
    }
    for layer in views.chunk_by(|one, other| one.rule.layer == other.rule.layer) {
        let Some(first) = layer.first() else { continue };
        let name = first.rule.layer;
        let kind = if ceilings.contains(&name) {
            " (ceiling: allows nothing itself, bounds the others)"
        } else {
            ""
        };
        print(&printable(&format!("{name}{kind}")))?;
        for view in layer {
            let (effect, rule) = (view.rule.effect, view.rule);
            print(&printable(&format!("  {effect:<5} {} ({}:{})", rule.id, rule.file, rule.line)))?;
            print(&printable(&format!("        {view}")))?;
            rule.reason.map_or(Ok(()), |reason| print(&printable(&format!("        {reason}"))))?;
        }
    }
    let mode =
        if rules.mode() == Mode::Audit { "; mode = \"audit\": refusals are only recorded" } else { "" };
    print(&format!("{}{mode}", count(views.len(), "rule")))?;
    Ok(0)
}

/// The JSON Schema of a policy file, for editors.
pub fn schema() -> Result<u8> {
    print(policy::schema().trim_end())?;
    Ok(0)
}
