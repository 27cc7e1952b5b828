//! Sources that systems other than Unix do not have: refused, as what makes them safe is not there.

use std::io::{Error, ErrorKind};
use std::path::Path;

use super::SourceError;
use crate::secret::Secret;

pub(super) fn read_file(path: &Path) -> Result<Secret, SourceError> {
    let error = Error::new(ErrorKind::Unsupported, "who else may read it cannot be told on this system");
    Err(SourceError::File { path: path.display().to_string(), error })
}

pub(super) fn run(words: &[String], _timeout_ms: u64) -> Result<Secret, SourceError> {
    let program = words.first().ok_or(SourceError::Form)?.clone();
    let error = Error::new(ErrorKind::Unsupported, "what it starts cannot be ended with it on this system");
    Err(SourceError::Start { program, error })
}
