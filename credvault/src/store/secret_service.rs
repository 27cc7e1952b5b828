//! The user's keyring over D-Bus: the Secret Service API 0.2 of freedesktop.org, as GNOME Keyring, KWallet
//! and KeePassXC speak it. Values cross the bus encrypted with a session key (Diffie-Hellman and AES).
//!
//! Must never unlock, create a collection or prompt on its own, and never take another collection than
//! the default one: a locked keyring is an answer, not a reason to look elsewhere.

use std::collections::HashMap;
use std::time::Duration;

use secret_service::blocking::{Collection, Item, SecretService};
use secret_service::{EncryptionType, Error};
use zbus::blocking::connection::Builder;
use zeroize::Zeroize;

use super::{NoStoreReason, Store, StoreError, Stored, checked_name};
use crate::limits::{KEYRING_CALL_MS_MAX, STACK_CLEARED_BYTES};
use crate::secret::Secret;

/// The default collection of the user's keyring. Each call connects anew: calls are rare, and a keyring
/// that was restarted or locked meanwhile is then seen as it is.
pub struct SecretServiceStore {
    application: String,
    /// The bus's address; `None` for the session's own.
    bus: Option<String>,
}

/// Attributes by which items are found. `xdg:schema` is the convention of libsecret.
const SCHEMA: (&str, &str) = ("xdg:schema", "org.credvault.Credential");
const APPLICATION: &str = "application";
const NAME: &str = "credential";
/// Attributes that say more; items are not found by these, as older ones of the same name are to be found too.
const VERSION: &str = "version";
const NOT_AFTER: &str = "not-after";

impl SecretServiceStore {
    /// A store whose entries belong to `application`; entries of other programs are not seen. Nothing is
    /// connected yet: ask [`Store::probe`].
    ///
    /// # Errors
    /// [`StoreError::Name`] if `application` is not 1 to 64 characters of `A-Z a-z 0-9 - _ .`.
    pub fn new(application: &str) -> Result<Self, StoreError> {
        Ok(Self { application: checked_name(application)?.to_owned(), bus: None })
    }

    /// The same on another bus than the session's own, by its D-Bus address (`unix:path=…`).
    #[must_use]
    pub fn on_bus(mut self, address: &str) -> Self {
        self.bus = Some(address.to_owned());
        self
    }

    /// Connects, finds the default collection, checks that it is unlocked, and runs `with`.
    fn open<T>(&self, with: impl FnOnce(&Collection<'_>) -> Result<T, StoreError>) -> Result<T, StoreError> {
        let service = self.connect()?;
        let collection = match service.get_default_collection() {
            Err(Error::NoResult) => return Err(self.no_store(NoStoreReason::NoCollection)),
            other => other.map_err(|error| self.failed(error))?,
        };
        if collection.is_locked().map_err(|error| self.failed(error))? {
            return Err(StoreError::Locked { store: self.describe() });
        }
        with(&collection)
    }

    fn connect(&self) -> Result<SecretService<'static>, StoreError> {
        let builder = match &self.bus {
            Some(address) => Builder::address(address.as_str()),
            None => Builder::session(),
        };
        let bus = builder
            .and_then(|builder| builder.method_timeout(Duration::from_millis(KEYRING_CALL_MS_MAX)).build())
            .map_err(|_| self.no_store(NoStoreReason::NoBus))?;
        SecretService::connect_with_existing(EncryptionType::Dh, bus).map_err(|error| match error {
            Error::Unavailable => self.no_store(NoStoreReason::NoService),
            other => self.failed(other),
        })
    }

