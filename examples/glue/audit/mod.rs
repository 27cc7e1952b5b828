//! `netproxy` records, a file keeps: one JSON line per decision, appended.
//!
//! A line is taken into memory at once and written by a thread of its own, alone when little happens and many at
//! a time under load: a request does not wait for the disk. Nothing is let through that could not be kept: space for
//! the next lines is reserved ahead, and while that fails, or lines wait that the disk does not take, [`Audit::ready`]
//! refuses.
//!
//! What the disk did not take stays in memory and is tried again; only the end of the process can lose it, and
//! [`AuditFile::has_failed`] says so. A process that is killed loses what its last moment (5 ms) recorded.

mod log;

use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use netproxy::audit::{Record, push_audit_json_line};
use netproxy::hooks::{Audit, AuditUnavailable};

use self::log::Log;
pub use self::log::Rotation;

/// Lines that wait in memory, or are being written, before new requests are refused: those of some tens of milliseconds
/// under full load.
const BACKLOG_BYTES_MAX: usize = 1 << 20;
/// Lines that wait in memory at most, nearly all of refusals, while the disk takes nothing.
const WAITING_BYTES_MAX: usize = 16 << 20;
/// How long lines are gathered under load, at most.
const GATHER: Duration = Duration::from_millis(5);
/// As many are written at once. On the processor that carries the traffic, requests wait as long as one write takes; each
/// costs a change of threads, too.
const PIECE_BYTES: usize = 32 * 1024;
/// Between two tries on a disk that took nothing.
const RETRY: Duration = Duration::from_millis(200);
/// How long the end waits for a disk that takes nothing.
const LAST_TRIES: u32 = 10;

/// Appends to a file. While lines cannot be written, the proxy refuses everything.
pub struct AuditFile {
    shared: Arc<Shared>,
    writer: Option<JoinHandle<()>>,
}

struct Shared {
    waiting: Mutex<Waiting>,
    /// There are as many lines as the writer asked for, or it is over.
    news: Condvar,
    /// Everything is written.
    written: Condvar,
    /// The disk did not take the last lines, or has no room for the next.
    stuck: AtomicBool,
    tell: Box<Tell>,
}

#[derive(Default)]
struct Waiting {
    lines: Vec<u8>,
    /// How many bytes of them the writer waits for; `None` while it has other work.
    asked: Option<usize>,
    /// Bytes of lines that the writer holds, and that are not all written yet.
    writing: usize,
    over: bool,
    /// Lines for which not even memory had room.
    lost: u64,
}

/// Told when the file takes no lines any more, when it does again, and when the first line is lost.
type Tell = dyn Fn(&str) + Send + Sync;

const TAKEN_AGAIN: &str = "the audit log takes lines again";

const FIRST_LOST: &str = "the audit log loses lines: 16 MiB wait for a disk that takes nothing; everything is refused, and \
    refusals are no longer recorded. See to the disk that holds it";

impl AuditFile {
    /// Opens or creates `path`, for its owner alone where it is new. A symbolic link is not followed: whoever can
    /// place one would choose what this program writes to. `tell` gets a sentence when the file takes no lines any more, when it
    /// does again, and when the first line is lost.
    pub fn open(
        path: &Path,
        rotation: Option<Rotation>,
        tell: impl Fn(&str) + Send + Sync + 'static,
    ) -> io::Result<Self> {
        Self::over(Log::open(path, rotation)?, GATHER, tell)
    }

    fn over(
        mut disk: impl Disk + 'static,
        gather: Duration,
        tell: impl Fn(&str) + Send + Sync + 'static,
    ) -> io::Result<Self> {
        let shared = Arc::new(Shared {
            waiting: Mutex::default(),
            news: Condvar::new(),
            written: Condvar::new(),
            stuck: AtomicBool::new(false),
            tell: Box::new(tell),
        });
        let writers = Arc::clone(&shared);
        let writer = thread::Builder::new()
            .name("audit".to_owned())
            .spawn(move || writers.write(&mut disk, gather))?;
        Ok(Self { shared, writer: Some(writer) })
    }

    /// Lines lost and bytes waiting, in Prometheus' text format; to be appended to the proxy's own.
    pub fn metrics_text(&self) -> String {
        let waiting = self.shared.lock();
        let (lost, bytes) = (waiting.lost, waiting.bytes());
        drop(waiting);
        format!(
            "# HELP agent_sandbox_audit_lines_lost_total Lines of the audit log that neither disk nor memory took.\n\
             # TYPE agent_sandbox_audit_lines_lost_total counter\n\
             agent_sandbox_audit_lines_lost_total {lost}\n\
             # HELP agent_sandbox_audit_waiting_bytes Bytes of the audit log that wait for the disk.\n\
             # TYPE agent_sandbox_audit_waiting_bytes gauge\n\
             agent_sandbox_audit_waiting_bytes {bytes}\n"
        )
    }

