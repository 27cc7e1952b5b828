//! Any store of the `keyring-core` ecosystem: macOS' Keychain (feature `keychain`) and Windows' Credential Manager
//! (feature `wincred`).
//!
//! Those cannot all list names without reading values, so an entry of its own keeps what is known ([`super::index`]).
//! Must never put a value there, nor into an error: some errors of `keyring-core` carry the bytes that they are about.

use std::sync::{Arc, Mutex, PoisonError};

use keyring_core::{CredentialStore, Entry, Error};
use zeroize::Zeroize;

use super::index;
use super::{NoStoreReason, Store, StoreError, Stored, checked_name};
use crate::limits::{BINDINGS_MAX, SECRET_BYTES_MAX};
use crate::secret::Secret;

/// No name of a credential has a space.
const INDEX: &str = "index of names";

/// Entries of one application in a store of the system.
pub struct KeyringCoreStore {
    application: String,
    what: &'static str,
    /// `None`: this system does not have it.
    store: Option<Arc<CredentialStore>>,
    /// Index and values are changed together, within this process.
    changing: Mutex<()>,
}

impl KeyringCoreStore {
    /// Entries of `application` in `store`; `what` is its name for people.
    ///
    /// # Errors
    /// [`StoreError::Name`] if `application` is not 1 to 64 characters of `A-Z a-z 0-9 - _ .`.
    pub fn new(
        application: &str,
        what: &'static str,
        store: Option<Arc<CredentialStore>>,
    ) -> Result<Self, StoreError> {
        let application = checked_name(application)?.to_owned();
        Ok(Self { application, what, store, changing: Mutex::new(()) })
    }

    /// The user's login keychain; on other systems than macOS a store that says that there is none.
    ///
    /// # Errors
    /// As [`KeyringCoreStore::new`], or what the keychain says.
    #[cfg(feature = "keychain")]
    pub fn keychain(application: &str) -> Result<Self, StoreError> {
        const WHAT: &str = "macOS Keychain";
        #[cfg(target_os = "macos")]
        let store =
            Some(apple_native_keyring_store::keychain::Store::new().map_err(|error| failed(WHAT, error))?);
        #[cfg(not(target_os = "macos"))]
        let store: Option<Arc<CredentialStore>> = None;
        Self::new(application, WHAT, store.map(|store| store as Arc<CredentialStore>))
    }

    /// Windows' Credential Manager; on other systems a store that says that there is none.
    ///
    /// # Errors
    /// As [`KeyringCoreStore::new`], or what the system says.
    #[cfg(feature = "wincred")]
    pub fn wincred(application: &str) -> Result<Self, StoreError> {
        const WHAT: &str = "Windows Credential Manager";
        #[cfg(target_os = "windows")]
        let store = Some(windows_native_keyring_store::Store::new().map_err(|error| failed(WHAT, error))?);
        #[cfg(not(target_os = "windows"))]
        let store: Option<Arc<CredentialStore>> = None;
        Self::new(application, WHAT, store.map(|store| store as Arc<CredentialStore>))
    }

    fn entry(&self, name: &str) -> Result<Entry, StoreError> {
        let absent = || StoreError::NoStore { store: self.describe(), reason: NoStoreReason::OtherSystem };
        let store = self.store.as_ref().ok_or_else(absent)?;
        store.build(&self.application, name, None).map_err(|error| self.failed(error))
    }

    /// `None` if there is no such entry.
    fn read(&self, name: &str) -> Result<Option<Secret>, StoreError> {
        match self.entry(name)?.get_secret() {
            Ok(value) => Ok(Some(Secret::new(value))),
            Err(Error::NoEntry) => Ok(None),
            Err(error) => Err(self.failed(error)),
        }
    }

    fn known(&self) -> Result<Vec<Stored>, StoreError> {
        Ok(self.read(INDEX)?.map(|text| index::parse(text.expose())).unwrap_or_default())
    }

    fn remember(&self, all: &[Stored]) -> Result<(), StoreError> {
        let written = self.entry(INDEX)?.set_secret(index::render(all).as_bytes());
        written.map_err(|error| self.failed(error))
    }

    fn missing(&self, name: &str) -> StoreError {
        StoreError::Missing { store: self.describe(), name: name.to_owned() }
    }

    fn failed(&self, error: Error) -> StoreError {
        failed(&self.describe(), error)
    }
}

fn failed(store: &str, error: Error) -> StoreError {
    let store = store.to_owned();
    let detail = match error {
        // "Locked" and "denied" are one answer of these systems.
        Error::NoStorageAccess(_) => return StoreError::Locked { store },
        Error::PlatformFailure(error) => error.to_string(),
        Error::BadEncoding(mut bytes) | Error::BadDataFormat(mut bytes, _) => {
            bytes.zeroize();
            "an entry is not understood".to_owned()
        }
        Error::TooLong(_, most) => format!("it keeps at most {most} bytes in an entry"),
        Error::Ambiguous(_) => "it has two entries of the same name".to_owned(),
        other => other.to_string(),
    };
    StoreError::Failed { store, detail }
}

