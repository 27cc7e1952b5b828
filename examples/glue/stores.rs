//! Which store holds the user's keys: how `--store` is written, what is there, and which one is used. Never falls
//! back from a store that is there and does not open, never prints a value; what is in use is for the program to show.

use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use credvault::{
    AgeFileStore, AgeKey, AskKey, ChooseError, KeyutilsStore, NoStoreReason, Secret, SecretServiceStore,
    Source, Store, StoreError, Surveyed, chosen, hmac_sha256, survey,
};

use crate::terminal;

/// Under this name our entries stand in the user's stores.
pub const APPLICATION: &str = "agent-sandbox";

/// Under this name an unlocked file's passphrase stands in the kernel's keyring.
const UNLOCKED: &str = "agent-sandbox.unlocked";

/// Variable that says which store, where `--store` does not.
pub const STORE_VARIABLE: &str = "AGENT_SANDBOX_STORE";

/// One `--store`.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub enum StoreSpec {
    /// The keyring if there is one, else the encrypted file at its usual place.
    #[default]
    Auto,
    /// The keyring of the desktop session, over D-Bus.
    SecretService,
    /// An age-encrypted file.
    AgeFile(PathBuf),
}

impl FromStr for StoreSpec {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.split_once(':') {
            None if text == "auto" => Ok(Self::Auto),
            None if text == "secret-service" => Ok(Self::SecretService),
            None if text == "age" => Ok(Self::AgeFile(usual_file()?)),
            Some(("age", path)) if !path.is_empty() => Ok(Self::AgeFile(PathBuf::from(path))),
            _ => Err("expected auto, secret-service, age or age:FILE".to_owned()),
        }
    }
}

/// Where keys are kept, as a user says it: options of both programs.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct StoreArgs {
    /// Where keys are kept: auto, secret-service, age or age:FILE [default: $AGENT_SANDBOX_STORE, else auto]
    #[arg(long, value_name = "STORE", global = true)]
    pub store: Option<StoreSpec>,
    /// Open the age file with the identity (AGE-SECRET-KEY-1…) in FILE instead of a passphrase
    #[arg(long, value_name = "FILE", global = true, value_parser = crate::command_line::file)]
    pub identity: Option<PathBuf>,
    /// Set once nobody is to be asked for a passphrase any more; shared with what was made of this.
    #[arg(skip)]
    silent: Arc<AtomicBool>,
}

/// Why no store could be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// It is there, and locked; with the remedy.
    #[error("{0}")]
    Locked(String),
    /// Any other reason, with the remedy.
    #[error("{0}")]
    Other(String),
}

impl StoreArgs {
    /// This store alone, without a command line.
    #[must_use]
    pub fn of(store: StoreSpec, identity: Option<PathBuf>) -> Self {
        Self { store: Some(store), identity, ..Self::default() }
    }

    /// The store that was asked for, by option or by variable.
    ///
    /// # Errors
    /// A variable that is not understood.
    pub fn spec(&self) -> Result<StoreSpec, String> {
        if let Some(spec) = &self.store {
            return Ok(spec.clone());
        }
        match std::env::var(STORE_VARIABLE) {
            Ok(text) => text.parse().map_err(|error| format!("{STORE_VARIABLE}: {error}")),
            Err(_) => Ok(StoreSpec::Auto),
        }
    }

    /// The file that is meant, for verbs that work on a file only.
    ///
    /// # Errors
    /// The keyring was asked for, or there is no home to find the usual file in.
    pub fn file(&self) -> Result<PathBuf, String> {
        match self.spec()? {
            StoreSpec::AgeFile(path) => Ok(path),
            StoreSpec::Auto => usual_file(),
            StoreSpec::SecretService => {
                Err("the keyring is unlocked by its own program; this is for --store age:FILE".to_owned())
            }
        }
    }

