//! `Secret`: bytes that can be used but not shown.
//!
//! Must never implement `Debug`, `Display`, `Clone`, `Serialize` or anything else that copies or prints
//! the value. The one way to the bytes is [`Secret::expose`]; `grep expose` finds every use.

use std::io;

use subtle::ConstantTimeEq;
use zeroize::Zeroize;

use crate::limits::SECRET_BYTES_MAX;
use crate::lock::{LockedBuf, Protection};

/// A secret value in memory of its own: locked into RAM, left out of core dumps, cleared on drop.
///
/// It cannot be printed, cloned or serialised; each of these fails to compile:
///
/// ```compile_fail,E0277
/// let secret = credvault::Secret::new(b"sk-ant-api03-real".to_vec());
/// println!("{secret:?}");
/// ```
///
/// ```compile_fail,E0277
/// let secret = credvault::Secret::new(b"sk-ant-api03-real".to_vec());
/// println!("{secret}");
/// ```
///
/// ```compile_fail,E0599
/// let secret = credvault::Secret::new(b"sk-ant-api03-real".to_vec());
/// let copy = secret.clone();
/// ```
///
/// ```compile_fail,E0277
/// fn send(value: impl serde::Serialize) {}
/// send(credvault::Secret::new(b"sk-ant-api03-real".to_vec()));
/// ```
///
/// ```
/// let secret = credvault::Secret::new(b"sk-ant-api03-real".to_vec());
/// assert_eq!(secret.expose(), b"sk-ant-api03-real"); // the loud name
/// ```
pub struct Secret(LockedBuf);

impl Secret {
    /// Takes a value over: it is copied into protected memory and the vector is cleared.
    ///
    /// What the vector left behind when it grew cannot be cleared from here; read values into a buffer of
    /// sufficient capacity.
    #[must_use]
    pub fn new(mut value: Vec<u8>) -> Self {
        let secret = Self(LockedBuf::copy_of(&value));
        value.zeroize();
        secret
    }

    /// Reads a value to its end, without one line end that a file or a pipe has there, and without leaving
    /// a copy behind.
    ///
    /// # Errors
    /// The reader's error, or `InvalidData` for more than [`SECRET_BYTES_MAX`] bytes.
    pub fn read(mut from: impl io::Read) -> io::Result<Self> {
        // One line end more than the longest value, and one byte to see that there is too much. The whole
        // length is there from the start, in memory that is locked as the value's own.
        let mut buf = LockedBuf::zeroed(SECRET_BYTES_MAX + 3);
        let mut filled = 0;
        while let Some(free) = buf.bytes_mut().get_mut(filled..).filter(|free| !free.is_empty()) {
            match from.read(free) {
                Ok(0) => break,
                Ok(count) => filled = filled.saturating_add(count),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        let value = buf.bytes().get(..filled).unwrap_or_default();
        let value = value.strip_suffix(b"\n").map_or(value, |line| line.strip_suffix(b"\r").unwrap_or(line));
        if value.len() > SECRET_BYTES_MAX {
            let text = format!("the secret is longer than {SECRET_BYTES_MAX} bytes: give the token alone");
            return Err(io::Error::new(io::ErrorKind::InvalidData, text));
        }
        Ok(Self(LockedBuf::copy_of(value)))
    }

    /// A second `Secret` of the same value, on purpose and by name, as `Clone` does not exist.
    #[must_use]
    pub fn duplicate(&self) -> Self {
        Self(LockedBuf::copy_of(self.expose()))
    }

    /// The value itself. Whoever calls this keeps it out of logs, errors and other processes.
    #[must_use]
    pub fn expose(&self) -> &[u8] {
        self.0.bytes()
    }

    /// Length of the value in bytes.
    #[must_use]
    pub fn len(&self) -> usize {
        self.expose().len()
    }

    /// Whether the value is empty.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// What the system granted for this value's memory.
    #[must_use]
    pub fn protection(&self) -> Protection {
        self.0.protection()
    }
}

/// Takes time that depends on the lengths only, never on the bytes.
impl PartialEq for Secret {
    fn eq(&self, other: &Self) -> bool {
        self.expose().ct_eq(other.expose()).into()
    }
}

impl Eq for Secret {}

/// Makes this process refuse core dumps and `ptrace` by other processes of the same user: sets
/// `PR_SET_DUMPABLE` to 0 and `RLIMIT_CORE` to 0. Call it first thing in `main`.
///
/// # Errors
/// The system's error if one of the two calls is refused; nothing is undone. Go on and tell the user, or
/// stop: a library cannot know. Systems other than Linux do not have the first, others than Unix neither:
/// there it is always an error.
pub fn harden_process() -> io::Result<()> {
    // The second also where the first is refused.
    let dumpable = refuse_ptrace();
    refuse_core_dumps()?;
    dumpable
}

#[cfg(target_os = "linux")]
fn refuse_ptrace() -> io::Result<()> {
    use rustix::process::{DumpableBehavior, set_dumpable_behavior};
    Ok(set_dumpable_behavior(DumpableBehavior::NotDumpable)?)
}

#[cfg(not(target_os = "linux"))]
fn refuse_ptrace() -> io::Result<()> {
    let text = "this system cannot refuse that other programs of this user read the memory of this one";
    Err(io::Error::new(io::ErrorKind::Unsupported, text))
}

#[cfg(unix)]
fn refuse_core_dumps() -> io::Result<()> {
    use rustix::process::{Resource, Rlimit, setrlimit};
    Ok(setrlimit(Resource::Core, Rlimit { current: Some(0), maximum: Some(0) })?)
}

#[cfg(not(unix))]
fn refuse_core_dumps() -> io::Result<()> {
    Err(io::Error::new(io::ErrorKind::Unsupported, "this system has no limit on core dumps"))
}

/// Fills `buf` from the system's randomness (getrandom(2) on Linux); the source to pass where this crate
/// asks for one.
///
/// # Errors
/// The system's error.
pub fn os_random(buf: &mut [u8]) -> io::Result<()> {
    Ok(getrandom::fill(buf)?)
}

/// The system's clock, in seconds since 1970.
#[must_use]
pub fn os_clock() -> u64 {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    now.map_or(0, |since| since.as_secs())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_values_are_equal_and_others_not() {
        let secret = Secret::new(b"correct horse".to_vec());
        assert!(secret == secret.duplicate());
        assert!(secret != Secret::new(b"correct hors".to_vec()));
        assert!(secret != Secret::new(b"correct horsf".to_vec()));
        assert_eq!(secret.len(), 13);
        assert!(!secret.is_empty());
    }

    #[test]
    fn reads_up_to_the_limit_and_drops_one_line_end() {
        for (text, value) in
            [("key\n", "key"), ("key\r\n", "key"), ("key", "key"), ("key\n\n", "key\n"), ("", "")]
        {
            assert_eq!(Secret::read(text.as_bytes()).unwrap().expose(), value.as_bytes());
        }
        let longest = [vec![b'k'; SECRET_BYTES_MAX], b"\r\n".to_vec()].concat();
        assert_eq!(Secret::read(&longest[..]).unwrap().len(), SECRET_BYTES_MAX);
        let longer = vec![b'k'; SECRET_BYTES_MAX + 1];
        let refused = Secret::read(&longer[..]).map(|_| ()).unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::InvalidData);
        assert!(Secret::read(std::io::repeat(b'k')).is_err());
    }

    #[test]
    fn system_randomness_differs_each_time() {
        let (mut a, mut b) = ([0; 32], [0; 32]);
        os_random(&mut a).unwrap();
        os_random(&mut b).unwrap();
        assert_ne!(a, b);
    }
}
