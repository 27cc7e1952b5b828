//! Every way to fail: what happened, to what, what to do. Never holds a secret.

use thiserror::Error as ThisError;

/// Ends the program, worded for the person at the terminal.
#[derive(Debug, ThisError)]
pub enum Error {
    #[error("{0}")]
    Usage(String),
    #[error("{what}: {source}")]
    Io { what: String, source: std::io::Error },
    #[error("the policy does not load\n  {0}")]
    Policy(String),
    #[error(transparent)]
    Key(#[from] glue::keys::KeyError),
    #[error(
        "the audit log could not be written to its end; what came after was refused\n  see to the disk that holds it"
    )]
    Audit,
}

impl Error {
    pub fn io(what: impl Into<String>) -> impl FnOnce(std::io::Error) -> Self {
        move |source| Self::Io { what: what.into(), source }
    }

    /// 1 where the proxy was serving, 2 where it was not.
    pub fn exit_code(&self) -> u8 {
        if matches!(self, Self::Audit) { 1 } else { 2 }
    }
}

pub type Result<T> = std::result::Result<T, Error>;
