//! Where secrets live when no sandbox runs. One trait; each store says openly which it is.
//!
//! Must never fall back: a store that cannot be used is an error that names the remedy, and which store
//! is in use is for the caller to show ([`Store::describe`]).

#[cfg(all(feature = "age-file", unix))]
mod age_file;
mod choose;
#[cfg(any(feature = "keychain", feature = "wincred"))]
mod core_store;
#[cfg(any(feature = "keychain", feature = "wincred", feature = "keyutils"))]
mod index;
#[cfg(all(feature = "keyutils", target_os = "linux"))]
mod keyutils;
mod memory;
#[cfg(feature = "secret-service")]
mod secret_service;

#[cfg(all(feature = "age-file", unix))]
pub use age_file::{AgeFileStore, AgeKey, AskKey};
pub use choose::{ChooseError, Surveyed, chosen, survey};
#[cfg(any(feature = "keychain", feature = "wincred"))]
pub use core_store::KeyringCoreStore;
#[cfg(all(feature = "keyutils", target_os = "linux"))]
pub use keyutils::KeyutilsStore;
pub use memory::MemoryStore;
#[cfg(feature = "secret-service")]
pub use secret_service::SecretServiceStore;

use crate::secret::Secret;

/// A place that keeps secrets by name.
///
/// Calls may block (D-Bus, disk): do not call from an async task.
pub trait Store: Send + Sync {
    /// Which store this is, in words for the user.
    fn describe(&self) -> String;

    /// Looks whether the store can be read now, without reading a value. Choose a store by this (see
    /// [`survey`]), not by whether it could be constructed.
    ///
    /// # Errors
    /// Anything but [`StoreError::Missing`].
    fn probe(&self) -> Result<(), StoreError> {
        self.entries().map(|_| ())
    }

    /// The newest value of a credential, and what is known of it.
    ///
    /// # Errors
    /// [`StoreError::Missing`] if there is none of this name.
    fn fetch(&self, name: &str) -> Result<(Secret, Stored), StoreError>;

    /// Stores a value as the next version, in place of an older one. It is not to be sent from `not_after_s` on
    /// (seconds since 1970).
    ///
    /// # Errors
    /// [`StoreError`]; the older value is still there then.
    fn put_until(&self, name: &str, value: &Secret, not_after_s: Option<u64>) -> Result<Stored, StoreError>;

    /// Deletes a value without reading it.
    ///
    /// # Errors
    /// [`StoreError::Missing`] if there is none of this name.
    fn delete(&self, name: &str) -> Result<(), StoreError>;

    /// What is known of all credentials, sorted by name, without reading a value.
    ///
    /// # Errors
    /// [`StoreError`].
    fn entries(&self) -> Result<Vec<Stored>, StoreError>;

    /// The value alone.
    ///
    /// # Errors
    /// As [`Store::fetch`].
    fn get(&self, name: &str) -> Result<Secret, StoreError> {
        self.fetch(name).map(|(value, _)| value)
    }

    /// Stores a value that has no end.
    ///
    /// # Errors
    /// As [`Store::put_until`].
    fn put(&self, name: &str, value: &Secret) -> Result<(), StoreError> {
        self.put_until(name, value, None).map(|_| ())
    }

    /// The names alone.
    ///
    /// # Errors
    /// As [`Store::entries`].
    fn list(&self) -> Result<Vec<String>, StoreError> {
        Ok(self.entries()?.into_iter().map(|stored| stored.name).collect())
    }
}

/// What a store knows of a credential without reading its value.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Stored {
    /// The credential.
    pub name: String,
    /// How often a value was stored under this name, from 1.
    pub version: u64,
    /// When it is to be sent no more, in seconds since 1970.
    pub not_after_s: Option<u64>,
}

impl Stored {
    /// The first version of a credential.
    #[must_use]
    pub fn first(name: &str, not_after_s: Option<u64>) -> Self {
        Self { name: name.to_owned(), version: 1, not_after_s }
    }

    /// The version after `older`, or the first.
    fn after(older: Option<&Self>, name: &str, not_after_s: Option<u64>) -> Self {
        let version = older.map_or(1, |older| older.version.saturating_add(1));
        Self { version, ..Self::first(name, not_after_s) }
    }
}

