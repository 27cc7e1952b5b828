//! `stores`, `init`, `unlock`, `lock`: where keys are kept.

use std::fs;
use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::Path;
use std::time::Duration;

use credvault::{AgeFileStore, AgeKey, Secret, StoreError, chosen, survey};
use glue::stores::{forget_passphrase, identity_in, keep_passphrase};
use serde_json::json;

use super::cli::SecretArgs;
use super::{problem, read_passphrase, say};
use crate::error::{Error, Result};

/// Says what is there; that nothing can be used is an answer, not a failure.
pub fn stores(args: &SecretArgs) -> Result<()> {
    let stores = args.stores.candidates().map_err(|error| problem("store", error))?;
    let surveyed = survey(stores.iter().map(|store| &**store));
    let found: Vec<_> = surveyed
        .iter()
        .map(|one| {
            let problem = one.found.as_ref().err();
            (one.store.clone(), problem.map(kind), problem.map(ToString::to_string))
        })
        .collect();
    let used = chosen(surveyed).ok();
    let line = |(place, (store, _, problem)): (usize, &(String, _, Option<String>))| match problem {
        Some(problem) => format!("✗ {store}\n    {problem}"),
        None if used == Some(place) => format!("✓ {store}\n    in use"),
        None => format!("- {store}\n    not used: one before it is"),
    };
    let text: Vec<String> = found.iter().enumerate().map(line).collect();
    let objects: Vec<_> = found
        .iter()
        .enumerate()
        .map(|(place, (store, kind, problem))| {
            json!({ "store": store, "state": kind.unwrap_or("usable"), "problem": problem, "used": used == Some(place) })
        })
        .collect();
    say(args, &text.join("\n"), json!({ "stores": objects }))
}

fn kind(error: &StoreError) -> &'static str {
    match error {
        StoreError::Locked { .. } => "locked",
        StoreError::Denied { .. } => "denied",
        StoreError::NoStore { .. } => "absent",
        StoreError::Exposed { .. } => "exposed",
        StoreError::Damaged { .. } => "damaged",
        _ => "failed",
    }
}

/// Creates the file, and its folder.
pub fn init(args: &SecretArgs) -> Result<()> {
    let path = args.stores.file().map_err(|error| problem("store", error))?;
    if let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
        let made = fs::DirBuilder::new().recursive(true).mode(0o700).create(folder);
        made.map_err(Error::io("the folder of the age file cannot be made"))?;
    }
    let key = match &args.stores.identity {
        Some(file) => {
            if !file.exists() {
                write_identity(file, &AgeKey::new_identity())?;
            }
            identity_in(file).map_err(|error| problem("identity", error))?
        }
        None => AgeKey::Passphrase(new_passphrase(&path)?),
    };
    let store = AgeFileStore::new(&path, key);
    store.create().map_err(|error| problem("store", error))?;
    let describe = credvault::Store::describe(&store);
    say(args, &format!("created {describe}"), json!({ "created": describe, "path": path }))
}

/// Typed twice, as a mistake would lose every key; once where a program writes it.
fn new_passphrase(path: &Path) -> Result<Secret> {
    let first = read_passphrase(&format!("new passphrase of {}: ", path.display()))?;
    if std::io::IsTerminal::is_terminal(&std::io::stdin()) && first != read_passphrase("the same again: ")? {
        return Err(problem("passphrase", "the two are not the same; nothing was created"));
    }
    Ok(first)
}

fn write_identity(file: &Path, identity: &Secret) -> Result<()> {
    let opened = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(file);
    let written = opened.and_then(|mut file| {
        // Reason to expose: this file is where the identity is kept.
        file.write_all(identity.expose())?;
        file.write_all(b"\n")?;
        file.sync_all()
    });
    let remedy = "name another file with --identity";
    written.map_err(|source| Error::Write { path: file.to_owned(), source, remedy })
}

/// Checks the passphrase and keeps it for a time.
pub fn unlock(args: &SecretArgs, time: Duration) -> Result<()> {
    let path = args.stores.file().map_err(|error| problem("store", error))?;
    // Before anybody types: is there a file that could be unlocked?
    let probe = AgeFileStore::asking(&path, Box::new(|| Ok(None)));
    credvault::Store::probe(&probe).map_err(|error| problem("store", error))?;
    let passphrase = read_passphrase(&format!("passphrase of {}: ", path.display()))?;
    let store = AgeFileStore::new(&path, AgeKey::Passphrase(passphrase.duplicate()));
    store.unlock().map_err(|error| problem("store", error))?;
    let seconds = u32::try_from(time.as_secs()).unwrap_or(u32::MAX);
    keep_passphrase(&path, &passphrase, seconds).map_err(|error| problem("unlock", error))?;
    let text = format!(
        "{} is unlocked for {seconds} s; until then every program of yours can read its passphrase",
        path.display()
    );
    say(args, &text, json!({ "unlocked": path, "seconds": seconds }))
}

pub fn lock(args: &SecretArgs) -> Result<()> {
    let path = args.stores.file().map_err(|error| problem("store", error))?;
    let was = forget_passphrase(&path);
    let text = if was { "locked" } else { "was not unlocked" };
    say(args, &format!("{} {text}", path.display()), json!({ "locked": path, "was_unlocked": was }))
}
