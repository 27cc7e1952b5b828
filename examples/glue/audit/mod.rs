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
    tell: Box<Tell>,
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

/// Told once, when the first line is lost.
type Tell = dyn Fn(&str) + Send + Sync;

const FIRST_LOST: &str = "the audit log loses lines: 16 MiB wait for a disk that takes nothing; everything is refused, and \
    refusals are no longer recorded. See to the disk that holds it";

impl AuditFile {
    /// Opens or creates `path`, for its owner alone where it is new. A symbolic link is not followed: whoever can
    /// place one would choose what this program writes to. `tell` gets one sentence when the first line is lost.
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
        });
        let writers = Arc::clone(&shared);
        let writer = thread::Builder::new()
            .name("audit".to_owned())
            .spawn(move || writers.write(&mut disk, gather))?;
        Ok(Self { shared, tell: Box::new(tell), writer: Some(writer) })
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
                (self.tell)(FIRST_LOST);
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
                    self.stuck.store(disk.prepare().is_err(), Ordering::Relaxed);
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
                Err(_) => {
                    self.stuck.store(true, Ordering::Relaxed);
                    let waiting = self.lock();
                    over |= wait(&self.news, waiting, RETRY).over;
                    last_tries -= u32::from(over);
                    if last_tries == 0 {
                        return false;
                    }
                }
            }
            if bytes.is_empty() {
                self.stuck.store(disk.prepare().is_err(), Ordering::Relaxed);
                return true;
            }
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
mod tests {
    use std::fs;
    use std::io::Write;
    use std::os::unix::fs::MetadataExt;
    use std::sync::mpsc::{Receiver, Sender, channel};
    use std::time::SystemTime;

    use netproxy::audit::{Layer, Outcome, audit_json_line};
    use netproxy::id::DecisionId;

    use super::log::{RESERVE_STEP_BYTES, RESERVED_BYTES_MIN};
    use super::*;

    fn record(number: u64) -> Record {
        Record::new(SystemTime::UNIX_EPOCH, DecisionId::new(number, [0; 10]), Layer::Http, Outcome::Allow)
    }

    fn silent(text: &str) {
        panic!("{text}");
    }

