//! Something made from files of this machine, made anew when they have changed: a laptop changes networks, and a proxy may
//! start before there is one. Must never give up what it has for files that are of no use, nor look at them for each name.

use std::fs;
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};
use std::time::{Instant, SystemTime};

use crate::limits::LOCAL_NETWORK_AGE;

/// Makes it; `None` where the files are not fit for it.
pub type Make<T> = Box<dyn Fn() -> Option<T> + Send + Sync>;

/// Length and time of each file; `None` for one that is not there.
type Stamps = Vec<Option<(u64, Option<SystemTime>)>>;

pub struct Renewed<T> {
    files: Vec<PathBuf>,
    make: Make<T>,
    kept: Mutex<Kept<T>>,
}

struct Kept<T> {
    made: Option<T>,
    of: Stamps,
    looked: Instant,
}

impl<T: Clone> Renewed<T> {
    pub fn new(files: Vec<PathBuf>, make: Make<T>) -> Self {
        let of = stamps(&files);
        let kept = Mutex::new(Kept { made: make(), of, looked: Instant::now() });
        Self { files, make, kept }
    }

    /// What the files say, or said at most [`LOCAL_NETWORK_AGE`] before; what they said last where they are of no use any more.
    pub fn get(&self, now: Instant) -> Option<T> {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        if now.saturating_duration_since(kept.looked) >= LOCAL_NETWORK_AGE {
            kept.looked = now;
            let of = stamps(&self.files);
            // What could not be made is tried again: that may be no fault of the files.
            if (kept.made.is_none() || kept.of != of)
                && let Some(made) = (self.make)()
            {
                (kept.made, kept.of) = (Some(made), of);
            }
        }
        kept.made.clone()
    }
}

fn stamps(files: &[PathBuf]) -> Stamps {
    let stamp = |file: &PathBuf| {
        let found = fs::metadata(file).ok()?;
        Some((found.len(), found.modified().ok()))
    };
    files.iter().map(stamp).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_could_not_be_made_for_a_moment_is_made_from_the_same_files() {
        let tries = Mutex::new(vec![Some("two"), None, Some("one"), None]);
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("resolv.conf");
        let renewed =
            Renewed::new(vec![file.clone()], Box::new(move || tries.lock().unwrap().pop().unwrap()));
        let start = Instant::now();
        let after = |count: u32| renewed.get(start + LOCAL_NETWORK_AGE * count + LOCAL_NETWORK_AGE / 2);
        assert_eq!([after(0), after(1)], [None, Some("one")]);
        fs::write(&file, "changed").unwrap();
        assert_eq!([after(2), after(3), after(4)], [Some("one"), Some("two"), Some("two")]);
    }

    #[test]
    fn it_is_made_anew_once_a_file_has_changed_and_kept_while_that_is_of_no_use() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("resolv.conf");
        let source = file.clone();
        let make = move || fs::read_to_string(&source).ok().filter(|text| !text.is_empty());
        let renewed = Renewed::new(vec![file.clone()], Box::new(make));
        let start = Instant::now();
        let after = |count: u32| renewed.get(start + LOCAL_NETWORK_AGE * count + LOCAL_NETWORK_AGE / 2);
        assert_eq!(after(0), None);
        fs::write(&file, "one").unwrap();
        assert_eq!(after(0), None, "it is not looked at for each name");
        assert_eq!(after(1).as_deref(), Some("one"));
        fs::write(&file, "two and more").unwrap();
        assert_eq!(after(2).as_deref(), Some("two and more"));
        fs::write(&file, "").unwrap();
        assert_eq!(after(3).as_deref(), Some("two and more"));
        fs::remove_file(&file).unwrap();
        assert_eq!(after(4).as_deref(), Some("two and more"));
    }
}
