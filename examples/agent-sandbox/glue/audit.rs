//! `netproxy` records, a file keeps: one JSON line per decision, appended, readable by its owner only.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

use netproxy::audit::{Record, audit_json_line};
use netproxy::hooks::{Audit, AuditUnavailable};

/// Appends to a file. Once a line could not be written, the proxy refuses everything: nothing happens
/// unrecorded.
pub struct AuditFile {
    file: Mutex<File>,
    failed: AtomicBool,
}

impl AuditFile {
    pub fn open(path: &Path) -> io::Result<Self> {
        let file = OpenOptions::new().create(true).append(true).mode(0o600).open(path)?;
        Ok(Self { file: Mutex::new(file), failed: AtomicBool::new(false) })
    }
}

impl Audit for AuditFile {
    fn ready(&self) -> Result<(), AuditUnavailable> {
        if self.failed.load(Ordering::Relaxed) { Err(AuditUnavailable) } else { Ok(()) }
    }

    fn record(&self, record: Record) {
        // One write per line: lines of sandboxes that share a file do not mix.
        let line = audit_json_line(&record) + "\n";
        let mut file = self.file.lock().unwrap_or_else(PoisonError::into_inner);
        if file.write_all(line.as_bytes()).is_err() {
            self.failed.store(true, Ordering::Relaxed);
        }
    }
}
