//! `Secret`: bytes that can be used but not shown.
//!
//! Must never implement `Debug`, `Display`, `Clone`, `Serialize` or anything else that copies or prints
//! the value. The one way to the bytes is [`Secret::expose`]; `grep expose` finds every use.

use std::io;

use rustix::process::{DumpableBehavior, Resource, Rlimit, set_dumpable_behavior, setrlimit};
use subtle::ConstantTimeEq;
use zeroize::Zeroize;

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
/// stop: a library cannot know.
pub fn harden_process() -> io::Result<()> {
    set_dumpable_behavior(DumpableBehavior::NotDumpable)?;
    setrlimit(Resource::Core, Rlimit { current: Some(0), maximum: Some(0) })?;
    Ok(())
}

/// Fills `buf` from the system's randomness (getrandom(2)); the source to pass where this crate asks for
/// one.
///
/// # Errors
/// The system's error, on kernels without getrandom(2).
pub fn os_random(buf: &mut [u8]) -> io::Result<()> {
    let mut rest = buf;
    while !rest.is_empty() {
        let filled = rustix::rand::getrandom(&mut *rest, rustix::rand::GetRandomFlags::empty())?;
        let Some((_, unfilled)) = rest.split_at_mut_checked(filled) else { break };
        rest = unfilled;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Compiles only while `$type` lacks each of the traits: with one of them, `probe` is ambiguous.
    /// (Rustdoc checks the error codes of `compile_fail` on nightly only; this holds on stable.)
    macro_rules! lacks {
        ($type:ty: $($bound:path),+) => {
            $(const _: fn() = || {
                trait Probe<A> {
                    fn probe() {}
                }
                impl<T: ?Sized> Probe<()> for T {}
                struct Has;
                impl<T: ?Sized + $bound> Probe<Has> for T {}
                let _ = <$type as Probe<_>>::probe;
            };)+
        };
    }
    lacks!(Secret: std::fmt::Debug, std::fmt::Display, Clone, serde::Serialize, AsRef<[u8]>, std::ops::Deref);

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
    fn system_randomness_differs_each_time() {
        let (mut a, mut b) = ([0; 32], [0; 32]);
        os_random(&mut a).unwrap();
        os_random(&mut b).unwrap();
        assert_ne!(a, b);
    }
}