    /// The items of this application; of one credential, if named.
    fn items<'c>(
        &self,
        collection: &'c Collection<'_>,
        name: Option<&str>,
    ) -> Result<Vec<Item<'c>>, StoreError> {
        collection.search_items(self.attributes(name)).map_err(|error| self.failed(error))
    }

    /// The items of one name with what they say of themselves, newest first. There is more than one only while a
    /// value is being replaced, or if that was cut short.
    fn versions<'c>(
        &self,
        collection: &'c Collection<'_>,
        name: &str,
    ) -> Result<Vec<(Stored, Item<'c>)>, StoreError> {
        let mut found = Vec::new();
        for item in self.items(collection, Some(name))? {
            found.push((self.stored(&item)?.unwrap_or_else(|| Stored::first(name, None)), item));
        }
        if found.is_empty() {
            return Err(StoreError::Missing { store: self.describe(), name: name.to_owned() });
        }
        found.sort_by_key(|(stored, _)| std::cmp::Reverse(stored.version));
        Ok(found)
    }

    /// What an item says of itself; `None` without a name. Attributes that another program spoilt count as absent.
    fn stored(&self, item: &Item<'_>) -> Result<Option<Stored>, StoreError> {
        let mut attributes = item.get_attributes().map_err(|error| self.failed(error))?;
        let number = |text: Option<&String>| text.and_then(|text| text.parse().ok());
        let version = number(attributes.get(VERSION)).unwrap_or(1);
        let not_after_s = number(attributes.get(NOT_AFTER));
        Ok(attributes.remove(NAME).map(|name| Stored { name, version, not_after_s }))
    }

    fn attributes<'a>(&'a self, name: Option<&'a str>) -> HashMap<&'a str, &'a str> {
        [SCHEMA, (APPLICATION, self.application.as_str())]
            .into_iter()
            .chain(name.map(|name| (NAME, name)))
            .collect()
    }

    fn no_store(&self, reason: NoStoreReason) -> StoreError {
        StoreError::NoStore { store: self.describe(), reason }
    }

    fn failed(&self, error: Error) -> StoreError {
        let store = self.describe();
        match error {
            Error::Locked => StoreError::Locked { store },
            Error::Prompt => StoreError::Denied { store },
            Error::Unavailable => self.no_store(NoStoreReason::NoService),
            Error::Zbus(error) => self.bus_failed(store, error),
            Error::ZbusFdo(error) => self.fdo_failed(store, error),
            other => StoreError::Failed { store, detail: other.to_string() },
        }
    }

    fn bus_failed(&self, store: String, error: zbus::Error) -> StoreError {
        match error {
            zbus::Error::FDO(error) => self.fdo_failed(store, *error),
            zbus::Error::MethodError(name, detail, _) => self.named_failed(store, &name, detail),
            other => StoreError::Failed { store, detail: other.to_string() },
        }
    }

    fn named_failed(&self, store: String, name: &str, detail: Option<String>) -> StoreError {
        match name {
            "org.freedesktop.Secret.Error.IsLocked" => StoreError::Locked { store },
            "org.freedesktop.DBus.Error.ServiceUnknown" | "org.freedesktop.DBus.Error.NameHasNoOwner" => {
                self.no_store(NoStoreReason::NoService)
            }
            "org.freedesktop.DBus.Error.AccessDenied" => StoreError::Denied { store },
            _ => StoreError::Failed { store, detail: detail.unwrap_or_else(|| name.to_owned()) },
        }
    }

    fn fdo_failed(&self, store: String, error: zbus::fdo::Error) -> StoreError {
        use zbus::fdo::Error as Fdo;
        match error {
            Fdo::ServiceUnknown(_) | Fdo::NameHasNoOwner(_) => self.no_store(NoStoreReason::NoService),
            Fdo::AccessDenied(_) | Fdo::AuthFailed(_) => StoreError::Denied { store },
            Fdo::ZBus(error) => self.bus_failed(store, error),
            other => StoreError::Failed { store, detail: other.to_string() },
        }
    }
}

impl Store for SecretServiceStore {
    fn describe(&self) -> String {
        format!("keyring (Secret Service, entries of `{}`)", self.application)
    }

    fn probe(&self) -> Result<(), StoreError> {
        self.open(|_| Ok(()))
    }

    fn fetch(&self, name: &str) -> Result<(Secret, Stored), StoreError> {
        let name = checked_name(name)?;
        self.open(|collection| {
            let missing = || StoreError::Missing { store: self.describe(), name: name.to_owned() };
            let (stored, item) = self.versions(collection, name)?.into_iter().next().ok_or_else(missing)?;
            let value = item.get_secret().map_err(|error| self.failed(error));
            let secret = value.map(Secret::new);
            clear_stack();
            secret.map(|secret| (secret, stored))
        })
    }