impl Store for KeyringCoreStore {
    fn describe(&self) -> String {
        format!("{} (entries of `{}`)", self.what, self.application)
    }

    fn fetch(&self, name: &str) -> Result<(Secret, Stored), StoreError> {
        let name = checked_name(name)?;
        let value = self.read(name)?.ok_or_else(|| self.missing(name))?;
        let known = index::take(&mut self.known()?, name);
        Ok((value, known.unwrap_or_else(|| Stored::first(name, None))))
    }

    fn put_until(&self, name: &str, value: &Secret, not_after_s: Option<u64>) -> Result<Stored, StoreError> {
        let name = checked_name(name)?;
        let _changing = self.changing.lock().unwrap_or_else(PoisonError::into_inner);
        let mut all = self.known()?;
        let older = index::take(&mut all, name);
        let detail = match value.len() {
            length if length > SECRET_BYTES_MAX => Some("the value is too long"),
            _ if all.len() >= BINDINGS_MAX => Some("it is full"),
            _ => None,
        };
        if let Some(detail) = detail {
            return Err(StoreError::Failed { store: self.describe(), detail: detail.to_owned() });
        }
        // Reason to expose: the system's store takes bytes.
        self.entry(name)?.set_secret(value.expose()).map_err(|error| self.failed(error))?;
        let stored = Stored::after(older.as_ref(), name, not_after_s);
        all.push(stored.clone());
        self.remember(&all)?;
        Ok(stored)
    }

    fn delete(&self, name: &str) -> Result<(), StoreError> {
        let name = checked_name(name)?;
        let _changing = self.changing.lock().unwrap_or_else(PoisonError::into_inner);
        match self.entry(name)?.delete_credential() {
            Ok(()) => {}
            Err(Error::NoEntry) => return Err(self.missing(name)),
            Err(error) => return Err(self.failed(error)),
        }
        let mut all = self.known()?;
        match index::take(&mut all, name) {
            Some(_) => self.remember(&all),
            None => Ok(()),
        }
    }

    fn entries(&self) -> Result<Vec<Stored>, StoreError> {
        self.known()
    }
}

#[cfg(test)]
mod tests {
    use keyring_core::mock;

    use super::*;

    fn secret(value: &str) -> Secret {
        Secret::new(value.as_bytes().to_vec())
    }

    fn on_mock() -> KeyringCoreStore {
        KeyringCoreStore::new("app", "a mock", Some(mock::Store::new().unwrap() as Arc<CredentialStore>))
            .unwrap()
    }

    #[test]
    fn keeps_counts_lists_and_deletes() {
        let store = on_mock();
        store.probe().unwrap();
        assert_eq!(store.entries().unwrap(), []);
        assert!(matches!(store.get("a").map(|_| ()), Err(StoreError::Missing { .. })));
        store.put("b", &secret("first")).unwrap();
        assert_eq!(store.put_until("b", &secret("second"), Some(9)).unwrap().version, 2);
        store.put("a", &Secret::new(vec![0, 0xff, b'\n'])).unwrap();
        assert!(store.get("b").unwrap() == secret("second"));
        assert!(store.get("a").unwrap() == Secret::new(vec![0, 0xff, b'\n']));
        assert_eq!(store.list().unwrap(), ["a", "b"]);
        assert_eq!(store.fetch("b").unwrap().1, Stored { version: 2, ..Stored::first("b", Some(9)) });
        store.delete("b").unwrap();
        assert!(matches!(store.delete("b"), Err(StoreError::Missing { .. })));
        assert_eq!(store.list().unwrap(), ["a"]);
        assert!(matches!(store.put("a b", &secret("x")), Err(StoreError::Name)));
    }

    #[test]
    fn each_error_is_ours_and_holds_no_bytes() {
        let say = |error| failed("the store", error);
        assert!(matches!(say(Error::NoStorageAccess("no".into())), StoreError::Locked { .. }));
        for error in [
            Error::BadEncoding(b"the-value".to_vec()),
            Error::BadDataFormat(b"the-value".to_vec(), "x".into()),
        ] {
            let text = say(error).to_string();
            assert!(text.contains("not understood") && !text.contains("the-value"), "{text}");
        }
        assert!(say(Error::TooLong("secret".into(), 2560)).to_string().contains("2560"));
    }

    #[test]
    fn on_another_system_there_is_no_store() {
        let store = KeyringCoreStore::new("app", "another system's", None).unwrap();
        for result in
            [store.probe(), store.put("a", &secret("x")), store.get("a").map(|_| ()), store.delete("a")]
        {
            let error = result.unwrap_err();
            assert!(
                matches!(error, StoreError::NoStore { reason: NoStoreReason::OtherSystem, .. }),
                "{error}"
            );
        }
        #[cfg(all(feature = "keychain", not(target_os = "macos")))]
        assert!(KeyringCoreStore::keychain("app").unwrap().probe().is_err());
        #[cfg(all(feature = "wincred", not(target_os = "windows")))]
        assert!(KeyringCoreStore::wincred("app").unwrap().probe().is_err());
    }
}
