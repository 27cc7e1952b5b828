//! The file that lines go to, with room reserved ahead and older files put aside. It knows nothing of records, and must never
//! follow a link, or write to what is no regular file.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::{FallocateFlags, OFlags, fallocate};
use rustix::io::Errno;

use super::Disk;

/// Reserved beyond the end, at least: more than what may wait and lines of usual length of all requests under way.
pub(super) const RESERVED_BYTES_MIN: u64 = 3 << 20;
/// Reserved at a time, at least: in memory, as on `tmpfs`, it takes a while.
pub(super) const RESERVE_STEP_BYTES: u64 = 256 * 1024;

/// When a new file is begun.
#[derive(Debug, Clone, Copy)]
pub struct Rotation {
    /// Size of a file at which the next one begins, in bytes.
    pub bytes: u64,
    /// Older files that are kept: `log.1` (the newest of them) to `log.N`.
    pub keep: u32,
}

/// The file itself, with space reserved beyond its end.
pub(super) struct Log {
    path: PathBuf,
    file: File,
    end: u64,
    reserved: u64,
    rotation: Option<Rotation>,
}

impl Log {
    pub(super) fn open(path: &Path, rotation: Option<Rotation>) -> io::Result<Self> {
        let file = append_to(path)?;
        let end = file.metadata()?.len();
        let is_whole = ends_whole(&file, end)?;
        let mut log = Self { path: path.to_owned(), file, end, reserved: 0, rotation };
        if !is_whole {
            log.write(b"\n")?;
        }
        if let Some(rotation) = rotation {
            log.check_older(rotation.keep)?;
        }
        log.prepare()?;
        Ok(log)
    }
}

impl Disk for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = self.file.write(bytes)?;
        self.end = self.end.saturating_add(count as u64);
        if count == 0 { Err(io::ErrorKind::WriteZero.into()) } else { Ok(count) }
    }

    /// Begins the next file where it is time, and reserves room.
    fn prepare(&mut self) -> io::Result<()> {
        if let Some(rotation) = self.rotation.filter(|rotation| self.end >= rotation.bytes) {
            self.rotate(rotation.keep)?;
        }
        let from = self.reserved.max(self.end);
        let wanted = self.end.saturating_add(RESERVED_BYTES_MIN);
        if from >= wanted {
            return Ok(());
        }
        let to = wanted.saturating_add(RESERVE_STEP_BYTES);
        // File systems without reservation are taken as they are: there a full disk is noticed when it is full.
        match fallocate(&self.file, FallocateFlags::KEEP_SIZE, from, to.saturating_sub(from)) {
            Ok(()) | Err(Errno::OPNOTSUPP | Errno::NOSYS) => {}
            Err(error) => return Err(error.into()),
        }
        self.reserved = to;
        Ok(())
    }
}

impl Log {
    /// Where the file goes when it is the `n`th before this one.
    fn older(&self, n: u32) -> PathBuf {
        let mut name = self.path.clone().into_os_string();
        name.push(format!(".{n}"));
        PathBuf::from(name)
    }

    /// What has such a name and is not ours is neither moved nor overwritten.
    fn check_older(&self, keep: u32) -> io::Result<()> {
        for path in (1..=keep).map(|n| self.older(n)) {
            if path.symlink_metadata().is_ok_and(|found| !found.is_file()) {
                return Err(io::Error::other(format!("{} is not a regular file", path.display())));
            }
        }
        Ok(())
    }

    fn rotate(&mut self, keep: u32) -> io::Result<()> {
        self.check_older(keep)?;
        let older = |n: u32| self.older(n);
        // After a try that ended half way, the file has gone to its place already.
        if self.path.symlink_metadata().is_ok() {
            for n in (1..keep).rev() {
                match fs::rename(older(n), older(n.saturating_add(1))) {
                    Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                    _ => {}
                }
            }
            match keep {
                0 => fs::remove_file(&self.path)?,
                _ => fs::rename(&self.path, older(1))?,
            }
        }
        // Give back what was reserved and not used, of which only room would be lost.
        let _ = self.file.metadata().and_then(|file| self.file.set_len(file.len()));
        (self.file, self.end, self.reserved) = (append_to(&self.path)?, 0, 0);
        Ok(())
    }
}

/// Whether the last line has its end. Of a machine that lost its power it may not, and then what follows would be no line,
/// either.
fn ends_whole(file: &File, end: u64) -> io::Result<bool> {
    let Some(at) = end.checked_sub(1) else { return Ok(true) };
    let mut last = [0];
    file.read_exact_at(&mut last, at)?;
    Ok(last == *b"\n")
}

fn append_to(path: &Path) -> io::Result<File> {
    // Non-blocking, so that a FIFO without a reader is an error instead of a wait.
    let flags = (OFlags::NOFOLLOW | OFlags::NONBLOCK).bits().cast_signed();
    // Read for its last byte only, and not by its name again: that may lead elsewhere by then.
    let file =
        OpenOptions::new().create(true).read(true).append(true).mode(0o600).custom_flags(flags).open(path)?;
    if file.metadata()?.is_file() {
        Ok(file)
    } else {
        Err(io::Error::new(io::ErrorKind::InvalidInput, "it is not a regular file"))
    }
}
