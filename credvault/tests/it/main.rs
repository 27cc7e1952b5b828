//! Tests of the public API: the shared redaction cases, the real keyring, what is left in memory.

#[cfg(feature = "secret-service")]
mod keyring;
#[cfg(feature = "keyutils")]
mod keyutils;
mod memory;
mod redaction;
#[cfg(feature = "secret-service")]
mod session;
