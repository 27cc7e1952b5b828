//! Counts threads and open files of this process.

use std::path::PathBuf;
use std::time::{Duration, Instant};

/// What a virtual machine must not leave behind.
#[derive(Debug)]
pub struct Leftovers {
    threads: usize,
    files: Vec<String>,
}

impl Leftovers {
    /// As of now.
    pub fn count() -> Self {
        let entries = |folder: &str| -> Vec<PathBuf> {
            std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect()
        };
        let threads = entries("/proc/self/task").len();
        // The descriptor that lists the folder is gone by the time its link is read.
        let links = entries("/proc/self/fd").into_iter().filter_map(|path| std::fs::read_link(path).ok());
        let mut files: Vec<String> = links.map(|link| link.to_string_lossy().into_owned()).collect();
        files.sort();
        Self { threads, files }
    }

    /// Asserts that there is nothing now that was not there before.
    pub fn assert_none_since(before: &Self) {
        // A joined thread is listed for a moment longer; that of the harness's last test, too, may have
        // been counted before and be gone now.
        let limit = Instant::now() + Duration::from_secs(5);
        let mut now = Self::count();
        while now.threads > before.threads && Instant::now() < limit {
            std::thread::yield_now();
            now = Self::count();
        }
        assert!(now.threads <= before.threads, "threads: {} before, {} now", before.threads, now.threads);
        assert_eq!(now.files, before.files, "open files");
    }
}
