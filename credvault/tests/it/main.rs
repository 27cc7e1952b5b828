//! Tests of the public API: the shared redaction cases and the real keyring.

#[cfg(feature = "secret-service")]
mod keyring;
mod redaction;
