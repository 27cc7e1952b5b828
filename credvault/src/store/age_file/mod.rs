//! One file, encrypted in the age format (age-encryption.org/v1) by a passphrase or to an identity, for
//! machines without a keyring.
//!
//! ```text
//! lock PATH.lock ─▶ open PATH (0600, ours, no link) ─▶ decrypt ─▶ change ─▶ encrypt ─▶ replace
//! ```
//!
//! Must never write a value anywhere in the clear, read a file that others can read, or leave less than was
//! there: see [`replace`].

mod replace;
#[cfg(test)]
mod tests;

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use age::secrecy::{ExposeSecret, SecretString};
use age::{DecryptError, Decryptor, Encryptor};
use rustix::fs::{FileType, FlockOperation, Mode, OFlags, flock, fstat, open};
use rustix::io::Errno;
use zeroize::Zeroizing;

use super::{NoStoreReason, Store, StoreError, checked_name};
use crate::encode::{base64_decode, base64_padded};
use crate::limits::{AGE_FILE_BYTES_MAX, BINDINGS_MAX, FILE_LOCK_MS_MAX, SECRET_BYTES_MAX};
use crate::secret::Secret;

/// First line of what is encrypted.
const FORMAT: &[u8] = b"credvault 1";

/// What opens the file.
pub enum AgeKey {
    /// A passphrase, stretched by scrypt.
    Passphrase(Secret),
    /// An identity (`AGE-SECRET-KEY-1…`), as `age-keygen` makes it.
    Identity(Secret),
}

/// Secrets in one encrypted file.
pub struct AgeFileStore {
    path: PathBuf,
    key: AgeKey,
    work_factor: Option<u8>,
}

type Entries = Vec<(String, Secret)>;

impl AgeFileStore {
    /// The file at `path`; the first [`Store::put`] creates it.
    #[must_use]
    pub fn new(path: impl Into<PathBuf>, key: AgeKey) -> Self {
        Self { path: path.into(), key, work_factor: None }
    }

    /// Costs of guessing a passphrase for files written from now on, as logarithm (`scrypt` N = 2^log2).
    /// Without it: about a second on this machine.
    #[must_use]
    pub fn work_factor_log2(mut self, log2: u8) -> Self {
        self.work_factor = Some(log2);
        self
    }

    fn failed(&self, what: &str, error: &dyn std::fmt::Display) -> StoreError {
        StoreError::Failed { store: self.describe(), detail: format!("{what}: {error}") }
    }

    fn damaged(&self, detail: &str) -> StoreError {
        StoreError::Damaged { store: self.describe(), detail: detail.to_owned() }
    }

    fn missing(&self, name: &str) -> StoreError {
        StoreError::Missing { store: self.describe(), name: name.to_owned() }
    }

    /// The entries, sorted by name.
    fn load(&self) -> Result<Entries, StoreError> {
        let file = File::from(self.open()?);
        let mut sealed = Vec::new();
        let limit = u64::try_from(AGE_FILE_BYTES_MAX).unwrap_or(u64::MAX);
        file.take(limit).read_to_end(&mut sealed).map_err(|error| self.failed("cannot be read", &error))?;
        self.parse(&self.decrypt(&sealed)?)
    }

