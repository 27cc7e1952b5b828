//! What a device exports: shares, hung into a small tree of made-up directories.
//!
//! The made-up directories hold nothing but the way to the shares and can never be changed by a guest.
//! Everything that can be wrong with a configuration is found here, before a guest runs.

use std::collections::BTreeMap;
use std::ffi::{CStr, CString};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

use rustix::fs::Statx;
use rustix::io::Errno;

use super::identity::{Identity, is_pseudo_filesystem};
use super::limits::{AT_DEPTH_MAX, NAME_BYTES_MAX, SHARES_MAX};
use crate::host_path::{self, DIRECTORY, FORMAT, REGULAR};

/// A host directory or regular file, and where the guest finds it in the exported tree.
#[derive(Debug)]
pub struct Share {
    /// Place in the exported tree, relative, of plain names: `usr`, `etc/ssl`, `work/project`. Empty for
    /// a device whose only share is the whole tree.
    pub at: PathBuf,
    /// The directory or regular file on the host.
    pub source: Source,
    /// Whether the device refuses every change (`EROFS`), whatever the guest's mount options say.
    pub read_only: bool,
}

/// Where a share's content is.
#[derive(Debug)]
pub enum Source {
    /// A path, opened with the authority of this process; symbolic links in it are followed, once.
    Path(PathBuf),
    /// Something open already (`O_PATH` is enough).
    Fd(OwnedFd),
}

impl<P: Into<PathBuf>> From<P> for Source {
    fn from(path: P) -> Self {
        Self::Path(path.into())
    }
}

/// Why a device could not be made.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FsError {
    /// `at` is not a relative path of plain names.
    #[error("share place {0:?} must be a relative path of plain names, such as `usr` or `etc/ssl`")]
    Place(PathBuf),
    /// Two shares want the same place, or one lies inside the other.
    #[error("share place {0:?} is taken by another share, or lies inside one; give each share its own place")]
    Taken(PathBuf),
    /// More shares than a device serves.
    #[error("{0} shares are more than the {SHARES_MAX} that one device serves")]
    Count(usize),
    /// The source cannot be opened.
    #[error("cannot open {path:?} to share it as {at:?}: {source}")]
    Open {
        /// Place of the share.
        at: PathBuf,
        /// Source as it was given.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The source is neither a directory nor a regular file, or lies on a file system such as procfs.
    #[error(
        "{0:?} cannot be shared: only directories and regular files outside /proc, /sys and their like can"
    )]
    Kind(PathBuf),
    /// A read-only share would be writable through another one.
    #[error(
        "{read_only:?} is to be read-only but lies inside {writable:?}, which is writable; share neither or make both read-only"
    )]
    Overlap {
        /// Host path of the read-only share.
        read_only: PathBuf,
        /// Host path of the writable share.
        writable: PathBuf,
    },
    /// `/proc/self/fd` or a descriptor of the device itself is not to be had.
    #[error("cannot prepare the file server: {0}; is /proc mounted and the limit on open files sensible?")]
    Prepare(#[source] std::io::Error),
}

/// An opened share.
#[derive(Debug)]
pub(super) struct Root {
    pub(super) fd: Arc<OwnedFd>,
    pub(super) identity: Identity,
    pub(super) read_only: bool,
}

/// What a name in a made-up directory leads to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Spot {
    Folder(usize),
    Share(usize),
}

/// A made-up directory.
#[derive(Debug, Default)]
pub(super) struct Folder {
    pub(super) entries: BTreeMap<CString, Spot>,
}

/// Everything that is exported. The root is `folders[0]`, or `shares[0]` when there are no folders.
#[derive(Debug)]
pub(super) struct Tree {
    pub(super) folders: Vec<Folder>,
    pub(super) shares: Vec<Root>,
}

impl Tree {
    /// Opens all sources and hangs them into place.
    pub(super) fn build(shares: Vec<Share>) -> Result<Self, FsError> {
        if shares.len() > SHARES_MAX {
            return Err(FsError::Count(shares.len()));
        }
        let mut tree = Self { folders: vec![Folder::default()], shares: Vec::with_capacity(shares.len()) };
        let whole = matches!(&*shares, [only] if only.at.as_os_str().is_empty());
        let mut paths = Vec::with_capacity(shares.len());
        for (index, share) in shares.into_iter().enumerate() {
            if !whole {
                tree.hang(&share.at, index)?;
            }
            let (root, path) = open(share)?;
            paths.push((path, root.read_only));
            tree.shares.push(root);
        }
        if whole {
            tree.folders.clear();
        }
        refuse_overlap(&paths)?;
        Ok(tree)
    }

    fn hang(&mut self, at: &Path, share: usize) -> Result<(), FsError> {
        let names = names_of(at).ok_or_else(|| FsError::Place(at.to_path_buf()))?;
        let taken = || FsError::Taken(at.to_path_buf());
        let (last, parents) = names.split_last().ok_or_else(|| FsError::Place(at.to_path_buf()))?;
        let mut folder = 0;
        for name in parents {
            folder = match self.find(folder, name) {
                Some(Spot::Folder(index)) => index,
                Some(Spot::Share(_)) => return Err(taken()),
                None => {
                    let index = self.folders.len();
                    self.folders.push(Folder::default());
                    self.put(folder, name, Spot::Folder(index));
                    index
                }
            };
        }
        if self.find(folder, last).is_some() {
            return Err(taken());
        }
        self.put(folder, last, Spot::Share(share));
        Ok(())
    }

