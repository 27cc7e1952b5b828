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
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use age::secrecy::{ExposeSecret, SecretString};
use age::{DecryptError, Decryptor, Encryptor};
use rustix::fs::{FlockOperation, Mode, OFlags, flock, fstat, open};
use rustix::io::Errno;
use zeroize::Zeroizing;

use super::{NoStoreReason, Store, StoreError, Stored, checked_name};
use crate::encode::{base64_decode, base64_padded};
use crate::limits::{AGE_FILE_BYTES_MAX, BINDINGS_MAX, FILE_LOCK_MS_MAX, SECRET_BYTES_MAX};
use crate::private_file::exposure;
use crate::secret::Secret;

/// First line of what is encrypted; after it, one line for each credential: `NAME BASE64 VERSION NOT-AFTER`.
const FORMAT: &[u8] = b"credvault 1";

/// How every file in this format begins.
const MAGIC: &[u8] = b"age-encryption.org/v1\n";

/// What opens the file.
pub enum AgeKey {
    /// A passphrase, stretched by scrypt.
    Passphrase(Secret),
    /// An identity (`AGE-SECRET-KEY-1…`), as `age-keygen` makes it.
    Identity(Secret),
}

impl AgeKey {
    /// A new identity, as text for a file of its own that only its owner may read.
    #[must_use]
    pub fn new_identity() -> Secret {
        let text = age::x25519::Identity::generate().to_string();
        Secret::new(text.expose_secret().as_bytes().to_vec())
    }
}

/// Gives the key when it is first needed; `None`: it cannot be had now, so the store is locked. An error says, for the
/// user, what is wrong with where it should come from.
pub type AskKey = Box<dyn Fn() -> Result<Option<AgeKey>, String> + Send + Sync>;

/// Secrets in one encrypted file.
pub struct AgeFileStore {
    path: PathBuf,
    key: OnceLock<AgeKey>,
    ask: AskKey,
    work_factor: Option<u8>,
    /// What was last read, for the file of this stamp: opening it costs a second.
    known: Mutex<Option<(FileStamp, Vec<Stored>)>>,
}

/// Tells one content of the file from another: each is written to a file of its own.
#[derive(Clone, Copy, PartialEq, Eq)]
struct FileStamp {
    inode: u64,
    size: i64,
    changed: (i64, i64),
}

type Entries = Vec<(Stored, Secret)>;

impl AgeFileStore {
    /// The file at `path`; the first [`Store::put`] creates it.
    #[must_use]
    pub fn new(path: impl Into<PathBuf>, key: AgeKey) -> Self {
        Self { key: OnceLock::from(key), ..Self::asking(path, Box::new(|| Ok(None))) }
    }

    /// The same, with a key that is asked for once, when it is first needed.
    #[must_use]
    pub fn asking(path: impl Into<PathBuf>, ask: AskKey) -> Self {
        let (path, known) = (path.into(), Mutex::new(None));
        Self { path, key: OnceLock::new(), ask, work_factor: None, known }
    }

    /// Creates an empty file, so that there is a store. A file that is there is left alone.
    ///
    /// # Errors
    /// [`StoreError::Failed`] if there is one already.
    pub fn create(&self) -> Result<(), StoreError> {
        let _lock = self.lock()?;
        match self.open() {
            Err(StoreError::NoStore { reason: NoStoreReason::NoFile, .. }) => self.write(&Entries::new()),
            Err(error) => Err(error),
            Ok(_) => Err(self.failed("it is there already", &"nothing was changed")),
        }
    }