    /// The stores that may be used, in their order; nothing is opened yet.
    ///
    /// # Errors
    /// What cannot be a store.
    pub fn candidates(&self) -> Result<Vec<Box<dyn Store>>, String> {
        let keyring = || SecretServiceStore::new(APPLICATION).map_err(|error| error.to_string());
        let file = |path: PathBuf| AgeFileStore::asking(&path, self.key_of(&path));
        Ok(match self.spec()? {
            StoreSpec::SecretService => vec![Box::new(keyring()?)],
            StoreSpec::AgeFile(path) => vec![Box::new(file(path))],
            StoreSpec::Auto => {
                let mut all: Vec<Box<dyn Store>> = vec![Box::new(keyring()?)];
                if let Ok(path) = usual_file() {
                    all.push(Box::new(file(path)));
                }
                all
            }
        })
    }

    /// Probes the candidates and takes the first usable one.
    ///
    /// # Errors
    /// Why none can be used, with the remedy.
    pub fn open(&self) -> Result<Opened, OpenError> {
        let mut stores = self.candidates().map_err(OpenError::Other)?;
        let surveyed = survey(stores.iter().map(|store| &**store));
        let passed = passed(&surveyed);
        let place = chosen(surveyed).map_err(|error| match &error {
            ChooseError::Unusable(StoreError::Locked { .. }) => OpenError::Locked(error.to_string()),
            ChooseError::None(text) if text.contains(&NoStoreReason::NoFile.to_string()) => {
                OpenError::Other(format!("{error}\n  the file is made by `agent-sandbox secret init`"))
            }
            _ => OpenError::Other(error.to_string()),
        })?;
        Ok(Opened { store: Arc::from(stores.swap_remove(place)), passed })
    }

    /// From now on nobody is asked for a passphrase: whatever asks for a key is no longer the user's doing.
    pub fn stop_asking(&self) {
        self.silent.store(true, Ordering::Relaxed);
    }

    /// The key of the file: the identity that was named; what `secret unlock` left; or what the user types.
    #[must_use]
    pub fn key_of(&self, path: &Path) -> AskKey {
        let (path, identity, silent) = (path.to_owned(), self.identity.clone(), Arc::clone(&self.silent));
        Box::new(move || match &identity {
            Some(file) => identity_in(file).map(Some),
            None => Ok(kept_passphrase(&path)
                .or_else(|| {
                    let question = format!("passphrase of {}: ", path.display());
                    if silent.load(Ordering::Relaxed) { None } else { terminal::ask_hidden(&question) }
                })
                .map(AgeKey::Passphrase)),
        })
    }
}

/// The store in use.
pub struct Opened {
    /// The store itself.
    pub store: Arc<dyn Store>,
    /// Why those before it are not used, one text each.
    pub passed: Vec<String>,
}

impl Opened {
    /// Which store, and why not another, for the user.
    #[must_use]
    pub fn describe(&self) -> String {
        let passed: String = self.passed.iter().map(|why| format!(" ({why})")).collect();
        format!("{}{passed}", self.store.describe())
    }
}

/// Those that were absent before the first usable one.
fn passed(surveyed: &[Surveyed]) -> Vec<String> {
    surveyed.iter().map_while(|one| one.found.as_ref().err()).map(ToString::to_string).collect()
}

/// `secrets.age` in the user's configuration folder.
///
/// # Errors
/// Neither `XDG_CONFIG_HOME` nor `HOME` is set.
pub fn usual_file() -> Result<PathBuf, String> {
    let set = |name| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let config = set("XDG_CONFIG_HOME").or_else(|| set("HOME").map(|home| home.join(".config")));
    let folder = config.filter(|folder| folder.is_absolute()).map(|folder| folder.join(APPLICATION));
    folder.map(|folder| folder.join("secrets.age")).ok_or_else(|| "no home folder: write age:FILE".to_owned())
}

