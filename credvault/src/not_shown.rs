//! What no type that holds a secret may have: a way to be printed, copied unseen, or written out.
//!
//! Each line compiles only while the type lacks every trait named. (The `compile_fail` examples at
//! [`crate::Secret`] say the same to a reader; rustdoc checks their error codes on nightly only, this holds on stable.)

use crate::{
    AwsKeys, ChunkResigner, CommandSource, MemoryStore, ScrubSet, Scrubber, Secret, Vault, VaultBuilder,
};

/// With one of the traits, `probe` is ambiguous and the crate does not compile.
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

/// Every way to show or copy a value.
macro_rules! hides {
    ($($type:ty),+) => {
        $(lacks!($type:
            std::fmt::Debug, std::fmt::Display, std::fmt::LowerHex, Clone, Copy, ToOwned<Owned = $type>,
            std::hash::Hash, PartialOrd, AsRef<[u8]>, AsRef<str>, std::borrow::Borrow<[u8]>, std::ops::Deref,
            Into<Vec<u8>>, Into<String>, IntoIterator, std::io::Read, serde::Serialize);)+
    };
}

hides!(Secret, Vault, VaultBuilder, MemoryStore, CommandSource);
lacks!(ScrubSet: std::fmt::Debug, std::fmt::Display, Clone, serde::Serialize);
lacks!(Scrubber: std::fmt::Debug, std::fmt::Display, Clone, serde::Serialize);
lacks!(ChunkResigner: std::fmt::Debug, std::fmt::Display, Clone, serde::Serialize);
lacks!(AwsKeys<'static>: std::fmt::Debug, std::fmt::Display, serde::Serialize);
#[cfg(all(feature = "age-file", unix))]
hides!(crate::AgeKey, crate::AgeFileStore);