/// Why a store did not do what it was asked. Each variant has a different remedy.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// The store is there and locked.
    #[error("{store} is locked; {}", self.remedy())]
    Locked {
        /// Which store.
        store: String,
    },
    /// The store can be read and has no such credential.
    #[error("{store} has no credential `{name}`; {}", self.remedy())]
    Missing {
        /// Which store.
        store: String,
        /// The credential.
        name: String,
    },
    /// The store, or the person asked, said no.
    #[error("{store} refused access; {}", self.remedy())]
    Denied {
        /// Which store.
        store: String,
    },
    /// There is no such store on this machine or in this session.
    #[error("no {store}: {reason}; {}", self.remedy())]
    NoStore {
        /// Which store.
        store: String,
        /// What is absent.
        reason: NoStoreReason,
    },
    /// The passphrase or identity does not open the store.
    #[error("{store} does not open with this passphrase or identity; {}", self.remedy())]
    WrongKey {
        /// Which store.
        store: String,
    },
    /// What should open the store cannot be had.
    #[error("{store} cannot be opened: {reason}")]
    NoKey {
        /// Which store.
        store: String,
        /// What is wrong, with the remedy; no secret in it.
        reason: String,
    },
    /// The store's file was cut off or changed.
    #[error("{store} is damaged: {detail}; {}", self.remedy())]
    Damaged {
        /// Which store.
        store: String,
        /// What is wrong.
        detail: String,
    },
    /// Others may read or replace the store's file.
    #[error("{store} is refused: {detail}; {}", self.remedy())]
    Exposed {
        /// Which store.
        store: String,
        /// Who can.
        detail: String,
    },
    /// The name cannot be one.
    #[error("not a credential name; {}", self.remedy())]
    Name,
    /// The store broke off or answered nonsense.
    #[error("{store} failed: {detail}; {}", self.remedy())]
    Failed {
        /// Which store.
        store: String,
        /// What it said; no secret in it.
        detail: String,
    },
}

/// What is absent where a store should be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum NoStoreReason {
    /// The file of the store.
    #[error("the file does not exist")]
    NoFile,
    /// The system that this store belongs to.
    #[error("this system has none")]
    OtherSystem,
    /// The kernel's keyring.
    #[error("the kernel has no keyring for this process")]
    NoKernelKeyring,
    /// No session bus to ask on.
    #[error("there is no D-Bus session bus")]
    NoBus,
    /// A bus, and nobody on it who keeps secrets.
    #[error("no keyring program answers on the session bus")]
    NoService,
    /// A keyring program without a default keyring.
    #[error("the keyring has no default collection")]
    NoCollection,
}

impl StoreError {
    /// What the user can do, as a phrase.
    #[must_use]
    pub fn remedy(&self) -> &'static str {
        match self {
            Self::Locked { .. } => {
                "unlock the keyring (log in on the desktop, or open your keyring program and unlock it; for a file: give its passphrase) and try again"
            }
            Self::Missing { .. } => "store it first, or check the name in the list of stored names",
            Self::Denied { .. } => {
                "answer the keyring's question with yes, or allow this program in the keyring's settings"
            }
            Self::NoStore { reason: NoStoreReason::NoBus, .. } => {
                "run inside a desktop session, or start one with `dbus-run-session`, or take the value from another source"
            }
            Self::NoStore { reason: NoStoreReason::NoService, .. } => {
                "install and start a keyring (gnome-keyring, KWallet, KeePassXC), or take the value from another source"
            }
            Self::NoStore { reason: NoStoreReason::NoCollection, .. } => {
                "create a default keyring in your keyring program, or take the value from another source"
            }
            Self::NoStore { reason: NoStoreReason::OtherSystem, .. } => "choose a store that this system has",
            Self::NoStore { reason: NoStoreReason::NoFile, .. } => "create it, or correct the path",
            Self::NoStore { reason: NoStoreReason::NoKernelKeyring, .. } => {
                "allow keyctl(2) in the container, or choose another store"
            }
            Self::WrongKey { .. } => "type the passphrase again, or name the identity it was encrypted to",
            Self::Damaged { .. } => "restore it from a backup; nothing was changed",
            Self::Exposed { .. } => {
                "make it a regular file of your own with mode 0600, and change its values"
            }
            Self::NoKey { .. } => "correct what should open it",
            Self::Name => "use 1 to 64 characters of `A-Z a-z 0-9 - _ .`",
            Self::Failed { .. } => "look at the keyring program's own log and try again",
        }
    }
}

/// Checks a name before a store sees it.
fn checked_name(name: &str) -> Result<&str, StoreError> {
    if crate::binding::is_credential_name(name) { Ok(name) } else { Err(StoreError::Name) }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a program offers besides the keyring is not known here, so no option of it is named.
    #[test]
    fn without_a_keyring_another_source_is_the_remedy() {
        for reason in [NoStoreReason::NoBus, NoStoreReason::NoService, NoStoreReason::NoCollection] {
            let remedy = StoreError::NoStore { store: "the keyring".into(), reason }.remedy();
            assert!(remedy.ends_with("or take the value from another source"), "{remedy}");
        }
    }
}
