//! `policy suggest AUDIT`.

use policy::Ruleset;
use policy::suggest::{Suggestions, suggest as suggested};
use serde_json::json;

use super::cli::SuggestArgs;
use super::log::Log;
use super::{load, moment};
use crate::error::Result;
use crate::report::{print, printable};

/// Exit code 0 if the rules allow all that was refused, 1 if something had to be left out.
pub fn suggest(args: &SuggestArgs, json: bool) -> Result<u8> {
    let existing = match args.policies.as_slice() {
        [] => Ruleset::empty(),
        files => load::enforced(files)?,
    };
    let log = Log::read(&args.audit)?;
    let now = moment(args.at);
    let refused = || log.attempts.iter().filter(|attempt| attempt.refused);
    // Without the policy, the log alone knows what a rule denied.
    let is_open = |denied_by: &Option<String>| denied_by.is_none() || !args.policies.is_empty();
    let open = refused().filter(|attempt| is_open(&attempt.denied_by));
    let found = suggested(&existing, open.map(|attempt| attempt.question.facts().at(now)));
    let mut left_out: Vec<(String, String)> =
        found.left_out.iter().map(|out| (out.request.clone(), out.why.clone())).collect();
    for attempt in refused().filter(|attempt| !is_open(&attempt.denied_by)) {
        let rule = attempt.denied_by.as_deref().unwrap_or_default();
        left_out.push((
            attempt.question.facts().to_string(),
            format!("denied by rule \"{rule}\"; a deny wins over any allow"),
        ));
    }
    if json {
        let left_out: Vec<_> =
            left_out.iter().map(|(request, why)| json!({ "request": request, "why": why })).collect();
        let object = json!({
            "rules": found.rules, "left_out": left_out, "already_allowed": found.already_allowed,
            "skipped": log.skipped, "toml": found.to_toml(),
        });
        print(&object.to_string())?;
    } else {
        print(&text(&found, &left_out, &log))?;
    }
    Ok(u8::from(!left_out.is_empty()))
}

/// A policy file; what is no rule is a comment.
fn text(found: &Suggestions, left_out: &[(String, String)], log: &Log) -> String {
    let mut text = found.to_toml();
    let mut comment = |line: &str| text.push_str(&format!("\n# {}", printable(line)));
    for (request, why) in left_out {
        comment(&format!("Left out: {request}: {why}."));
    }
    if found.already_allowed > 0 {
        comment(&format!("The policy allows {} of what was refused by now.", found.already_allowed));
    }
    log.skipped_text().iter().for_each(|skipped| comment(&format!("{skipped}.")));
    text.trim_end().to_owned()
}
