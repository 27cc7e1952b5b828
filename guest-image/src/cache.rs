//! The cache folder: atomic placement, one writer at a time, nothing half-made.
//! Must never put anything at its final name before it is whole.

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use crate::error::{Error, Result};

/// Prefix of unfinished entries. Whoever holds the lock may remove those of others: they are dead.
const TEMPORARY: &str = ".tmp-image-";

/// A cache folder. Finished entries are immutable, so readers need no lock.
#[derive(Debug, Clone)]
pub struct Cache {
    root: PathBuf,
}

/// Exclusive right to add entries; released on drop or when the process dies.
#[derive(Debug)]
pub struct Writer<'a> {
    cache: &'a Cache,
    _lock: File,
}

impl Cache {
    /// Names a cache folder; nothing is created until something is written.
    pub fn new(root: &Path) -> Self {
        Cache { root: root.to_path_buf() }
    }

    /// Where entry `name` is, or would be.
    pub fn entry(&self, name: &str) -> PathBuf {
        self.root.join(name)
    }

    /// Creates the folder, waits for other writers, removes what dead ones left.
    pub fn writer(&self) -> Result<Writer<'_>> {
        fs::create_dir_all(&self.root).map_err(|e| Error::io("create the cache folder", &self.root, e))?;
        let path = self.root.join(".lock");
        let lock = File::create(&path).map_err(|e| Error::io("create", &path, e))?;
        lock.lock().map_err(|e| Error::io("lock", &path, e))?;
        let entries = fs::read_dir(&self.root).map_err(|e| Error::io("list", &self.root, e))?;
        for entry in entries.flatten() {
            if entry.file_name().to_string_lossy().starts_with(TEMPORARY) {
                // A failure here only leaves garbage; it must not stop the user.
                let _ = fs::remove_dir_all(entry.path()).or_else(|_| fs::remove_file(entry.path()));
            }
        }
        Ok(Writer { cache: self, _lock: lock })
    }
}

impl Writer<'_> {
    /// A folder for work in progress, on the cache's file system; removed on drop unless placed.
    pub fn scratch(&self) -> Result<tempfile::TempDir> {
        let root = &self.cache.root;
        tempfile::Builder::new()
            .prefix(TEMPORARY)
            .tempdir_in(root)
            .map_err(|e| Error::io("write in", root, e))
    }

    /// Gives a finished folder its final name.
    pub fn place_folder(&self, from: &Path, name: &str) -> Result<PathBuf> {
        let to = self.cache.entry(name);
        let parent = to.parent().unwrap_or(&self.cache.root);
        fs::create_dir_all(parent).map_err(|e| Error::io("create", parent, e))?;
        fs::rename(from, &to).map_err(|e| Error::io("create", &to, e))?;
        Ok(to)
    }

    /// Writes a whole file under its final name, or not at all.
    pub fn place_file(&self, name: &str, bytes: &[u8]) -> Result<PathBuf> {
        let to = self.cache.entry(name);
        let root = to.parent().unwrap_or(&self.cache.root);
        fs::create_dir_all(root).map_err(|e| Error::io("create", root, e))?;
        let mut file = tempfile::Builder::new()
            .prefix(TEMPORARY)
            .tempfile_in(&self.cache.root)
            .map_err(|e| Error::io("write in", root, e))?;
        file.write_all(bytes).map_err(|e| Error::io("write", &to, e))?;
        file.persist(&to).map_err(|e| Error::io("create", &to, e.error))?;
        Ok(to)
    }

    /// Refuses to begin when the file system has less than `wanted_bytes` free.
    pub fn require_space(&self, wanted_bytes: u64) -> Result<()> {
        match free_bytes(&self.cache.root) {
            Some(free) if free < wanted_bytes => {
                Err(Error::NoSpace { path: self.cache.root.clone(), free_bytes: free, wanted_bytes })
            }
            _ => Ok(()),
        }
    }
}

/// Bytes an ordinary user may still write at `path` or its nearest existing parent.
pub(crate) fn free_bytes(path: &Path) -> Option<u64> {
    let existing = path.ancestors().find(|p| p.exists())?;
    let stat = rustix::fs::statvfs(existing).ok()?;
    stat.f_bavail.checked_mul(stat.f_frsize)
}

/// Short file name for a list of inputs: 128 bits of SHA-256 over length-prefixed parts.
pub(crate) fn digest(parts: &[&[u8]]) -> String {
    let mut hash = Sha256::new();
    for part in parts {
        hash.update((part.len() as u64).to_le_bytes());
        hash.update(part);
    }
    hash.finalize().iter().take(16).map(|b| format!("{b:02x}")).collect()
}

/// What tells one state of a file from another without reading it. The change time cannot be set by hand.
pub(crate) fn identity(path: &Path) -> Result<String> {
    use std::os::unix::fs::MetadataExt;
    let m = fs::metadata(path).map_err(|e| Error::io("read", path, e))?;
    Ok(format!("{}:{}:{}:{}.{}", m.dev(), m.ino(), m.size(), m.ctime(), m.ctime_nsec()))
}

/// Reads a file of at most `bytes_max` bytes.
pub(crate) fn read_bounded(path: &Path, bytes_max: u64) -> Result<Vec<u8>> {
    use std::io::Read;
    let file = File::open(path).map_err(|e| Error::io("read", path, e))?;
    let mut bytes = Vec::new();
    file.take(bytes_max.saturating_add(1)).read_to_end(&mut bytes).map_err(|e| Error::io("read", path, e))?;
    if u64::try_from(bytes.len()).unwrap_or(u64::MAX) > bytes_max {
        let source = std::io::Error::other(format!("larger than {bytes_max} bytes"));
        return Err(Error::Io { action: "read", path: path.to_path_buf(), source });
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dead_writers_leftovers_go_and_finished_entries_stay() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join(".tmp-image-dead")).unwrap();
        fs::write(dir.path().join(".tmp-image-dead/x"), "x").unwrap();
        fs::write(dir.path().join(".tmp-image-file"), "x").unwrap();
        fs::write(dir.path().join("kept"), "x").unwrap();
        let cache = Cache::new(dir.path());
        let writer = cache.writer().unwrap();
        let placed = writer.place_file("a/b", b"hello").unwrap();
        drop(writer);
        assert_eq!(fs::read(placed).unwrap(), b"hello");
        let mut names: Vec<_> = fs::read_dir(dir.path())
            .unwrap()
            .map(|e| e.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        assert_eq!(names, [".lock", "a", "kept"]);
    }

    #[test]
    fn no_space_is_said_before_anything_is_written() {
        let dir = tempfile::tempdir().unwrap();
        let cache = Cache::new(dir.path());
        let error = cache.writer().unwrap().require_space(u64::MAX).unwrap_err();
        let text = error.to_string();
        assert!(
            text.contains("XDG_CACHE_HOME") && text.contains(&dir.path().display().to_string()),
            "{text}"
        );
    }

    #[test]
    fn a_full_device_is_a_space_error_that_names_the_remedy() {
        let source = std::io::Error::from(std::io::ErrorKind::StorageFull);
        let error = Error::io("write", Path::new("/nowhere/cache"), source);
        assert!(matches!(error, Error::NoSpace { .. }), "{error}");
    }

    #[test]
    fn digest_separates_its_parts() {
        assert_ne!(digest(&[b"ab", b"c"]), digest(&[b"a", b"bc"]));
        assert_eq!(digest(&[b"ab"]).len(), 32);
    }
}
