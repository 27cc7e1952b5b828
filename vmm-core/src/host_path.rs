//! The only place that opens host files on behalf of a guest or of a user's option.
//!
//! Three ways in, from the most to the least trusted name:
//! [`ambient`] for a path that the *user* typed, [`beneath`] for a path inside a directory we hold, and
//! [`child`] for a single name that a *guest* sent. All of them yield `O_PATH` descriptors, which can be
//! looked at but not read: a FIFO, a device or a socket is never opened by accident. [`Reopen`] turns
//! such a descriptor into a readable or writable one once its type is known.
//!
//! It must never follow a symbolic link or a magic link that a guest could have planted: the kernel holds
//! that with `openat2(RESOLVE_BENEATH | RESOLVE_NO_MAGICLINKS)`, and for single names
//! `RESOLVE_NO_SYMLINKS` (openat2(2), Linux 5.6).

use std::ffi::CStr;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::fs::{AtFlags, CWD, Mode, OFlags, ResolveFlags, Statx, StatxFlags};
use rustix::io::{Errno, Result};

const PATH_ONLY: OFlags = OFlags::PATH.union(OFlags::CLOEXEC);

/// Opens a path with all the authority of this process, following ordinary symbolic links in it.
///
/// Only for paths that the user of the program chose; never for anything derived from a guest.
///
/// # Errors
/// What `openat2` says; `ELOOP` when the path leads through a magic link such as `/proc/self/cwd`.
pub fn ambient(path: &Path) -> Result<OwnedFd> {
    again(|| rustix::fs::openat2(CWD, path, PATH_ONLY, Mode::empty(), ResolveFlags::NO_MAGICLINKS))
}

/// Opens `path` relative to `directory`; symbolic links are followed as long as they stay beneath it.
///
/// # Errors
/// `EXDEV` when the path or a link in it leads out of `directory`, `ELOOP` for a magic link.
pub fn beneath(directory: impl AsFd, path: &Path) -> Result<OwnedFd> {
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS;
    again(|| rustix::fs::openat2(&directory, path, PATH_ONLY, Mode::empty(), resolve))
}

/// Opens the entry `name` of `directory` without following it: a symbolic link is opened as itself.
///
/// # Errors
/// `EINVAL` when `name` is not a single component or leads upwards.
pub fn child(directory: impl AsFd, name: &CStr) -> Result<OwnedFd> {
    one_name(name)?;
    let flags = PATH_ONLY | OFlags::NOFOLLOW;
    again(|| rustix::fs::openat2(&directory, name, flags, Mode::empty(), ONE_NAME))
}

/// Creates the regular file `name` in `directory`, which must not have that name yet.
///
/// # Errors
/// `EEXIST` when the name is taken, by a dangling symbolic link too; `EINVAL` as for [`child`].
pub fn create(directory: impl AsFd, name: &CStr, flags: OFlags, mode: Mode) -> Result<OwnedFd> {
    one_name(name)?;
    let flags = flags | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    again(|| rustix::fs::openat2(&directory, name, flags, mode, ONE_NAME))
}

const ONE_NAME: ResolveFlags =
    ResolveFlags::BENEATH.union(ResolveFlags::NO_MAGICLINKS).union(ResolveFlags::NO_SYMLINKS);

/// A second fence beside `RESOLVE_BENEATH`, and the only one for calls that do not know it.
fn one_name(name: &CStr) -> Result<()> {
    let bytes = name.to_bytes();
    if bytes.is_empty() || bytes == b"." || bytes == b".." || bytes.contains(&b'/') {
        return Err(Errno::INVAL);
    }
    Ok(())
}

/// Looks at the entry `name` of `directory` without following it and without triggering an automount.
///
/// # Errors
/// What `statx` says; `EINVAL` as for [`child`].
pub fn stat_child(directory: impl AsFd, name: &CStr) -> Result<Statx> {
    one_name(name)?;
    let flags = AtFlags::SYMLINK_NOFOLLOW | AtFlags::NO_AUTOMOUNT;
    again(|| rustix::fs::statx(&directory, name, flags, STATX))
}

/// Looks at an open descriptor.
///
/// # Errors
/// What `statx` says.
pub fn stat(fd: impl AsFd) -> Result<Statx> {
    again(|| rustix::fs::statx(&fd, c"", AtFlags::EMPTY_PATH | AtFlags::NO_AUTOMOUNT, STATX))
}

const STATX: StatxFlags = StatxFlags::BASIC_STATS.union(StatxFlags::BTIME);

/// Turns `O_PATH` descriptors into working ones through `/proc/self/fd`, the one magic link that is ever
/// followed, and only to a descriptor of this process.
#[derive(Debug)]
pub struct Reopen {
    proc_self_fd: OwnedFd,
}

impl Reopen {
    /// Takes hold of `/proc/self/fd`. Works after a later `chroot` or Landlock restriction too.
    ///
    /// # Errors
    /// What the open says; `ENOSYS` when what is there is not procfs.
    pub fn new() -> Result<Self> {
        let flags = PATH_ONLY | OFlags::DIRECTORY;
        let proc_self_fd = rustix::fs::openat(CWD, c"/proc/self/fd", flags, Mode::empty())?;
        let kind = rustix::fs::fstatfs(&proc_self_fd)?;
        if i128::from(kind.f_type) != i128::from(libc::PROC_SUPER_MAGIC) {
            return Err(Errno::NOSYS);
        }
        Ok(Self { proc_self_fd })
    }

