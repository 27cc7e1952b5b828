//! Names to nodes, and attributes of nodes.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{AtFlags, Mode, OFlags, Statx, Timespec, Timestamps, UTIME_NOW, UTIME_OMIT};
use rustix::io::Errno;

use super::super::abi::{Entry, Fields, GETATTR_FH, Header, Put, valid};
use super::super::nodes::Kind;
use super::super::server::Server;
use super::super::tree::Spot;
use crate::host_path::{self, DIRECTORY, REGULAR, SYMLINK, again};

impl Server {
    pub(in super::super) fn lookup(
        &mut self,
        header: &Header,
        mut fields: Fields<'_>,
        reply: &mut Vec<u8>,
    ) -> Result<(), Errno> {
        let name = fields.name()?;
        fields.end()?;
        let entry = match (self.entry(header.node, name), self.nodes.kind(header.node)?) {
            // Programs ask for many names that are not there; in a read-only share the guest may
            // remember that. In a writable one a name made on the host is to show at once.
            (Err(Errno::NOENT), Kind::Host(share)) if self.nodes.is_read_only(share) => {
                Entry::absent(self.lasts(share))
            }
            (entry, _) => entry?,
        };
        entry.put(reply);
        Ok(())
    }

    pub(in super::super) fn getattr(
        &mut self,
        header: &Header,
        mut fields: Fields<'_>,
        reply: &mut Vec<u8>,
    ) -> Result<(), Errno> {
        let flags = fields.u32()?;
        fields.skip(4)?;
        let handle = fields.u64()?;
        fields.end()?;
        let handle = (flags & GETATTR_FH != 0).then_some(handle);
        match self.nodes.kind(header.node)? {
            Kind::Folder(folder) => {
                let entry = self.spot_entry(Spot::Folder(folder))?;
                entry.attr.put_out(entry.lasts, reply);
            }
            Kind::Host(share) => {
                let stat = self.present(header.node, handle)?;
                self.attr_of(&stat).put_out(self.lasts(share), reply);
            }
        }
        Ok(())
    }

    /// Attributes through the handle, else by name, else through any handle of a file that lost its name.
    fn present(&mut self, node: u64, handle: Option<u64>) -> Result<Statx, Errno> {
        if let Some(handle) = handle
            && let Ok(fd) = self.handles.file(node, handle)
        {
            return host_path::stat(fd);
        }
        match self.nodes.stat(node) {
            Err(Errno::STALE) => host_path::stat(self.handles.any(node).ok_or(Errno::STALE)?),
            result => result,
        }
    }

    pub(in super::super) fn setattr(
        &mut self,
        header: &Header,
        mut fields: Fields<'_>,
        reply: &mut Vec<u8>,
    ) -> Result<(), Errno> {
        let changes = Changes::parse(&mut fields)?;
        fields.end()?;
        let node = header.node;
        let share = self.nodes.writable(node)?;
        let handle = (changes.valid & valid::FH != 0).then_some(changes.handle);
        let kind = self.nodes.host(node)?.identity.kind;
        let target = self.target(node, handle)?;
        if changes.valid & valid::SIZE != 0 {
            self.truncate(kind, &target, changes.size)?;
        }
        if changes.valid & (valid::UID | valid::GID) != 0 {
            self.give(&target, &changes)?;
        }
        if changes.valid & valid::MODE != 0 {
            self.change_mode(kind, &target, changes.mode)?;
        }
        if let Some(times) = changes.times()? {
            again(|| rustix::fs::utimensat(target.fd(), c"", &times, AtFlags::EMPTY_PATH))?;
        }
        let stat = host_path::stat(target.fd())?;
        drop(target);
        self.attr_of(&stat).put_out(self.lasts(share), reply);
        Ok(())
    }

    /// What SETATTR works on.
    fn target(&mut self, node: u64, handle: Option<u64>) -> Result<Target, Errno> {
        if let Some(handle) = handle
            && let Ok(fd) = self.handles.file(node, handle)
        {
            return Ok(Target::Open(fd.try_clone_to_owned().map_err(|_| Errno::NFILE)?));
        }
        match self.nodes.path_fd(node) {
            Ok(fd) => Ok(Target::Path(fd)),
            Err(Errno::STALE) => {
                let fd = self.handles.any(node).ok_or(Errno::STALE)?;
                Ok(Target::Open(fd.try_clone_to_owned().map_err(|_| Errno::NFILE)?))
            }
            Err(errno) => Err(errno),
        }
    }

    fn truncate(&self, kind: u16, target: &Target, bytes: u64) -> Result<(), Errno> {
        match kind {
            REGULAR => {}
            DIRECTORY => return Err(Errno::ISDIR),
            _ => return Err(Errno::INVAL),
        }
        if bytes > self.file_bytes_max {
            return Err(Errno::FBIG);
        }
        if let Target::Open(fd) = target
            && again(|| rustix::fs::ftruncate(fd, bytes)).is_ok()
        {
            return Ok(());
        }
        let fd = self.reopen.open(target.fd(), OFlags::WRONLY)?;
        again(|| rustix::fs::ftruncate(&fd, bytes))
    }

    fn give(&self, target: &Target, changes: &Changes) -> Result<(), Errno> {
        let uid =
            (changes.valid & valid::UID != 0).then(|| self.owners.uid_to_host(changes.uid)).transpose()?;
        let gid =
            (changes.valid & valid::GID != 0).then(|| self.owners.gid_to_host(changes.gid)).transpose()?;
        again(|| rustix::fs::chownat(target.fd(), c"", uid, gid, AtFlags::EMPTY_PATH))
    }