/// An identity file is a secret as well: refused if others may read it.
///
/// # Errors
/// The file's, worded for the user.
pub fn identity_in(file: &Path) -> Result<AgeKey, String> {
    let none = credvault::MemoryStore::new();
    let text = Source::File(file.to_owned()).fetch("identity", &none).map_err(|error| error.to_string())?;
    Ok(AgeKey::Identity(text))
}

/// Keeps the passphrase of a file in the kernel's keyring for `seconds`.
///
/// # Errors
/// The kernel has no keyring for us.
pub fn keep_passphrase(path: &Path, passphrase: &Secret, seconds: u32) -> Result<(), StoreError> {
    KeyutilsStore::new(UNLOCKED, seconds)?.put(&name_of(path), passphrase)
}

/// Removes what [`keep_passphrase`] kept; whether there was something.
#[must_use]
pub fn forget_passphrase(path: &Path) -> bool {
    KeyutilsStore::new(UNLOCKED, 0).and_then(|cache| cache.delete(&name_of(path))).is_ok()
}

fn kept_passphrase(path: &Path) -> Option<Secret> {
    KeyutilsStore::new(UNLOCKED, 0).ok()?.get(&name_of(path)).ok()
}

/// A name of its own for each file, of characters that every store takes.
fn name_of(path: &Path) -> String {
    let real = std::fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    let bytes = real.as_os_str().as_encoded_bytes();
    // Not for secrecy: a fixed-length name out of a path.
    let tag = hmac_sha256(&Secret::new(UNLOCKED.as_bytes().to_vec()), &[bytes]);
    tag.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forms_of_a_store() {
        assert_eq!("auto".parse(), Ok(StoreSpec::Auto));
        assert_eq!("secret-service".parse(), Ok(StoreSpec::SecretService));
        assert_eq!("age:/a/b.age".parse(), Ok(StoreSpec::AgeFile("/a/b.age".into())));
        for bad in ["", "age:", "plain:/a", "file:/a", "secret-service:x"] {
            assert!(StoreSpec::from_str(bad).unwrap_err().contains("age:FILE"), "{bad}");
        }
    }

    #[test]
    fn an_identity_that_cannot_be_read_is_the_reason_and_not_a_locked_store() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().unwrap();
        let (path, identity) = (folder.path().join("s.age"), folder.path().join("me.txt"));
        AgeFileStore::new(&path, AgeKey::Identity(AgeKey::new_identity())).create().unwrap();
        let args = StoreArgs::of(StoreSpec::AgeFile(path), Some(identity.clone()));
        let get = || args.open().unwrap().store.get("K").map(|_| ()).unwrap_err().to_string();
        let missing = get();
        assert!(missing.contains("me.txt") && missing.contains("cannot be read"), "{missing}");
        std::fs::write(&identity, AgeKey::new_identity().expose()).unwrap();
        std::fs::set_permissions(&identity, std::fs::Permissions::from_mode(0o644)).unwrap();
        let exposed = get();
        assert!(
            exposed.contains("me.txt") && exposed.contains("0600") && !exposed.contains("locked"),
            "{exposed}"
        );
    }

    #[test]
    fn a_named_file_is_the_only_candidate() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("s.age");
        let args = StoreArgs { store: Some(StoreSpec::AgeFile(path.clone())), ..StoreArgs::default() };
        assert_eq!(args.candidates().unwrap().len(), 1);
        assert_eq!(args.file(), Ok(path));
        let error = args.open().map(|_| ()).unwrap_err().to_string();
        assert!(error.contains("s.age") && error.contains("does not exist"), "{error}");
        assert!(error.contains("agent-sandbox secret init"), "{error}");
        let keyring = StoreArgs { store: Some(StoreSpec::SecretService), ..StoreArgs::default() };
        assert!(keyring.file().unwrap_err().contains("age:FILE"));
        assert_ne!(name_of(Path::new("/a")), name_of(Path::new("/b")));
        assert_eq!(name_of(Path::new("/a")).len(), 64);
    }
}