    /// Opens the very file that `path_only` refers to. The caller has checked that it is a regular file
    /// or a directory.
    ///
    /// # Errors
    /// `EINVAL` when it is neither; otherwise what the open says.
    pub fn open(&self, path_only: BorrowedFd<'_>, flags: OFlags) -> Result<OwnedFd> {
        let kind = stat(path_only)?.stx_mode & FORMAT;
        if kind != REGULAR && kind != DIRECTORY {
            return Err(Errno::INVAL);
        }
        // A second fence against waiting: leases and mandatory locks would make the open block.
        let flags = (flags | OFlags::CLOEXEC | OFlags::NOCTTY | OFlags::NONBLOCK)
            .difference(OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW);
        again(|| rustix::fs::openat(&self.proc_self_fd, Self::name(path_only).as_str(), flags, Mode::empty()))
    }

    /// Directory and name under which `path_only` can be reached by calls that have no form for a bare
    /// descriptor (`fchmodat`, `linkat`).
    #[must_use]
    pub fn link_to(&self, path_only: BorrowedFd<'_>) -> (BorrowedFd<'_>, String) {
        (self.proc_self_fd.as_fd(), Self::name(path_only))
    }

    fn name(fd: BorrowedFd<'_>) -> String {
        fd.as_raw_fd().to_string()
    }
}

/// Bits of `stx_mode` that tell the type (inode(7)).
pub const FORMAT: u16 = 0o170_000;
/// Type bits of a regular file.
pub const REGULAR: u16 = 0o100_000;
/// Type bits of a directory.
pub const DIRECTORY: u16 = 0o040_000;
/// Type bits of a symbolic link.
pub const SYMLINK: u16 = 0o120_000;
/// Type bits of a socket.
pub const SOCKET: u16 = 0o140_000;

/// Repeats a call that was interrupted by a signal, or that raced with a rename (`EAGAIN` of
/// `RESOLVE_BENEATH`), a bounded number of times.
pub(crate) fn again<T>(mut call: impl FnMut() -> Result<T>) -> Result<T> {
    let mut tries_left = 64_u8;
    loop {
        match call() {
            Err(Errno::INTR | Errno::AGAIN) if tries_left > 0 => tries_left = tries_left.saturating_sub(1),
            result => return result,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    fn folder() -> (tempfile::TempDir, OwnedFd) {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("share")).unwrap();
        std::fs::write(folder.path().join("secret"), "s").unwrap();
        std::fs::write(folder.path().join("share/file"), "f").unwrap();
        let fd = ambient(&folder.path().join("share")).unwrap();
        (folder, fd)
    }

    #[test]
    fn every_way_out_is_refused() {
        let (folder, share) = folder();
        let inside = folder.path().join("share");
        symlink("/etc/shadow", inside.join("absolute")).unwrap();
        symlink("../secret", inside.join("upwards")).unwrap();
        symlink("file", inside.join("good")).unwrap();
        for path in ["..", "../secret", "/etc/passwd", "absolute", "upwards"] {
            assert_eq!(beneath(&share, Path::new(path)).unwrap_err(), Errno::XDEV, "{path}");
        }
        assert!(beneath(&share, Path::new("good")).is_ok());
        for name in [c"", c".", c"..", c"../secret", c"/etc/passwd", c"a/b"] {
            assert_eq!(child(&share, name).unwrap_err(), Errno::INVAL, "{name:?}");
            assert_eq!(stat_child(&share, name).unwrap_err(), Errno::INVAL, "{name:?}");
        }
        for name in [c"absolute", c"upwards", c"good"] {
            let link = child(&share, name).unwrap();
            assert_eq!(stat(&link).unwrap().stx_mode & FORMAT, SYMLINK, "{name:?}");
        }
    }

    #[test]
    fn magic_links_are_refused() {
        assert_eq!(ambient(Path::new("/proc/self/cwd/")).unwrap_err(), Errno::LOOP);
        let proc = ambient(Path::new("/proc/self")).unwrap();
        assert!(beneath(&proc, Path::new("root/etc")).is_err());
        let link = child(&proc, c"root").unwrap();
        assert_eq!(stat(&link).unwrap().stx_mode & FORMAT, SYMLINK);
    }

    #[test]
    fn only_files_and_directories_are_reopened() {
        let (folder, share) = folder();
        let reopen = Reopen::new().unwrap();
        rustix::fs::mknodat(&share, c"fifo", rustix::fs::FileType::Fifo, Mode::RUSR, 0).unwrap();
        symlink("/etc/passwd", folder.path().join("share/link")).unwrap();
        for name in [c"fifo", c"link"] {
            let fd = child(&share, name).unwrap();
            assert_eq!(reopen.open(fd.as_fd(), OFlags::RDONLY).unwrap_err(), Errno::INVAL, "{name:?}");
        }
        let file = child(&share, c"file").unwrap();
        assert!(reopen.open(file.as_fd(), OFlags::RDWR).is_ok());
        let null = ambient(Path::new("/dev/null")).unwrap();
        assert_eq!(reopen.open(null.as_fd(), OFlags::RDWR).unwrap_err(), Errno::INVAL);
    }

    #[test]
    fn creation_never_goes_through_a_link() {
        let (folder, share) = folder();
        symlink("../planted", folder.path().join("share/dangling")).unwrap();
        let made = create(&share, c"dangling", OFlags::WRONLY, Mode::RUSR);
        assert_eq!(made.unwrap_err(), Errno::EXIST);
        assert!(!folder.path().join("planted").exists());
        assert!(create(&share, c"../planted", OFlags::WRONLY, Mode::RUSR).is_err());
        assert!(create(&share, c"fresh", OFlags::WRONLY, Mode::RUSR).is_ok());
    }
}