    /// The new value is an item of its own before the older ones go: killed at any moment, one of them is whole.
    fn put_until(&self, name: &str, value: &Secret, not_after_s: Option<u64>) -> Result<Stored, StoreError> {
        let name = checked_name(name)?;
        self.open(|collection| {
            let older = match self.versions(collection, name) {
                Err(StoreError::Missing { .. }) => Vec::new(),
                other => other?,
            };
            let stored = Stored::after(older.first().map(|(stored, _)| stored), name, not_after_s);
            let (version, end) = (stored.version.to_string(), not_after_s.map(|end| end.to_string()));
            let mut attributes = self.attributes(Some(name));
            attributes.insert(VERSION, &version);
            attributes.extend(end.as_deref().map(|end| (NOT_AFTER, end)));
            let (label, replace) = (format!("{name} ({})", self.application), false);
            // Reason to expose: the keyring's client encrypts it for the bus.
            let secret = value.expose();
            let created = collection
                .create_item(&label, attributes, secret, replace, "application/octet-stream")
                .map(|_| ());
            clear_stack();
            created.map_err(|error| self.failed(error))?;
            for (_, item) in older {
                item.delete().map_err(|error| self.failed(error))?;
            }
            Ok(stored)
        })
    }

    fn delete(&self, name: &str) -> Result<(), StoreError> {
        let name = checked_name(name)?;
        self.open(|collection| {
            // Oldest first: cut short, what is left is the newest.
            for (_, item) in self.versions(collection, name)?.into_iter().rev() {
                item.delete().map_err(|error| self.failed(error))?;
            }
            Ok(())
        })
    }

    fn entries(&self) -> Result<Vec<Stored>, StoreError> {
        self.open(|collection| {
            let mut all = Vec::new();
            for item in self.items(collection, None)? {
                all.extend(self.stored(&item)?);
            }
            all.sort_unstable_by(|a, b| (&a.name, b.version).cmp(&(&b.name, a.version)));
            all.dedup_by(|later, first| later.name == first.name);
            Ok(all)
        })
    }
}

/// Overwrites the stack below the caller: the cipher leaves the last, padded block of the value there.
#[inline(never)]
fn clear_stack() {
    let mut below = [0u8; STACK_CLEARED_BYTES];
    below.zeroize();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_answer_of_a_keyring_is_its_own_error() {
        use zbus::fdo::Error as Fdo;
        let store = SecretServiceStore::new("app").unwrap();
        let says = |error| match store.failed(error) {
            StoreError::Locked { .. } => "locked",
            StoreError::Denied { .. } => "denied",
            StoreError::NoStore { .. } => "no store",
            StoreError::Failed { .. } => "failed",
            _ => "another",
        };
        let fdo = |error| Error::Zbus(zbus::Error::FDO(Box::new(error)));
        for (error, expected) in [
            (Error::Locked, "locked"),
            (Error::Prompt, "denied"),
            (Error::Unavailable, "no store"),
            (Error::Crypto("bad padding"), "failed"),
            (Error::ZbusFdo(Fdo::AccessDenied(String::new())), "denied"),
            (fdo(Fdo::AccessDenied(String::new())), "denied"),
            (fdo(Fdo::ServiceUnknown(String::new())), "no store"),
            (fdo(Fdo::TimedOut(String::new())), "failed"),
            (Error::Zbus(zbus::Error::InvalidReply), "failed"),
        ] {
            let shown = error.to_string();
            assert_eq!(says(error), expected, "{shown}");
        }
        let named = |name| store.named_failed(store.describe(), name, None).to_string();
        assert!(named("org.freedesktop.Secret.Error.IsLocked").contains("is locked"));
        assert!(named("org.freedesktop.DBus.Error.Other").contains("DBus.Error.Other"));
    }

    #[test]
    fn an_application_is_a_name() {
        assert!(matches!(SecretServiceStore::new("my app").map(|_| ()), Err(StoreError::Name)));
    }
}
