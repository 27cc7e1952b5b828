//! Who a host file is, how the guest sees it, and which host file systems are out of bounds.

use std::os::fd::AsFd;

use rustix::fs::{Gid, Statx, StatxFlags, Uid};
use rustix::io::{Errno, Result};

use super::abi::Attr;
use crate::host_path::FORMAT;

/// A host file, told apart from a later one that got the same inode number by its time of birth.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Identity {
    pub(super) device: u64,
    inode: u64,
    born: Option<(i64, u32)>,
    /// Type bits.
    pub(super) kind: u16,
}

impl Identity {
    pub(super) fn of(stat: &Statx) -> Self {
        let known = stat.stx_mask & StatxFlags::BTIME.bits() != 0;
        Self {
            device: device_of(stat),
            inode: stat.stx_ino,
            born: known.then_some((stat.stx_btime.tv_sec, stat.stx_btime.tv_nsec)),
            kind: stat.stx_mode & FORMAT,
        }
    }
}

/// Content version of a file: unchanged as long as this is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Version {
    modified: (i64, u32),
    changed: (i64, u32),
    size: u64,
}

impl Version {
    pub(super) fn of(stat: &Statx) -> Self {
        Self {
            modified: (stat.stx_mtime.tv_sec, stat.stx_mtime.tv_nsec),
            changed: (stat.stx_ctime.tv_sec, stat.stx_ctime.tv_nsec),
            size: stat.stx_size,
        }
    }
}

fn device_of(stat: &Statx) -> u64 {
    (u64::from(stat.stx_dev_major) << 32) | u64::from(stat.stx_dev_minor)
}

/// Whether `fd` is on a file system whose files are doors into the kernel or into this process rather
/// than data. A guest never gets there, even when one is mounted inside a share.
pub(super) fn is_pseudo_filesystem(fd: impl AsFd) -> Result<bool> {
    const REFUSED: &[i128] = &[
        libc::PROC_SUPER_MAGIC as i128,
        libc::SYSFS_MAGIC as i128,
        libc::CGROUP_SUPER_MAGIC as i128,
        libc::CGROUP2_SUPER_MAGIC as i128,
        libc::DEBUGFS_MAGIC as i128,
        libc::TRACEFS_MAGIC as i128,
        libc::SECURITYFS_MAGIC as i128,
        libc::SELINUX_MAGIC as i128,
        libc::BPF_FS_MAGIC as i128,
        libc::DEVPTS_SUPER_MAGIC as i128,
        libc::NSFS_MAGIC as i128,
        libc::AUTOFS_SUPER_MAGIC as i128,
        // binfmt_misc, configfs, efivarfs, pstore, mqueue: not in libc (linux/magic.h, ipc/mqueue.c).
        0x4249_4e4d,
        0x6265_6570,
        0xde5e_81e4,
        0x6165_676c,
        0x1980_0202,
    ];
    let kind = i128::from(rustix::fs::fstatfs(fd)?.f_type);
    Ok(REFUSED.contains(&kind))
}

/// Translates owners. No host identity is ever switched: whatever a guest does, this process's user does.
#[derive(Clone, Copy, Debug)]
pub(super) struct Owners {
    uid: u32,
    gid: u32,
}

impl Owners {
    /// The owners of this process.
    pub(super) fn of_this_process() -> Self {
        Self { uid: rustix::process::geteuid().as_raw(), gid: rustix::process::getegid().as_raw() }
    }

    #[cfg(test)]
    pub(super) fn new(uid: u32, gid: u32) -> Self {
        Self { uid, gid }
    }

    /// Whether new files can be given to somebody else, so that owners are passed through unchanged.
    pub(super) fn is_root(self) -> bool {
        self.uid == 0
    }

    /// How a host owner looks in the guest: this process's user is the guest's root.
    fn to_guest(self, uid: u32, gid: u32) -> (u32, u32) {
        if self.is_root() {
            return (uid, gid);
        }
        let map = |id, own| if id == own { 0 } else { id };
        (map(uid, self.uid), map(gid, self.gid))
    }

    /// The host owner that a guest means.
    pub(super) fn uid_to_host(self, uid: u32) -> Result<Uid> {
        let uid = if uid == 0 { self.uid } else { uid };
        if uid == u32::MAX { Err(Errno::INVAL) } else { Ok(Uid::from_raw(uid)) }
    }

    /// The host group that a guest means.
    pub(super) fn gid_to_host(self, gid: u32) -> Result<Gid> {
        let gid = if gid == 0 && !self.is_root() { self.gid } else { gid };
        if gid == u32::MAX { Err(Errno::INVAL) } else { Ok(Gid::from_raw(gid)) }
    }
}

/// Gives every host device its own range of inode numbers, since the guest sees one device only.
#[derive(Debug, Default)]
pub(super) struct Devices(Vec<u64>);

impl Devices {
    /// The inode number that the guest sees. The first device's numbers are unchanged.
    pub(super) fn inode(&mut self, device: u64, inode: u64) -> u64 {
        let index = self.0.iter().position(|known| *known == device).unwrap_or_else(|| {
            // A host has few devices; a thousand mounts inside shares may look alike after that.
            if self.0.len() < 1024 {
                self.0.push(device);
            }
            self.0.len().saturating_sub(1)
        });
        inode ^ (u64::try_from(index).unwrap_or(0) << 48)
    }

    /// Attributes as the guest sees them.
    pub(super) fn attr(&mut self, stat: &Statx, owners: Owners) -> Attr {
        let (uid, gid) = owners.to_guest(stat.stx_uid, stat.stx_gid);
        Attr {
            inode: self.inode(device_of(stat), stat.stx_ino),
            size: stat.stx_size,
            blocks: stat.stx_blocks,
            atime: (stat.stx_atime.tv_sec, stat.stx_atime.tv_nsec),
            mtime: (stat.stx_mtime.tv_sec, stat.stx_mtime.tv_nsec),
            ctime: (stat.stx_ctime.tv_sec, stat.stx_ctime.tv_nsec),
            mode: u32::from(stat.stx_mode),
            links: stat.stx_nlink,
            uid,
            gid,
            // A device node's number means nothing in the guest and would open the guest's own device.
            rdev: 0,
            block_bytes: stat.stx_blksize,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_ordinary_user_is_the_guests_root() {
        let owners = Owners::new(1000, 100);
        assert_eq!(owners.to_guest(1000, 100), (0, 0));
        assert_eq!(owners.to_guest(0, 0), (0, 0));
        assert_eq!(owners.to_guest(33, 33), (33, 33));
        assert_eq!(owners.uid_to_host(0).unwrap().as_raw(), 1000);
        assert_eq!(owners.gid_to_host(0).unwrap().as_raw(), 100);
        assert_eq!(owners.uid_to_host(33).unwrap().as_raw(), 33);
    }

    #[test]
    fn root_sees_owners_unchanged() {
        let owners = Owners::new(0, 5);
        assert_eq!(owners.to_guest(1000, 5), (1000, 5));
        assert_eq!(owners.gid_to_host(0).unwrap().as_raw(), 0);
        assert_eq!(owners.uid_to_host(u32::MAX).unwrap_err(), Errno::INVAL);
    }

    #[test]
    fn inode_numbers_of_two_devices_differ() {
        let mut devices = Devices::default();
        assert_eq!(devices.inode(7, 42), 42);
        assert_ne!(devices.inode(8, 42), 42);
        assert_eq!(devices.inode(7, 43), 43);
        assert_eq!(devices.inode(8, 42), devices.inode(8, 42));
    }
}