    /// Opens it if it is a regular file of this user that nobody else can read or write. No link is followed.
    fn open(&self) -> Result<OwnedFd, StoreError> {
        // Non-blocking: a FIFO in its place must not hang.
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let exposed =
            |detail: &str| StoreError::Exposed { store: self.describe(), detail: detail.to_owned() };
        let file = open(&self.path, flags, Mode::empty()).map_err(|errno| match errno {
            Errno::NOENT => StoreError::NoStore { store: self.describe(), reason: NoStoreReason::NoFile },
            Errno::ACCESS | Errno::PERM => StoreError::Denied { store: self.describe() },
            Errno::LOOP => exposed("it is a symbolic link"),
            other => self.failed("cannot be opened", &other),
        })?;
        let stat = fstat(&file).map_err(|errno| self.failed("cannot be looked at", &errno))?;
        if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
            return Err(exposed("it is not a regular file"));
        }
        if stat.st_uid != rustix::process::geteuid().as_raw() {
            return Err(exposed("it belongs to another user"));
        }
        if stat.st_mode & 0o077 != 0 {
            return Err(exposed("other users may read or write it"));
        }
        Ok(file)
    }

    fn decrypt(&self, sealed: &[u8]) -> Result<Zeroizing<Vec<u8>>, StoreError> {
        let failed = |error: DecryptError| match error {
            DecryptError::NoMatchingKeys
            | DecryptError::DecryptionFailed
            | DecryptError::KeyDecryptionFailed => StoreError::WrongKey { store: self.describe() },
            other => self.damaged(&other.to_string()),
        };
        let decryptor = Decryptor::new(sealed).map_err(failed)?;
        let identity: Box<dyn age::Identity> = match &self.key {
            AgeKey::Passphrase(secret) => Box::new(age::scrypt::Identity::new(self.text(secret)?)),
            AgeKey::Identity(secret) => Box::new(self.identity(secret)?),
        };
        let mut reader = decryptor.decrypt(std::iter::once(&*identity)).map_err(failed)?;
        // Plain text is shorter than the file, so this does not grow.
        let mut plain = Zeroizing::new(Vec::with_capacity(sealed.len()));
        reader.read_to_end(&mut plain).map_err(|_| self.damaged("it ends early, or was changed"))?;
        Ok(plain)
    }

    fn parse(&self, plain: &[u8]) -> Result<Entries, StoreError> {
        let mut lines = plain.split(|&byte| byte == b'\n');
        if lines.next() != Some(FORMAT) {
            return Err(self.damaged("it holds something else, or a newer format"));
        }
        let mut entries = Entries::new();
        for line in lines.filter(|line| !line.is_empty()) {
            let at = line.iter().position(|&byte| byte == b' ').unwrap_or(line.len());
            let (name, value) = line.split_at_checked(at).unwrap_or_default();
            let name = str::from_utf8(name).ok().and_then(|name| checked_name(name).ok());
            let value = base64_decode(value.get(1..).unwrap_or_default());
            let (Some(name), Some(mut value)) = (name, value) else {
                return Err(self.damaged("an entry is not understood"));
            };
            entries.push((name.to_owned(), Secret::new(std::mem::take(&mut *value))));
        }
        Ok(entries)
    }

    fn encrypt(&self, entries: &Entries) -> Result<Vec<u8>, StoreError> {
        let length: usize = entries.iter().map(|(name, value)| name.len() + value.len() * 4 / 3 + 8).sum();
        let mut plain = Zeroizing::new(Vec::with_capacity(FORMAT.len().saturating_add(length)));
        plain.extend_from_slice(FORMAT);
        for (name, value) in entries {
            plain.push(b'\n');
            plain.extend_from_slice(name.as_bytes());
            plain.push(b' ');
            plain.extend_from_slice(&base64_padded(value.expose()));
        }
        let recipient: Box<dyn age::Recipient> = match &self.key {
            AgeKey::Passphrase(secret) => {
                let mut recipient = age::scrypt::Recipient::new(self.text(secret)?);
                if let Some(log2) = self.work_factor {
                    recipient.set_work_factor(log2);
                }
                Box::new(recipient)
            }
            AgeKey::Identity(secret) => Box::new(self.identity(secret)?.to_public()),
        };
        let encryptor = Encryptor::with_recipients(std::iter::once(&*recipient))
            .map_err(|error| self.failed("cannot be encrypted", &error))?;
        let mut sealed = Vec::new();
        let written = encryptor.wrap_output(&mut sealed).and_then(|mut writer| {
            writer.write_all(&plain)?;
            writer.finish().map(|_| ())
        });
        written.map_err(|error| self.failed("cannot be encrypted", &error))?;
        Ok(sealed)
    }

    /// `SecretString` clears itself as `Secret` does.
    fn text(&self, secret: &Secret) -> Result<SecretString, StoreError> {
        let text = str::from_utf8(secret.expose()).map_err(|_| self.damaged("the passphrase is not text"))?;
        Ok(SecretString::from(text.to_owned()))
    }

    fn identity(&self, secret: &Secret) -> Result<age::x25519::Identity, StoreError> {
        let text = self.text(secret)?;
        let mut lines = text.expose_secret().lines().map(str::trim);
        let line = lines.find(|line| line.starts_with("AGE-SECRET-KEY-1")).unwrap_or_default();
        line.parse().map_err(|_| StoreError::WrongKey { store: self.describe() })
    }

    /// Reads, changes and replaces, while no other writer does.
    fn change(&self, change: impl FnOnce(&mut Entries) -> Result<(), StoreError>) -> Result<(), StoreError> {
        let _lock = self.lock()?;
        let mut entries = match self.load() {
            Err(StoreError::NoStore { reason: NoStoreReason::NoFile, .. }) => Entries::new(),
            other => other?,
        };
        change(&mut entries)?;
        entries.sort_unstable_by(|(a, _), (b, _)| a.cmp(b));
        let sealed = self.encrypt(&entries)?;
        replace::replace(&self.path, &sealed, &mut |_| Ok(()))
            .map_err(|error| self.failed("cannot be written", &error))
    }

    /// The lock is a file of its own, since the store's file is replaced. It goes with the descriptor, also when
    /// the process is killed.
    fn lock(&self) -> Result<OwnedFd, StoreError> {
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let lock = open(beside(&self.path, ".lock"), flags, Mode::from_raw_mode(0o600))
            .map_err(|errno| self.failed("its lock cannot be opened", &errno))?;
        let until = Instant::now() + Duration::from_millis(FILE_LOCK_MS_MAX);
        loop {
            match flock(&lock, FlockOperation::NonBlockingLockExclusive) {
                Ok(()) => return Ok(lock),
                Err(Errno::WOULDBLOCK | Errno::INTR) if Instant::now() < until => {
                    std::thread::sleep(Duration::from_millis(10));
                }
                Err(errno) => return Err(self.failed("another program is writing it", &errno)),
            }
        }
    }
}

