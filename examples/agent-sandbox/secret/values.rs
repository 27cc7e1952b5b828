//! `set`, `rotate`, `ls`, `rm`. Only the first two ever hold a value.

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
    // Before anybody types a key that could not be kept.
    let opened = open(args)?;
    put(args, &opened, name, not_after, "stored")
}

pub fn rotate(args: &SecretArgs, name: &str, not_after: Option<End>) -> Result<()> {
    let opened = open(args)?;
    let known = opened.store.entries().map_err(|error| problem(name, error))?;
    if !known.iter().any(|stored| stored.name == name) {
        let missing = StoreError::Missing { store: opened.store.describe(), name: name.to_owned() };
        return Err(problem(name, missing));
    }
    put(args, &opened, name, not_after, "rotated")
}

fn put(args: &SecretArgs, opened: &Opened, name: &str, not_after: Option<End>, done: &str) -> Result<()> {
    let value = read_value("value")?;
    let not_after_s = not_after.map(|end| end.at(credvault::os_clock()));
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
