//! `policy diff A B --audit LOG`.

use policy::Facts;
use policy::diff::{Change, Difference, change};
use serde_json::json;

use super::cli::DiffArgs;
use super::log::Log;
use super::{count, load, moment};
use crate::error::Result;
use crate::report::{print, printable};

/// Exit code 0 if nothing in the log changes, 1 if something does.
pub fn diff(args: &DiffArgs, json: bool) -> Result<u8> {
    let layers =
        |own: &std::path::PathBuf| -> Vec<_> { args.policies.iter().chain([own]).cloned().collect() };
    let (before, after) = (load::enforced(&layers(&args.before))?, load::enforced(&layers(&args.after))?);
    let log = Log::read(&args.audit)?;
    let now = moment(args.at);
    let (mut changes, mut counts) = (Vec::new(), [0usize; 3]);
    for attempt in &log.attempts {
        let facts = attempt.question.facts().at(now);
        let Some(change) = change(&before, &after, &facts) else { continue };
        counts[change.difference as usize] += 1;
        match json {
            true => changes.push(object(&change, &facts, attempt.count)),
            false => say(&change, &facts, attempt.count)?,
        }
    }
    let [allowed, denied, otherwise] = counts;
    let total = allowed + denied + otherwise;
    if json {
        let object = json!({
            "attempts": log.attempts.len(), "allowed": allowed, "denied": denied, "otherwise": otherwise,
            "changes": changes, "skipped": log.skipped,
        });
        print(&object.to_string())?;
    } else {
        print(&format!(
            "{total} of {} change: {allowed} allowed, {denied} denied, {otherwise} otherwise",
            count(log.attempts.len(), "attempt")
        ))?;
        log.skipped_text().map_or(Ok(()), |text| print(&text))?;
    }
    Ok(u8::from(total > 0))
}

fn object(change: &Change<'_>, facts: &Facts<'_>, count: usize) -> serde_json::Value {
    json!({
        "request": facts.to_string(), "count": count, "difference": change.difference,
        "depends_on_query": change.depends_on_query, "before": change.before, "after": change.after,
    })
}

fn say(change: &Change<'_>, facts: &Facts<'_>, times: usize) -> Result<()> {
    let query =
        if change.depends_on_query { ", depending on its query, which the log does not hold" } else { "" };
    let times = if times > 1 { format!(" ({times} times)") } else { String::new() };
    print(&format!("{:<9} {}{times}{query}", change.difference.as_str(), printable(&facts.to_string())))?;
    for (when, verdict) in [("before", &change.before), ("after", &change.after)] {
        let mut text = verdict.explain(facts).to_string();
        if change.difference == Difference::Otherwise {
            let credential =
                verdict.credential.map_or("no credential".to_owned(), |name| format!("credential {name}"));
            text = format!("{text}; {credential}, tls {:?}", verdict.tls)
                .replace("tls Inspect", "tls inspected")
                .replace("tls Opaque", "tls opaque");
        }
        print(&format!("    {when}: {}", printable(&text)))?;
    }
    Ok(())
}