    /// Whether the file lacks a line. Waits for those under way.
    pub fn has_failed(&self) -> bool {
        let mut waiting = self.shared.lock();
        for _ in 0..LAST_TRIES {
            if waiting.is_done() {
                break;
            }
            waiting = wait(&self.shared.written, waiting, RETRY);
        }
        waiting.lost > 0 || !waiting.is_done()
    }
}

impl Waiting {
    fn bytes(&self) -> usize {
        self.lines.len().saturating_add(self.writing)
    }

    fn is_done(&self) -> bool {
        self.bytes() == 0
    }
}

impl Drop for AuditFile {
    fn drop(&mut self) {
        self.shared.lock().over = true;
        self.shared.news.notify_one();
        if let Some(writer) = self.writer.take() {
            let _ = writer.join();
        }
    }
}

impl Audit for AuditFile {
    fn ready(&self) -> Result<(), AuditUnavailable> {
        let refused =
            self.shared.stuck.load(Ordering::Relaxed) || self.shared.lock().bytes() > BACKLOG_BYTES_MAX;
        if refused { Err(AuditUnavailable) } else { Ok(()) }
    }

    fn record(&self, record: Record) {
        let mut waiting = self.shared.lock();
        if waiting.lines.len() > WAITING_BYTES_MAX {
            waiting.lost = waiting.lost.saturating_add(1);
            let first = waiting.lost == 1;
            drop(waiting);
            if first {
                (self.shared.tell)(FIRST_LOST);
            }
            return;
        }
        push_audit_json_line(&mut waiting.lines, &record);
        let enough = waiting.asked.is_some_and(|asked| waiting.lines.len() >= asked);
        if enough {
            waiting.asked = None;
        }
        drop(waiting);
        if enough {
            self.shared.news.notify_one();
        }
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The writer's thread, until it is over and nothing is left, or the disk takes nothing any more.
    fn write(&self, disk: &mut impl Disk, gather: Duration) {
        let mut lines = Vec::new();
        loop {
            let mut waiting = self.lock();
            while waiting.lines.is_empty() && !waiting.over {
                waiting.asked = Some(1);
                if self.stuck.load(Ordering::Relaxed) {
                    drop(wait(&self.news, waiting, RETRY));
                    // Without lines nothing else finds out that there is room again.
                    self.took(disk.prepare());
                    waiting = self.lock();
                } else {
                    waiting = self.news.wait(waiting).unwrap_or_else(PoisonError::into_inner);
                }
            }
            std::mem::swap(&mut lines, &mut waiting.lines);
            waiting.asked = None;
            let over = waiting.over;
            waiting.writing = lines.len();
            drop(waiting);
            if lines.is_empty() {
                return;
            }
            if !self.write_all(disk, &lines, over) {
                return;
            }
            lines.clear();
            let mut waiting = self.lock();
            waiting.writing = 0;
            self.written.notify_all();
            if !over {
                waiting.asked = Some(PIECE_BYTES);
                let few = |waiting: &mut Waiting| waiting.lines.len() < PIECE_BYTES && !waiting.over;
                drop(self.news.wait_timeout_while(waiting, gather, few));
            }
        }
    }

    /// Tries until every byte is written; `false` if it gives up because everything is over.
    fn write_all(&self, disk: &mut impl Disk, mut bytes: &[u8], mut over: bool) -> bool {
        let mut last_tries = LAST_TRIES;
        loop {
            match disk.write(bytes) {
                Ok(count) => bytes = bytes.get(count..).unwrap_or_default(),
                Err(error) => {
                    self.took(Err(error));
                    let waiting = self.lock();
                    over |= wait(&self.news, waiting, RETRY).over;
                    last_tries -= u32::from(over);
                    if last_tries == 0 {
                        return false;
                    }
                }
            }
            if bytes.is_empty() {
                self.took(disk.prepare());
                return true;
            }
        }
    }

    /// Lets requests through, or none, as the disk `did`; where that is new, it is told.
    fn took(&self, did: io::Result<()>) {
        let was_stuck = self.stuck.swap(did.is_err(), Ordering::Relaxed);
        match did {
            Err(error) if !was_stuck => (self.tell)(&format!(
                "the audit log takes no lines ({error}): everything is refused until it does. See to the disk or folder that holds it"
            )),
            Ok(()) if was_stuck => (self.tell)(TAKEN_AGAIN),
            _ => {}
        }
    }
}

fn wait<'a>(on: &Condvar, waiting: MutexGuard<'a, Waiting>, time: Duration) -> MutexGuard<'a, Waiting> {
    on.wait_timeout(waiting, time).unwrap_or_else(PoisonError::into_inner).0
}

/// What lines are written to.
trait Disk: Send {
    /// Takes some of `bytes`.
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize>;
    /// Between two writes, at the end of a line. An error: nothing more may be let through.
    fn prepare(&mut self) -> io::Result<()>;
}

#[cfg(test)]
mod tests;
