//! The kernel's keyring (keyrings(7)) as a cache: never on disk, gone with the user's last process or after a
//! time, and readable by every process of the user.
//!
//! Names are kept in a key of their own, as listing the keyring would show other programs' keys. Must never be
//! the only place of a value: the kernel may drop it.

use linux_keyutils::{Key, KeyError, KeyPermissionsBuilder, KeyRing, KeyRingIdentifier, Permission};
use zeroize::Zeroizing;

use super::index;
use super::{NoStoreReason, Store, StoreError, Stored, checked_name};
use crate::limits::{BINDINGS_MAX, NAME_BYTES_MAX, SECRET_BYTES_MAX};
use crate::secret::Secret;

/// Entries of one application in the user's kernel keyring.
pub struct KeyutilsStore {
    application: String,
    timeout_s: u32,
}

/// A name, two numbers and three separators for each.
const INDEX_BYTES_MAX: usize = BINDINGS_MAX * (NAME_BYTES_MAX + 43);

impl KeyutilsStore {
    /// Entries of `application` that the kernel forgets `timeout_s` seconds after they were stored; 0 for
    /// never.
    ///
    /// # Errors
    /// [`StoreError::Name`] if `application` is not 1 to 64 characters of `A-Z a-z 0-9 - _ .`.
    pub fn new(application: &str, timeout_s: u32) -> Result<Self, StoreError> {
        Ok(Self { application: checked_name(application)?.to_owned(), timeout_s })
    }

    fn ring(&self) -> Result<KeyRing, StoreError> {
        KeyRing::from_special_id(KeyRingIdentifier::User, true).map_err(|error| self.failed(error))
    }

    fn description(&self, name: &str) -> String {
        format!("credvault:{}:{name}", self.application)
    }

    /// An index has a space, which no name has.
    fn index(&self) -> String {
        self.description("index of names")
    }

    fn failed(&self, error: KeyError) -> StoreError {
        let store = self.describe();
        match error {
            KeyError::AccessDenied | KeyError::PermissionDenied => StoreError::Denied { store },
            KeyError::OperationNotSupported | KeyError::KeyringDoesNotExist => {
                StoreError::NoStore { store, reason: NoStoreReason::NoKernelKeyring }
            }
            other => StoreError::Failed { store, detail: format!("{other:?}") },
        }
    }

    fn find(&self, description: &str) -> Result<Option<Key>, StoreError> {
        use KeyError as Absent;
        match self.ring()?.search(description) {
            Ok(key) => Ok(Some(key)),
            Err(Absent::KeyDoesNotExist | Absent::KeyExpired | Absent::KeyRevoked) => Ok(None),
            Err(error) => Err(self.failed(error)),
        }
    }

    fn read(&self, key: Key, bytes_max: usize) -> Result<Zeroizing<Vec<u8>>, StoreError> {
        let mut buf = Zeroizing::new(vec![0; bytes_max]);
        let length = key.read(&mut *buf).map_err(|error| self.failed(error))?;
        // The kernel says how long the value is, also when it did not fit.
        if length > bytes_max {
            let detail = "a value is longer than any that was stored here".to_owned();
            return Err(StoreError::Failed { store: self.describe(), detail });
        }
        buf.truncate(length);
        Ok(buf)
    }

    fn write(&self, description: &str, value: &[u8], timeout_s: u32) -> Result<(), StoreError> {
        // This user alone, and also from a session that does not possess the keyring.
        let alone = KeyPermissionsBuilder::builder().posessor(Permission::ALL).user(Permission::ALL).build();
        let written = self.ring()?.add_key(description, value).and_then(|key| {
            key.set_perms(alone)?;
            if timeout_s > 0 {
                key.set_timeout(usize::try_from(timeout_s).unwrap_or(usize::MAX))
            } else {
                Ok(())
            }
        });
        written.map_err(|error| self.failed(error))
    }

    fn known(&self) -> Result<Vec<Stored>, StoreError> {
        let Some(key) = self.find(&self.index())? else { return Ok(Vec::new()) };
        Ok(index::parse(&self.read(key, INDEX_BYTES_MAX)?))
    }

    fn remember(&self, all: &[Stored]) -> Result<(), StoreError> {
        self.write(&self.index(), index::render(all).as_bytes(), 0)
    }
}

impl Store for KeyutilsStore {
    fn describe(&self) -> String {
        format!("kernel keyring (a cache, entries of `{}`)", self.application)
    }

    fn fetch(&self, name: &str) -> Result<(Secret, Stored), StoreError> {
        let name = checked_name(name)?;
        let missing = || StoreError::Missing { store: self.describe(), name: name.to_owned() };
        let key = self.find(&self.description(name))?.ok_or_else(missing)?;
        let mut value = self.read(key, SECRET_BYTES_MAX)?;
        let known = index::take(&mut self.known()?, name);
        Ok((Secret::new(std::mem::take(&mut *value)), known.unwrap_or_else(|| Stored::first(name, None))))
    }

    fn put_until(&self, name: &str, value: &Secret, not_after_s: Option<u64>) -> Result<Stored, StoreError> {
        let name = checked_name(name)?;
        let mut all = self.known()?;
        let older = index::take(&mut all, name);
        let refused = match value.len() {
            0 => Some("the kernel keeps no empty value"),
            length if length > SECRET_BYTES_MAX => Some("the value is too long"),
            _ if all.len() >= BINDINGS_MAX => Some("it is full"),
            _ => None,
        };
        if let Some(detail) = refused {
            return Err(StoreError::Failed { store: self.describe(), detail: detail.to_owned() });
        }
        self.write(&self.description(name), value.expose(), self.timeout_s)?;
        let stored = Stored::after(older.as_ref(), name, not_after_s);
        all.push(stored.clone());
        self.remember(&all)?;
        Ok(stored)
    }

    fn delete(&self, name: &str) -> Result<(), StoreError> {
        let name = checked_name(name)?;
        let missing = || StoreError::Missing { store: self.describe(), name: name.to_owned() };
        let key = self.find(&self.description(name))?.ok_or_else(missing)?;
        key.invalidate().map_err(|error| self.failed(error))?;
        let mut all = self.known()?;
        index::take(&mut all, name);
        self.remember(&all)
    }

    fn entries(&self) -> Result<Vec<Stored>, StoreError> {
        // Also without entries: this is what a probe asks.
        self.ring()?;
        let mut alive = Vec::new();
        for stored in self.known()? {
            // Its time may be over.
            if self.find(&self.description(&stored.name))?.is_some() {
                alive.push(stored);
            }
        }
        Ok(alive)
    }
}
