//! Replaces a file so that at every moment, and after a power cut at any moment, the old content or the new one
//! is there whole: new file beside it, written, synced, renamed over the old one, folder synced.
//!
//! Must never truncate the file itself.

use std::fs::File;
use std::io::{self, Write};
use std::path::Path;

use rustix::fs::{Mode, OFlags, open};

use super::{IoResult, beside};

/// What was just done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    Begun,
    Created,
    HalfWritten,
    Written,
    Synced,
    Renamed,
    FolderSynced,
}

/// Every step, for the tests.
#[cfg(test)]
pub(super) const STEPS: [Step; 7] = [
    Step::Begun,
    Step::Created,
    Step::HalfWritten,
    Step::Written,
    Step::Synced,
    Step::Renamed,
    Step::FolderSynced,
];

/// `after` is told of every step; its error ends the replacement there.
pub(super) fn replace(
    path: &Path,
    content: &[u8],
    after: &mut dyn FnMut(Step) -> IoResult<()>,
) -> IoResult<()> {
    after(Step::Begun)?;
    // One name is enough under the lock, and what a killed writer left there is overwritten.
    let new = beside(path, ".new");
    match std::fs::remove_file(&new) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let mut file = File::from(open(&new, flags, Mode::from_raw_mode(0o600))?);
    after(Step::Created)?;
    let (first, second) = content.split_at_checked(content.len() / 2).unwrap_or((content, &[]));
    file.write_all(first)?;
    after(Step::HalfWritten)?;
    file.write_all(second)?;
    after(Step::Written)?;
    file.sync_all()?;
    after(Step::Synced)?;
    std::fs::rename(&new, path)?;
    after(Step::Renamed)?;
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    File::open(folder)?.sync_all()?;
    after(Step::FolderSynced)
}
