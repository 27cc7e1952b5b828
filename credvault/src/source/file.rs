//! A value from a file, of which the open descriptor says whose it is.

use std::fs::File;
use std::path::Path;

use rustix::fs::{FileType, Mode, OFlags, fstat, open};

use super::SourceError;
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
    if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
        return Err(exposed("it is not a regular file"));
    }
    if stat.st_uid != rustix::process::geteuid().as_raw() {
        return Err(exposed("it belongs to another user"));
    }
    if stat.st_mode & 0o077 != 0 {
        return Err(exposed("other users may read or write it"));
    }
    Secret::read(File::from(file)).map_err(failed)
}
