//! What can go wrong, and what the user can do about it. Texts say what happened, to what, and the remedy.

use std::io;
use std::path::{Path, PathBuf};

use crate::limits;

/// Result of this crate.
pub type Result<T> = std::result::Result<T, Error>;

/// Why a guest image could not be prepared.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The file system that holds the cache is full, or too full to begin.
    #[error(
        "not enough disk space in {}: {} MiB free, {} MiB wanted. Free some space, or move the cache \
         with XDG_CACHE_HOME", path.display(), free_bytes >> 20, wanted_bytes >> 20
    )]
    NoSpace {
        /// Directory whose file system is full.
        path: PathBuf,
        /// Bytes free now.
        free_bytes: u64,
        /// Bytes wanted.
        wanted_bytes: u64,
    },
    /// A file or directory could not be read or written.
    #[error("cannot {action} {}: {source}", path.display())]
    Io {
        /// Verb, such as `read`.
        action: &'static str,
        /// What it was done to.
        path: PathBuf,
        /// The system's answer.
        source: io::Error,
    },
    /// apt is not on this system.
    #[error("apt-get is not on this system, so Debian's kernel package cannot be fetched")]
    AptMissing,
    /// apt or dpkg-deb ran and failed.
    #[error("`{command}` failed: {output}. Check the network and /etc/apt/sources.list*")]
    Child {
        /// What was run, shortened.
        command: String,
        /// The end of its error output.
        output: String,
    },
    /// The package lists know no such package.
    #[error("apt knows no package {pattern} (is this Debian 12 or later, with its security archive?)")]
    NoPackage {
        /// What was looked for.
        pattern: String,
    },
    /// Neither the package nor the host's own kernel can be used.
    #[error(
        "no guest kernel. From apt: {apt}. The host's own: {host}. \
         Give one with `--kernel PATH` (a vmlinux or bzImage; its modules are looked for in \
         ../lib/modules next to it and in /lib/modules)"
    )]
    NoKernel {
        /// Why the package could not be had.
        apt: Box<Error>,
        /// Why the host's own kernel could not be had.
        host: Box<Error>,
    },
    /// The file is neither a 64-bit ELF nor a bzImage, or is damaged.
    #[error("{} is not a kernel that can be booted: {reason}. Give a vmlinux or bzImage with `--kernel`", path.display())]
    BadKernel {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: KernelDefect,
    },
    /// A module is neither built in nor in the module folder.
    #[error(
        "kernel {release} has no module {name}, neither built in nor in {}. Use a kernel with it \
         (`--kernel`)", folder.display()
    )]
    ModuleMissing {
        /// Name as the kernel writes it, with underscores.
        name: String,
        /// Kernel release.
        release: String,
        /// Where it was looked for.
        folder: PathBuf,
    },
    /// A module file is damaged or its dependencies make no sense.
    #[error("module {name} cannot be used: {reason}. Remove {} to fetch it again", path.display())]
    BadModule {
        /// Module name.
        name: String,
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// A name or size does not fit the archive format.
    #[error("{name:?} cannot go into the initramfs: {reason}")]
    BadArchive {
        /// Path in the archive.
        name: String,
        /// Why not.
        reason: &'static str,
    },
}

/// What is wrong with a kernel file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum KernelDefect {
    /// Neither magic number matches.
    #[error("it is neither an ELF file nor a Linux bzImage")]
    UnknownFormat,
    /// The file ends before what its header announces.
    #[error("it is cut short")]
    Truncated,
    /// Boot protocol older than 2.08, which has no payload fields.
    #[error("its boot protocol is older than 2.08")]
    OldProtocol,
    /// Payload compressed with something we cannot unpack.
    #[error("its payload is compressed in an unknown way")]
    UnknownCompression,
    /// The decoder refused the payload, or it is larger than [`limits::VMLINUX_BYTES_MAX`].
    #[error("its payload is damaged or too large")]
    BadPayload,
    /// What came out is not a 64-bit ELF file.
    #[error("its payload is not a 64-bit ELF file")]
    NotElf,
}

impl Error {
    /// An I/O error with its place; a full disk becomes [`Error::NoSpace`].
    pub(crate) fn io(action: &'static str, path: &Path, source: io::Error) -> Self {
        if matches!(source.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded) {
            return Error::NoSpace {
                path: path.to_path_buf(),
                free_bytes: crate::cache::free_bytes(path).unwrap_or(0),
                wanted_bytes: limits::FREE_BYTES_WANTED,
            };
        }
        Error::Io { action, path: path.to_path_buf(), source }
    }
}