    /// What `name` in folder `folder` leads to.
    pub(super) fn find(&self, folder: usize, name: &CStr) -> Option<Spot> {
        self.folders.get(folder)?.entries.get(name).copied()
    }

    fn put(&mut self, folder: usize, name: &CStr, spot: Spot) {
        if let Some(folder) = self.folders.get_mut(folder) {
            folder.entries.insert(name.to_owned(), spot);
        }
    }
}

fn names_of(at: &Path) -> Option<Vec<CString>> {
    let names: Option<Vec<_>> = at
        .components()
        .map(|component| match component {
            Component::Normal(name) if name.len() <= NAME_BYTES_MAX => CString::new(name.as_bytes()).ok(),
            _ => None,
        })
        .collect();
    names.filter(|names| (1..=AT_DEPTH_MAX).contains(&names.len()))
}

fn open(share: Share) -> Result<(Root, PathBuf), FsError> {
    let Share { at, source, read_only } = share;
    let (given, fd) = match source {
        Source::Path(path) => {
            let opened = host_path::ambient(&path);
            (path, opened)
        }
        Source::Fd(fd) => (PathBuf::from(format!("file descriptor {}", fd.as_raw_fd())), Ok(fd)),
    };
    let failed = |error: Errno| FsError::Open { at: at.clone(), path: given.clone(), source: error.into() };
    let fd = fd.map_err(failed)?;
    let stat = host_path::stat(&fd).map_err(failed)?;
    if !is_shareable(&stat) || is_pseudo_filesystem(&fd).map_err(failed)? {
        return Err(FsError::Kind(given));
    }
    // The kernel's own idea of the path, for the overlap check and its message only.
    let path = std::fs::read_link(format!("/proc/self/fd/{}", fd.as_raw_fd())).map_err(FsError::Prepare)?;
    Ok((Root { fd: Arc::new(fd), identity: Identity::of(&stat), read_only }, path))
}

fn is_shareable(stat: &Statx) -> bool {
    matches!(stat.stx_mode & FORMAT, REGULAR | DIRECTORY)
}

/// A read-only promise about something that is writable by another name would be hollow.
fn refuse_overlap(shares: &[(PathBuf, bool)]) -> Result<(), FsError> {
    for (inner, _) in shares.iter().filter(|(_, read_only)| *read_only) {
        for (outer, _) in shares.iter().filter(|(_, read_only)| !*read_only) {
            if inner.starts_with(outer) {
                return Err(FsError::Overlap { read_only: inner.clone(), writable: outer.clone() });
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn share(at: &str, source: impl Into<Source>, read_only: bool) -> Share {
        Share { at: at.into(), source: source.into(), read_only }
    }

    #[test]
    fn places_must_be_plain() {
        for at in ["/usr", "..", "a/../b", "./a", "", "a\0b", &"x".repeat(256), &"a/".repeat(33)] {
            let shares = vec![share("ok", "/usr", true), share(at, "/usr", true)];
            assert!(matches!(Tree::build(shares), Err(FsError::Place(_))), "{at:?}");
        }
    }

    #[test]
    fn places_may_not_collide() {
        for (first, second) in [("a", "a"), ("a", "a/b"), ("a/b", "a"), ("a/b", "a//b")] {
            let shares = vec![share(first, "/usr", true), share(second, "/usr", true)];
            assert!(matches!(Tree::build(shares), Err(FsError::Taken(_))), "{first} {second}");
        }
    }

    #[test]
    fn only_files_and_directories_of_real_file_systems_are_shared() {
        for source in ["/dev/null", "/proc", "/proc/self/mem", "/sys"] {
            let built = Tree::build(vec![share("x", source, true)]);
            assert!(matches!(built, Err(FsError::Kind(_))), "{source}: {built:?}");
        }
        assert!(matches!(Tree::build(vec![share("x", "/nowhere", true)]), Err(FsError::Open { .. })));
    }

    #[test]
    fn a_read_only_share_inside_a_writable_one_is_refused() {
        let outer = tempfile::tempdir().unwrap();
        let inner = outer.path().join("inner");
        std::fs::create_dir(&inner).unwrap();
        let build = |outer_ro, inner_ro| {
            Tree::build(vec![share("o", outer.path(), outer_ro), share("i", inner.as_path(), inner_ro)])
        };
        assert!(matches!(build(false, true), Err(FsError::Overlap { .. })));
        assert!(build(true, false).is_ok());
        assert!(build(false, false).is_ok());
    }

    #[test]
    fn shares_hang_where_they_were_told() {
        let tree = Tree::build(vec![share("usr", "/usr", true), share("etc/ssl", "/etc", true)]).unwrap();
        assert_eq!(tree.find(0, c"usr"), Some(Spot::Share(0)));
        assert_eq!(tree.find(0, c"etc"), Some(Spot::Folder(1)));
        assert_eq!(tree.find(1, c"ssl"), Some(Spot::Share(1)));
        assert_eq!(tree.find(1, c"usr"), None);
        assert!(Tree::build(vec![share("", "/usr", true)]).unwrap().folders.is_empty());
    }
}
