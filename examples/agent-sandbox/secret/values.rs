//! `set`, `rotate`, `ls`, `rm`. Only the first two ever hold a value.

use credvault::limits::SECRET_BYTES_MIN;
use credvault::{StoreError, Stored};
use glue::stores::Opened;
use serde_json::{Value, json};

use super::cli::SecretArgs;
use super::when::{End, shown};
use super::{problem, read_value, say};
use crate::error::Result;

pub fn set(args: &SecretArgs, name: &str, not_after: Option<End>) -> Result<()> {
    if !credvault::is_env_name(name) {
        return Err(problem(name, "a name is also a variable of the sandbox: letters, digits and _"));
    }
    let end = end(name, not_after, None)?;
    // Before anybody types a key that could not be kept.
    let opened = open(args)?;
    put(args, &opened, name, end, "stored")
}

pub fn rotate(args: &SecretArgs, name: &str, not_after: Option<End>) -> Result<()> {
    let opened = open(args)?;
    let known = opened.store.entries().map_err(|error| problem(name, error))?;
    let Some(old) = known.into_iter().find(|stored| stored.name == name) else {
        let missing = StoreError::Missing { store: opened.store.describe(), name: name.to_owned() };
        return Err(problem(name, missing));
    };
    put(args, &opened, name, end(name, not_after, old.not_after_s)?, "rotated")
}

/// What was asked for, else the old one; never one that has passed: the value would not be sent once.
fn end(name: &str, not_after: Option<End>, old: Option<u64>) -> Result<Option<u64>> {
    let now_s = credvault::os_clock();
    match not_after.map(|end| end.at(now_s)).or(old) {
        Some(end) if end <= now_s => {
            let remedy =
                "give a later one with --not-after; `secret set` without it stores a value that has none";
            Err(problem(name, format!("its end, {}, has passed: {remedy}", shown(end))))
        }
        end => Ok(end),
    }
}

fn put(args: &SecretArgs, opened: &Opened, name: &str, not_after_s: Option<u64>, done: &str) -> Result<()> {
    let value = read_value("value")?;
    if value.len() < SECRET_BYTES_MIN {
        let text = format!(
            "a value shorter than {SECRET_BYTES_MIN} bytes cannot be kept out of answers: nothing was stored"
        );
        return Err(problem(name, text));
    }
    let stored = opened.store.put_until(name, &value, not_after_s).map_err(|error| problem(name, error))?;
    let end = stored.not_after_s.map(|end| format!(", until {}", shown(end))).unwrap_or_default();
    let text = format!("{done} {name} in {}: version {}{end}", opened.describe(), stored.version);
    let mut object = entry(&stored);
    object[done] = json!(name);
    object["store"] = json!(opened.store.describe());
    say(args, &text, object)
}

pub fn ls(args: &SecretArgs) -> Result<()> {
    let opened = open(args)?;
    let all = opened.store.entries().map_err(|error| problem("list", error))?;
    let now_s = credvault::os_clock();
    let row = |stored: &Stored| {
        let end = match stored.not_after_s {
            None => String::new(),
            Some(end) if end <= now_s => format!("  EXPIRED {}", shown(end)),
            Some(end) => format!("  until {}", shown(end)),
        };
        format!("\n{:<32} version {}{end}", stored.name, stored.version)
    };
    let rows: String = all.iter().map(row).collect();
    let object = json!({
        "store": opened.store.describe(), "passed": opened.passed,
        "names": all.iter().map(|stored| &stored.name).collect::<Vec<_>>(),
        "secrets": all.iter().map(entry).collect::<Vec<_>>(),
    });
    say(args, &format!("# {}{rows}", opened.describe()), object)
}

pub fn rm(args: &SecretArgs, name: &str) -> Result<()> {
    let opened = open(args)?;
    opened.store.delete(name).map_err(|error| problem(name, error))?;
    let object = json!({ "removed": name, "store": opened.store.describe() });
    say(args, &format!("removed {name} from {}", opened.describe()), object)
}

fn open(args: &SecretArgs) -> Result<Opened> {
    args.stores.open().map_err(|error| problem("store", error))
}

fn entry(stored: &Stored) -> Value {
    json!({
        "name": stored.name, "version": stored.version,
        "not_after": stored.not_after_s.map(shown), "not_after_s": stored.not_after_s,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_end_is_kept_unless_another_is_given_and_never_one_that_has_passed() {
        let (past, future) = (Some(1_000), Some(253_402_300_799));
        assert_eq!(end("K", None, None).unwrap(), None);
        assert_eq!(end("K", None, future).unwrap(), future);
        assert_eq!(end("K", future.map(End::At), past).unwrap(), future);
        assert!(end("K", Some(End::In(60)), future).unwrap() < future);
        for (given, old) in [(past.map(End::At), None), (past.map(End::At), future), (None, past)] {
            let error = end("K", given, old).unwrap_err().to_string();
            assert!(error.contains("1970-01-01T00:16:40Z") && error.contains("--not-after"), "{error}");
        }
    }
}