    /// Whether the key opens the file: a probe only looks whether it is there, as opening costs a second.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn unlock(&self) -> Result<(), StoreError> {
        self.load().map(|_| ())
    }

    fn key(&self) -> Result<&AgeKey, StoreError> {
        if let Some(key) = self.key.get() {
            return Ok(key);
        }
        let key = (self.ask)().map_err(|reason| StoreError::NoKey { store: self.describe(), reason })?;
        let key = key.ok_or_else(|| StoreError::Locked { store: self.describe() })?;
        Ok(self.key.get_or_init(|| key))
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
        let (file, stamp) = self.open()?;
        let mut sealed = Vec::new();
        let limit = u64::try_from(AGE_FILE_BYTES_MAX).unwrap_or(u64::MAX);
        let file = File::from(file);
        file.take(limit).read_to_end(&mut sealed).map_err(|error| self.failed("cannot be read", &error))?;
        let entries = self.parse(&self.decrypt(&sealed)?)?;
        let known = entries.iter().map(|(stored, _)| stored.clone()).collect();
        *self.known.lock().unwrap_or_else(PoisonError::into_inner) = Some((stamp, known));
        Ok(entries)
    }

    /// Opens it if it is a regular file of this user that nobody else can read or write. No link is followed.
    fn open(&self) -> Result<(OwnedFd, FileStamp), StoreError> {
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
        if let Some(detail) = exposure(&stat) {
            return Err(exposed(detail));
        }
        // Linux has another type for it than other systems.
        #[allow(clippy::useless_conversion)]
        let changed = (stat.st_mtime, i64::try_from(stat.st_mtime_nsec).unwrap_or(0));
        Ok((file, FileStamp { inode: stat.st_ino, size: stat.st_size, changed }))
    }

    fn decrypt(&self, sealed: &[u8]) -> Result<Zeroizing<Vec<u8>>, StoreError> {
        let failed = |error: DecryptError| match error {
            DecryptError::NoMatchingKeys
            | DecryptError::DecryptionFailed
            | DecryptError::KeyDecryptionFailed => StoreError::WrongKey { store: self.describe() },
            other => self.damaged(&other.to_string()),
        };
        let decryptor = Decryptor::new(sealed).map_err(failed)?;
        let identity: Box<dyn age::Identity> = match self.key()? {
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
            entries.push(entry(line).ok_or_else(|| self.damaged("an entry is not understood"))?);
        }
        Ok(entries)
    }

    fn encrypt(&self, entries: &Entries) -> Result<Vec<u8>, StoreError> {
        // Two numbers of at most twenty digits, and what separates them.
        let length = |(stored, value): &(Stored, Secret)| stored.name.len() + value.len() * 4 / 3 + 64;
        let length: usize = entries.iter().map(length).sum();
        let mut plain = Zeroizing::new(Vec::with_capacity(FORMAT.len().saturating_add(length)));
        plain.extend_from_slice(FORMAT);
        for (Stored { name, version, not_after_s }, value) in entries {
            plain.extend_from_slice(format!("\n{name} ").as_bytes());
            plain.extend_from_slice(&base64_padded(value.expose()));
            let end = not_after_s.map_or_else(|| "-".to_owned(), |end| end.to_string());
            plain.extend_from_slice(format!(" {version} {end}").as_bytes());
        }
        let recipient: Box<dyn age::Recipient> = match self.key()? {
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
        entries.sort_unstable_by(|(a, _), (b, _)| a.name.cmp(&b.name));
        self.write(&entries)
    }

    /// Under the lock.
    fn write(&self, entries: &Entries) -> Result<(), StoreError> {
        let sealed = self.encrypt(entries)?;
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

fn entry(line: &[u8]) -> Option<(Stored, Secret)> {
    let mut words = line.split(|&byte| byte == b' ');
    let name = checked_name(str::from_utf8(words.next()?).ok()?).ok()?.to_owned();
    let mut value = base64_decode(words.next()?)?;
    let number = |word: &[u8]| str::from_utf8(word).ok()?.parse().ok();
    let version = number(words.next()?)?;
    let not_after_s = match words.next()? {
        b"-" => None,
        end => Some(number(end)?),
    };
    let secret = Secret::new(std::mem::take(&mut *value));
    words.next().is_none().then_some((Stored { name, version, not_after_s }, secret))
}

/// The path with something appended to its last part.
fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    PathBuf::from(name)
}

impl Store for AgeFileStore {
    fn describe(&self) -> String {
        let how = match self.key.get() {
            None => "",
            Some(AgeKey::Passphrase(_)) => " (passphrase)",
            Some(AgeKey::Identity(_)) => " (identity)",
        };
        format!("age-encrypted file {}{how}", self.path.display())
    }

    /// Looks at the file, without the key: whether it opens is found out when a value is wanted.
    fn probe(&self) -> Result<(), StoreError> {
        let (file, _) = self.open()?;
        let mut begin = [0; MAGIC.len()];
        let read = File::from(file).read_exact(&mut begin);
        match read.is_ok() && begin == MAGIC {
            true => Ok(()),
            false => Err(self.damaged("it is not an age file")),
        }
    }

    fn fetch(&self, name: &str) -> Result<(Secret, Stored), StoreError> {
        let name = checked_name(name)?;
        let found = self.load()?.into_iter().find(|(stored, _)| stored.name == name);
        found.map(|(stored, value)| (value, stored)).ok_or_else(|| self.missing(name))
    }

    fn put_until(&self, name: &str, value: &Secret, not_after_s: Option<u64>) -> Result<Stored, StoreError> {
        let name = checked_name(name)?;
        if value.len() > SECRET_BYTES_MAX {
            return Err(self.failed("the value is too long", &value.len()));
        }
        let mut new = Stored::first(name, not_after_s);
        self.change(|entries| {
            let older =
                entries.iter().position(|(stored, _)| stored.name == name).map(|at| entries.remove(at));
            if entries.len() >= BINDINGS_MAX {
                return Err(self.failed("it is full", &BINDINGS_MAX));
            }
            new = Stored::after(older.as_ref().map(|(stored, _)| stored), name, not_after_s);
            entries.push((new.clone(), value.duplicate()));
            Ok(())
        })?;
        Ok(new)
    }

    fn delete(&self, name: &str) -> Result<(), StoreError> {
        let name = checked_name(name)?;
        // Nothing to create, so nothing to delete from.
        drop(self.open()?);
        self.change(|entries| {
            let before = entries.len();
            entries.retain(|(stored, _)| stored.name != name);
            if entries.len() == before { Err(self.missing(name)) } else { Ok(()) }
        })
    }

    /// Decrypts the file, since names and values are encrypted together; unless it is as it was last time.
    fn entries(&self) -> Result<Vec<Stored>, StoreError> {
        let (_, stamp) = self.open()?;
        if let Some((known, entries)) = &*self.known.lock().unwrap_or_else(PoisonError::into_inner)
            && *known == stamp
        {
            return Ok(entries.clone());
        }
        Ok(self.load()?.into_iter().map(|(stored, _)| stored).collect())
    }
}

/// For errors of the standard library in this module's own functions.
type IoResult<T> = io::Result<T>;
