//! Whether an open file is this user's alone. Judged by the descriptor, never by a name, which can lead elsewhere by the
//! next call.

use rustix::fs::{FileType, Stat};

/// Why it is not.
pub(crate) fn exposure(stat: &Stat) -> Option<&'static str> {
    if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
        Some("it is not a regular file")
    } else if stat.st_uid != rustix::process::geteuid().as_raw() {
        Some("it belongs to another user")
    } else if stat.st_mode & 0o077 != 0 {
        Some("other users may read or write it")
    } else {
        None
    }
}