    #[test]
    fn links_and_what_is_no_file_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        let link = folder.path().join("link");
        std::os::unix::fs::symlink(folder.path().join("elsewhere"), &link).unwrap();
        for refused in [link.as_path(), folder.path(), Path::new("/dev/null")] {
            assert!(AuditFile::open(refused, None, silent).is_err(), "{}", refused.display());
        }
        assert!(!folder.path().join("elsewhere").exists());
        assert!(AuditFile::open(&folder.path().join("log"), None, silent).is_ok());
    }

    #[test]
    fn a_line_that_was_cut_off_does_not_spoil_the_next() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log");
        for (before, after) in [("", ""), ("{}\n", "{}\n"), ("{}\n{\"v\":", "{}\n{\"v\":\n")] {
            fs::write(&path, before).unwrap();
            AuditFile::open(&path, None, silent).unwrap().record(record(1));
            let expected = format!("{after}{}\n", audit_json_line(&record(1)));
            assert_eq!(fs::read_to_string(&path).unwrap(), expected);
        }
        // One that is long enough to be put aside ends in the old file.
        fs::write(&path, "{}\n{\"v\":").unwrap();
        AuditFile::open(&path, Some(Rotation { bytes: 1, keep: 1 }), silent).unwrap();
        assert_eq!(fs::read_to_string(folder.path().join("log.1")).unwrap(), "{}\n{\"v\":\n");
        assert_eq!(fs::read_to_string(&path).unwrap(), "");
    }

    #[test]
    fn every_line_is_in_the_files_in_order_across_rotations() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log");
        let file = AuditFile::open(&path, Some(Rotation { bytes: 2000, keep: 50 }), silent).unwrap();
        for number in 0..100 {
            file.record(record(number));
            assert!(!file.has_failed());
        }
        drop(file);
        let mut lines = Vec::new();
        for n in (1..=50).rev() {
            lines.extend(
                fs::read_to_string(folder.path().join(format!("log.{n}")))
                    .unwrap_or_default()
                    .lines()
                    .map(str::to_owned),
            );
        }
        assert!(lines.len() > 50, "nothing was rotated");
        lines.extend(fs::read_to_string(&path).unwrap().lines().map(str::to_owned));
        let expected: Vec<String> = (0..100).map(|number| audit_json_line(&record(number))).collect();
        assert_eq!(lines, expected);
    }

    #[test]
    fn room_is_reserved_ahead_of_the_end() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log");
        let taken = || fs::metadata(&path).unwrap().blocks() * 512;
        let file = AuditFile::open(&path, None, silent).unwrap();
        if taken() == 0 {
            let _ = writeln!(io::stderr(), "SKIPPED: the file system of {} reserves nothing", path.display());
            return;
        }
        let lines = 3 * RESERVE_STEP_BYTES / audit_json_line(&record(1)).len() as u64;
        for number in 0..lines {
            file.record(record(number));
        }
        assert!(!file.has_failed());
        // The last reservation follows the last write.
        drop(file);
        let end = fs::metadata(&path).unwrap().len();
        assert!(taken() >= end + RESERVED_BYTES_MIN, "{} bytes for {end}", taken());
    }

    #[test]
    fn a_rotation_that_ended_half_way_goes_on_there() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log");
        let mut log = Log::open(&path, Some(Rotation { bytes: 1, keep: 3 })).unwrap();
        log.write(b"first\n").unwrap();
        // It was moved, and then no new one could be opened.
        fs::rename(&path, folder.path().join("log.1")).unwrap();
        log.prepare().unwrap();
        log.write(b"second\n").unwrap();
        assert_eq!(fs::read_to_string(folder.path().join("log.1")).unwrap(), "first\n");
        assert_eq!(fs::read_to_string(&path).unwrap(), "second\n");
        assert!(!folder.path().join("log.2").exists());
    }

    /// Takes every line, and has room for the next when it is told to have.
    struct Cramped(Arc<AtomicBool>);

    impl Disk for Cramped {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            Ok(bytes.len())
        }
        fn prepare(&mut self) -> io::Result<()> {
            if self.0.load(Ordering::SeqCst) { Ok(()) } else { Err(io::ErrorKind::StorageFull.into()) }
        }
    }

    #[test]
    fn room_is_found_again_without_another_line() {
        let room = Arc::new(AtomicBool::new(false));
        let file = AuditFile::over(Cramped(Arc::clone(&room)), GATHER, silent).unwrap();
        file.record(record(1));
        while file.ready().is_ok() {
            thread::yield_now();
        }
        room.store(true, Ordering::SeqCst);
        // Long enough for any machine: without the look it never is.
        for _ in 0..100 {
            if file.ready().is_ok() {
                return;
            }
            thread::sleep(RETRY);
        }
        panic!("the room was not found");
    }

    /// Says how many bytes each write has.
    struct Counting(Sender<usize>);

    impl Disk for Counting {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.send(bytes.len()).map_err(io::Error::other)?;
            Ok(bytes.len())
        }
        fn prepare(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn lines_are_written_in_pieces_that_do_not_wait_until_time_is_over() {
        let (count, written) = channel();
        // Nothing but the lines' number ends such a wait.
        let file = AuditFile::over(Counting(count), Duration::from_secs(3600), silent).unwrap();
        let line = audit_json_line(&record(1)).len() + 1;
        let next = || written.recv_timeout(Duration::from_secs(60)).expect("a write");
        file.record(record(1));
        assert_eq!(next(), line);
        for _ in 0..2 {
            for _ in 0..PIECE_BYTES.div_ceil(line) {
                assert!(written.try_recv().is_err(), "a line alone");
                file.record(record(1));
            }
            assert_eq!(next(), PIECE_BYTES.next_multiple_of(line));
        }
        // The end does not wait either.
        file.record(record(1));
        drop(file);
        assert_eq!(next(), line);
    }

    #[test]
    fn no_more_files_are_kept_than_asked_for() {
        let folder = tempfile::tempdir().unwrap();
        let file = AuditFile::open(&folder.path().join("log"), Some(Rotation { bytes: 1, keep: 2 }), silent)
            .unwrap();
        for number in 0..9 {
            file.record(record(number));
            assert!(!file.has_failed());
        }
        drop(file);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 3);
    }

    /// Takes a few bytes for each permission it is sent, fails while it is sent none, and has no room after.
    struct Sick {
        permissions: Receiver<usize>,
        taken: Arc<Mutex<Vec<u8>>>,
    }

    impl Disk for Sick {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let count = self.permissions.try_recv().map_err(|_| io::ErrorKind::StorageFull)?.min(bytes.len());
            self.taken.lock().unwrap().extend_from_slice(&bytes[..count]);
            Ok(count)
        }
        fn prepare(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_full_disk_refuses_and_loses_nothing_once_it_has_room_again() {
        let (permit, permissions) = channel();
        let taken = Arc::new(Mutex::new(Vec::new()));
        let file = AuditFile::over(Sick { permissions, taken: Arc::clone(&taken) }, GATHER, silent).unwrap();
        assert!(file.ready().is_ok());
        file.record(record(1));
        while file.ready().is_ok() {
            thread::yield_now();
        }
        file.record(record(2));
        let expected = format!("{}\n{}\n", audit_json_line(&record(1)), audit_json_line(&record(2)));
        // Exactly what the two lines take, seven bytes at a time.
        for line in expected.split_inclusive('\n') {
            for _ in 0..line.len().div_ceil(7) {
                permit.send(7).unwrap();
            }
        }
        while file.ready().is_err() {
            thread::yield_now();
        }
        assert!(!file.has_failed());
        assert_eq!(String::from_utf8(taken.lock().unwrap().clone()).unwrap(), expected);
        file.record(record(3));
        assert!(file.has_failed());
    }

    #[test]
    fn the_first_lost_line_is_told_once_and_all_are_counted() {
        let (_permit, permissions) = channel();
        let told = Arc::new(Mutex::new(Vec::new()));
        let tell = {
            let told = Arc::clone(&told);
            move |text: &str| told.lock().unwrap().push(text.to_owned())
        };
        let file = AuditFile::over(Sick { permissions, taken: Arc::default() }, GATHER, tell).unwrap();
        assert!(file.metrics_text().contains("\nagent_sandbox_audit_lines_lost_total 0\n"));
        // As many as fit into memory twice: what the writer holds, and what waits behind it.
        let fit = 2 * WAITING_BYTES_MAX / audit_json_line(&record(1)).len();
        let mut number = 0;
        while told.lock().unwrap().is_empty() {
            number += 1;
            assert!(number < u64::try_from(fit).unwrap() + 100, "nothing was told");
            file.record(record(number));
        }
        file.record(record(number));
        file.record(record(number));
        let text = file.metrics_text();
        assert!(text.contains("\nagent_sandbox_audit_lines_lost_total 3\n"), "{text}");
        let bytes = text.lines().last().unwrap().rsplit_once(' ').unwrap().1.parse::<usize>().unwrap();
        assert!(bytes > WAITING_BYTES_MAX, "{text}");
        assert_eq!(*told.lock().unwrap(), [FIRST_LOST]);
        assert!(file.ready().is_err());
    }
}