/// The path with something appended to its last part.
fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    PathBuf::from(name)
}

impl Store for AgeFileStore {
    fn describe(&self) -> String {
        let how = match self.key {
            AgeKey::Passphrase(_) => "passphrase",
            AgeKey::Identity(_) => "identity",
        };
        format!("age-encrypted file {} ({how})", self.path.display())
    }

    fn get(&self, name: &str) -> Result<Secret, StoreError> {
        let name = checked_name(name)?;
        let found = self.load()?.into_iter().find(|(other, _)| other == name);
        found.map(|(_, value)| value).ok_or_else(|| self.missing(name))
    }

    fn put(&self, name: &str, value: &Secret) -> Result<(), StoreError> {
        let name = checked_name(name)?;
        if value.len() > SECRET_BYTES_MAX {
            return Err(self.failed("the value is too long", &value.len()));
        }
        self.change(|entries| {
            entries.retain(|(other, _)| other != name);
            if entries.len() >= BINDINGS_MAX {
                return Err(self.failed("it is full", &BINDINGS_MAX));
            }
            entries.push((name.to_owned(), value.duplicate()));
            Ok(())
        })
    }

    fn delete(&self, name: &str) -> Result<(), StoreError> {
        let name = checked_name(name)?;
        // Nothing to create, so nothing to delete from.
        drop(self.open()?);
        self.change(|entries| {
            let before = entries.len();
            entries.retain(|(other, _)| other != name);
            if entries.len() == before { Err(self.missing(name)) } else { Ok(()) }
        })
    }

    fn list(&self) -> Result<Vec<String>, StoreError> {
        Ok(self.load()?.into_iter().map(|(name, _)| name).collect())
    }
}

/// For errors of the standard library in this module's own functions.
type IoResult<T> = io::Result<T>;