    fn change_mode(&self, kind: u16, target: &Target, mode: u32) -> Result<(), Errno> {
        if kind == SYMLINK {
            return Err(Errno::OPNOTSUPP);
        }
        let mode = Mode::from_raw_mode(allowed_mode(kind, mode));
        match target {
            Target::Open(fd) => again(|| rustix::fs::fchmod(fd, mode)),
            Target::Path(fd) => {
                let (directory, name) = self.reopen.link_to(fd.as_fd());
                again(|| rustix::fs::chmodat(directory, name.as_str(), mode, AtFlags::empty()))
            }
        }
    }

    pub(in super::super) fn readlink(&mut self, header: &Header, reply: &mut Vec<u8>) -> Result<(), Errno> {
        if self.nodes.host(header.node)?.identity.kind != SYMLINK {
            return Err(Errno::INVAL);
        }
        let link = self.nodes.path_fd(header.node)?;
        let target = again(|| rustix::fs::readlinkat(&*link, c"", Vec::new()))?;
        reply.extend_from_slice(target.to_bytes());
        Ok(())
    }

    pub(in super::super) fn statfs(&mut self, header: &Header, reply: &mut Vec<u8>) -> Result<(), Errno> {
        let (numbers, block_bytes, name_bytes) = match self.nodes.kind(header.node)? {
            Kind::Folder(_) => ([0; 5], 4096, 255),
            Kind::Host(share) => {
                let root = self.nodes.tree.shares.get(share).ok_or(Errno::STALE)?;
                let vfs = again(|| rustix::fs::fstatvfs(&*root.fd))?;
                let numbers = [vfs.f_blocks, vfs.f_bfree, vfs.f_bavail, vfs.f_files, vfs.f_ffree];
                (numbers, vfs.f_frsize, vfs.f_namemax)
            }
        };
        for number in numbers {
            reply.put_u64(number);
        }
        let block_bytes = u32::try_from(block_bytes).unwrap_or(4096);
        reply.put_u32(block_bytes);
        reply.put_u32(u32::try_from(name_bytes).unwrap_or(255));
        reply.put_u32(block_bytes);
        reply.resize(80, 0);
        Ok(())
    }
}

/// Mode bits that a guest may set: never set-user-id or set-group-id on anything but a directory (whose
/// set-group-id only passes the group on). A share is seen by other users of the host as well, and a
/// program that runs as this process's user for all of them is not for a guest to make.
pub(super) fn allowed_mode(kind: u16, mode: u32) -> u32 {
    if kind == DIRECTORY { mode & 0o3777 } else { mode & 0o1777 }
}

/// A file to change: already open, or only found.
enum Target {
    Open(OwnedFd),
    Path(std::sync::Arc<OwnedFd>),
}

impl Target {
    fn fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::Open(fd) => fd.as_fd(),
            Self::Path(fd) => fd.as_fd(),
        }
    }
}

/// `struct fuse_setattr_in`.
struct Changes {
    valid: u32,
    handle: u64,
    size: u64,
    atime: (u64, u32),
    mtime: (u64, u32),
    mode: u32,
    uid: u32,
    gid: u32,
}

impl Changes {
    fn parse(fields: &mut Fields<'_>) -> Result<Self, Errno> {
        let valid = fields.u32()?;
        fields.skip(4)?;
        let (handle, size) = (fields.u64()?, fields.u64()?);
        fields.skip(8)?;
        let (atime, mtime) = (fields.u64()?, fields.u64()?);
        fields.skip(8)?;
        let (atime_nanos, mtime_nanos) = (fields.u32()?, fields.u32()?);
        fields.skip(4)?;
        let mode = fields.u32()?;
        fields.skip(4)?;
        let (uid, gid) = (fields.u32()?, fields.u32()?);
        fields.skip(4)?;
        Ok(Self {
            valid,
            handle,
            size,
            atime: (atime, atime_nanos),
            mtime: (mtime, mtime_nanos),
            mode,
            uid,
            gid,
        })
    }

    fn times(&self) -> Result<Option<Timestamps>, Errno> {
        let any = valid::ATIME | valid::MTIME | valid::ATIME_NOW | valid::MTIME_NOW;
        if self.valid & any == 0 {
            return Ok(None);
        }
        Ok(Some(Timestamps {
            last_access: self.time(self.atime, valid::ATIME, valid::ATIME_NOW)?,
            last_modification: self.time(self.mtime, valid::MTIME, valid::MTIME_NOW)?,
        }))
    }

    fn time(&self, (seconds, nanos): (u64, u32), set: u32, now: u32) -> Result<Timespec, Errno> {
        if self.valid & now != 0 {
            return Ok(Timespec { tv_sec: 0, tv_nsec: UTIME_NOW });
        }
        if self.valid & set == 0 {
            return Ok(Timespec { tv_sec: 0, tv_nsec: UTIME_OMIT });
        }
        // Larger numbers of nanoseconds have special meanings that are not the guest's to use.
        if nanos >= 1_000_000_000 {
            return Err(Errno::INVAL);
        }
        Ok(Timespec { tv_sec: seconds.cast_signed(), tv_nsec: nanos.into() })
    }
}
