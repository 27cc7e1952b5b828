//! virtio-fs, served in process: host directories and files for a guest, each read-only or writable.
//!
//! ```text
//! device.rs   queues ──► buffers.rs  guest memory of one request
//!                            │
//! server.rs   header, opcode ┤ abi.rs  bytes ↔ fields
//!                            ▼
//! ops/        attributes · content · listing · names
//!                            │
//! nodes.rs    node number → share, parent, name, identity      handles.rs  open files
//!                            │
//! host_path   openat2(one name, beneath, no links)             tree.rs  shares and where they hang
//! ```
//!
//! # What a guest can and cannot do
//!
//! * Names are single components: `/`, NUL, `.` and `..` are refused. Symbolic links are only ever read
//!   as text; the guest follows them in its own tree. Nothing is opened by a path made of more than one
//!   guest-given name, and every open is held beneath its directory by the kernel (openat2(2)).
//! * `read_only` is enforced here, for every operation, whatever the guest's mount options.
//! * Only regular files and directories are opened on the host. FIFOs, sockets and devices found in a
//!   share are visible (devices without their number) and unusable; the guest may create sockets, never
//!   FIFOs or devices. Mounts of procfs, sysfs and their like inside a share are out of bounds.
//! * Renames and hard links never cross shares.
//! * The host user is always the one that runs this process. If that is root, owners are passed through
//!   and new files are given to the guest's user; if not, this user's files are the guest's root's and
//!   changing owners to anyone else fails. Set-user-id and set-group-id bits are dropped from files that
//!   the guest creates or changes (set-group-id is kept on directories).
//! * Extended attributes (thus ACLs and file capabilities), locks between guest and host, `ioctl`,
//!   `O_TMPFILE` and DAX are not offered. Locks work among the guest's processes.
//! * A guest can fill the file systems that its writable shares lie on. Use quotas where that matters.
//!
//! # What a guest sees, when
//!
//! Read-only shares are cached by the guest for an hour, absent names too. Writable shares are trusted
//! for one second; an absent name is asked for every time, pages are dropped when a file's size or times
//! changed, and writes go through to the host at once. A share whose source is a single file shows that
//! very file even after another one was renamed over its path on the host.

//! # For whoever serves it
//!
//! * QEMU: give `vhost-user-fs-pci` `queue-size=1024`; with its default of 128 a request carries at most
//!   124 pages.
//! * Linux reads ahead 128 KiB at most by default, whatever the device allows. In the guest,
//!   `echo 1024 > /sys/class/bdi/<major:minor of the mount>/read_ahead_kb` makes large sequential reads
//!   two to three times as fast.
//! * Locking the process in: Landlock rules beneath the shares suffice (with `REFER` on writable ones, for
//!   renames and links between directories); `/proc/self/fd` is held open from the start. System calls:
//!   openat, openat2, statx, statfs, fstatfs, getdents64, lseek, preadv, pwritev2, ftruncate, fchmod,
//!   fchmodat, fchownat, utimensat, mkdirat, mknodat, symlinkat, linkat, unlinkat, renameat2, readlinkat,
//!   fsync, fdatasync, fallocate, copy_file_range, fcntl(F_DUPFD_CLOEXEC), read, write, close.

mod abi;
mod buffers;
mod device;
mod directory_cache;
mod handles;
mod identity;
mod limits;
mod nodes;
mod ops;
mod server;
mod tree;

#[cfg(test)]
mod tests;

pub use device::{Fs, FsConfig, new};
pub use tree::{FsError, Share, Source};

/// The tag by which the guest mounts the device: `mount -t virtiofs sandbox /mnt`.
pub const TAG: &str = "sandbox";
