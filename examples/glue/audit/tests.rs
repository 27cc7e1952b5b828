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

/// Keeps what is told.
fn listener() -> (Arc<Mutex<Vec<String>>>, impl Fn(&str) + Send + Sync) {
    let told = Arc::new(Mutex::new(Vec::new()));
    let heard = Arc::clone(&told);
    (told, move |text: &str| heard.lock().unwrap().push(text.to_owned()))
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
fn what_stands_where_an_older_file_goes_is_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    let (path, theirs) = (folder.path().join("log"), folder.path().join("log.1"));
    let rotation = Some(Rotation { bytes: 1, keep: 2 });
    let open = |tell| AuditFile::open(&path, rotation, tell);
    fs::create_dir(&theirs).unwrap();
    let error = open(silent as fn(&str)).err().unwrap().to_string();
    assert!(error.ends_with("log.1 is not a regular file"), "{error}");
    fs::remove_dir(&theirs).unwrap();
    let mut log = Log::open(&path, rotation).unwrap();
    log.write(b"first\n").unwrap();
    std::os::unix::fs::symlink("elsewhere", &theirs).unwrap();
    assert!(log.prepare().is_err());
    assert_eq!(fs::read_link(&theirs).unwrap(), Path::new("elsewhere"));
    assert_eq!(fs::read_to_string(&path).unwrap(), "first\n");
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
        let _ = writeln!(io::stdout(), "\nSKIPPED: the file system of {} reserves nothing", path.display());
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
fn what_was_reserved_is_given_back_at_a_rotation() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("log");
    let mut log = Log::open(&path, Some(Rotation { bytes: 1, keep: 1 })).unwrap();
    log.prepare().unwrap();
    if fs::metadata(&path).unwrap().blocks() == 0 {
        let _ = writeln!(io::stdout(), "\nSKIPPED: the file system of {} reserves nothing", path.display());
        return;
    }
    log.write(b"first\n").unwrap();
    log.prepare().unwrap();
    let taken = fs::metadata(folder.path().join("log.1")).unwrap().blocks() * 512;
    assert!(taken < RESERVE_STEP_BYTES, "{taken} bytes");
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
    let (told, tell) = listener();
    let file = AuditFile::over(Cramped(Arc::clone(&room)), GATHER, tell).unwrap();
    file.record(record(1));
    while file.ready().is_ok() {
        thread::yield_now();
    }
    room.store(true, Ordering::SeqCst);
    // Long enough for any machine: without the look it never is.
    for _ in 0..100 {
        if file.ready().is_ok() {
            break;
        }
        thread::sleep(RETRY);
    }
    assert!(file.ready().is_ok(), "the room was not found");
    drop(file);
    let told = told.lock().unwrap();
    assert!(told[0].starts_with("the audit log takes no lines (no storage space)"), "{told:?}");
    assert_eq!(told[1..], [TAKEN_AGAIN]);
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
    let file =
        AuditFile::open(&folder.path().join("log"), Some(Rotation { bytes: 1, keep: 2 }), silent).unwrap();
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
    let (told, tell) = listener();
    let file = AuditFile::over(Sick { permissions, taken: Arc::clone(&taken) }, GATHER, tell).unwrap();
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
    // Once each time, however often it was tried.
    let told = told.lock().unwrap();
    assert_eq!(told.iter().filter(|text| *text == TAKEN_AGAIN).count(), 1);
    assert_eq!(told.len(), 3, "{told:?}");
}

#[test]
fn the_first_lost_line_is_told_once_and_all_are_counted() {
    let (_permit, permissions) = channel();
    let (told, tell) = listener();
    let file = AuditFile::over(Sick { permissions, taken: Arc::default() }, GATHER, tell).unwrap();
    assert!(file.metrics_text().contains("\nagent_sandbox_audit_lines_lost_total 0\n"));
    // As many as fit into memory twice: what the writer holds, and what waits behind it.
    let fit = 2 * WAITING_BYTES_MAX / audit_json_line(&record(1)).len();
    let mut number = 0;
    let is_told = |text: &str| told.lock().unwrap().iter().filter(|told| *told == text).count();
    while is_told(FIRST_LOST) == 0 {
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
    assert_eq!(is_told(FIRST_LOST), 1);
    assert!(file.ready().is_err());
}
