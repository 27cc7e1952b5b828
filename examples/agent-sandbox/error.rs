//! Every way this program can fail to do its job, worded for the person at the terminal.
//!
//! An error says what happened, to what, and what to do next; it fits a screen; it never holds a secret.

use std::io;
use std::path::PathBuf;

use thiserror::Error;

#[derive(Debug, Error)]
pub enum Error {
    #[error("{0}")]
    Usage(String),
    #[error("cannot read {what} {path}: {source}", path = path.display())]
    Read { what: &'static str, path: PathBuf, source: io::Error },
    #[error("cannot write {path}: {source}\n  {remedy}", path = path.display())]
    Write { path: PathBuf, source: io::Error, remedy: &'static str },
    #[error("the policy does not load, so nothing was started\n  {0}")]
    Policy(String),
    /// Where nothing would have been started anyway.
    #[error("the policy does not load\n  {0}")]
    PolicyFiles(String),
    #[error("secret {name}: {problem}")]
    Secret { name: String, problem: String },
    #[error(transparent)]
    Key(#[from] glue::keys::KeyError),
    #[error("engine {engine} cannot be used: {problem}\n  {remedy}")]
    Engine { engine: &'static str, problem: String, remedy: String },
    #[error(
        "the guest kernel could not be prepared: {0}\n  \
         it is kept in $XDG_CACHE_HOME/agent-sandbox, or ~/.cache/agent-sandbox"
    )]
    Kernel(#[from] guest_image::Error),
    #[error("the sandbox did not start: {problem}\n{console}")]
    Boot { problem: String, console: String },
    #[error("the sandbox failed: {0}")]
    Sandbox(String),
    #[error("the output cannot be written: {0}")]
    Output(io::Error),
    #[error(
        "the audit log could not be written to its end; what came after was refused\n  see to the disk that holds it"
    )]
    Audit,
    #[error("{what}: {source}")]
    Io { what: &'static str, source: io::Error },
}

impl Error {
    /// 2 where nothing was run, 125 where the sandbox failed under the command.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Sandbox(_) | Self::Output(_) | Self::Audit => 125,
            _ => 2,
        }
    }

    pub fn io(what: &'static str) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Io { what, source }
    }
}

pub type Result<T, E = Error> = std::result::Result<T, E>;
