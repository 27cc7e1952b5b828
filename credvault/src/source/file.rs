//! A value from a file, of which the open descriptor says whose it is.

use std::fs::File;
use std::path::Path;

use rustix::fs::{Mode, OFlags, fstat, open};

use super::SourceError;
use crate::private_file::exposure;
use crate::secret::Secret;

/// Reads a file that is this user's alone. A link is followed; what counts is what it leads to.
pub(super) fn read_file(path: &Path) -> Result<Secret, SourceError> {
    let shown = || path.display().to_string();
    let failed = |error| SourceError::File { path: shown(), error };
    let exposed = |detail| SourceError::Exposed { path: shown(), detail };
    // Non-blocking: a FIFO in its place must not hang.
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let file = open(path, flags, Mode::empty()).map_err(|errno| failed(errno.into()))?;
    let stat = fstat(&file).map_err(|errno| failed(errno.into()))?;
    if let Some(detail) = exposure(&stat) {
        return Err(exposed(detail));
    }
    Secret::read(File::from(file)).map_err(failed)
}
