//! `netproxy` records, a file keeps: one JSON line per decision, appended.
//!
//! Space for the next lines is reserved before a request is let through, so that a full disk refuses requests
//! instead of losing what they did.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

use netproxy::audit::{Record, audit_json_line};
use netproxy::hooks::{Audit, AuditUnavailable};
use rustix::fs::{FallocateFlags, OFlags, fallocate};
use rustix::io::Errno;

/// Reserved beyond the end: more than all requests under way can record.
const RESERVED_BYTES: u64 = 1 << 20;

/// Appends to a file. Once a line cannot be written, the proxy refuses everything.
pub struct AuditFile {
    file: Mutex<File>,
    failed: AtomicBool,
}

impl AuditFile {
    /// Opens or creates `path`, for its owner alone where it is new. A symbolic link is not followed: whoever can
    /// place one would choose what this program writes to.
    pub fn open(path: &Path) -> io::Result<Self> {
        // Non-blocking, so that a FIFO without a reader is an error instead of a wait.
        let flags = (OFlags::NOFOLLOW | OFlags::NONBLOCK).bits().cast_signed();
        let file = OpenOptions::new().create(true).append(true).mode(0o600).custom_flags(flags).open(path)?;
        if !file.metadata()?.is_file() {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "it is not a regular file"));
        }
        reserve(&file)?;
        Ok(Self { file: Mutex::new(file), failed: AtomicBool::new(false) })
    }

    /// Whether a line was lost.
    pub fn has_failed(&self) -> bool {
        self.failed.load(Ordering::Relaxed)
    }
}

impl Audit for AuditFile {
    fn ready(&self) -> Result<(), AuditUnavailable> {
        let file = self.file.lock().unwrap_or_else(PoisonError::into_inner);
        if self.has_failed() || reserve(&file).is_err() { Err(AuditUnavailable) } else { Ok(()) }
    }

    fn record(&self, record: Record) {
        let line = audit_json_line(&record) + "\n";
        let mut file = self.file.lock().unwrap_or_else(PoisonError::into_inner);
        if file.write_all(line.as_bytes()).is_err() {
            self.failed.store(true, Ordering::Relaxed);
        }
    }
}

/// File systems without reservation are taken as they are: there a full disk loses at most what is under way.
fn reserve(file: &File) -> io::Result<()> {
    let end = file.metadata()?.len();
    match fallocate(file, FallocateFlags::KEEP_SIZE, end, RESERVED_BYTES) {
        Err(Errno::OPNOTSUPP | Errno::NOSYS) => Ok(()),
        other => Ok(other?),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_and_what_is_no_file_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        let link = folder.path().join("link");
        std::os::unix::fs::symlink(folder.path().join("elsewhere"), &link).unwrap();
        for refused in [link.as_path(), folder.path(), Path::new("/dev/null")] {
            assert!(AuditFile::open(refused).is_err(), "{}", refused.display());
        }
        assert!(!folder.path().join("elsewhere").exists());
        assert!(AuditFile::open(&folder.path().join("log")).is_ok());
    }
}
