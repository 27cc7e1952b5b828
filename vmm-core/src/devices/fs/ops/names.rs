//! Making, moving and removing names.

use std::os::fd::{AsFd, BorrowedFd};

use rustix::fs::{AtFlags, FileType, Mode, OFlags, RenameFlags};
use rustix::io::Errno;

use super::super::abi::{Fields, Header, opcode};
use super::super::identity::Identity;
use super::super::server::Server;
use super::attributes::allowed_mode;
use crate::host_path::{self, DIRECTORY, FORMAT, REGULAR, SOCKET, again};

impl Server {
    /// MKNOD: regular files and sockets. A socket on the host is a name without anybody behind it; a FIFO
    /// would make host programs hang that open it, and a device node is a door.
    pub(in super::super) fn mknod(
        &mut self,
        header: &Header,
        mut fields: Fields<'_>,
        reply: &mut Vec<u8>,
    ) -> Result<(), Errno> {
        let mode = fields.u32()?;
        fields.skip(12)?;
        let name = fields.name()?;
        fields.end()?;
        self.nodes.writable(header.node)?;
        let kind = u16::try_from(mode & u32::from(FORMAT)).map_err(|_| Errno::INVAL)?;
        let wanted = Mode::from_raw_mode(allowed_mode(kind, mode));
        let parent = self.nodes.path_fd(header.node)?;
        match kind {
            REGULAR | 0 => {
                let fd = host_path::create(&*parent, name, OFlags::WRONLY, wanted)?;
                self.settle_new(header, &*parent, fd.as_fd(), wanted)?;
            }
            SOCKET => {
                again(|| rustix::fs::mknodat(&*parent, name, FileType::Socket, wanted, 0))?;
                self.give_new(header, &*parent, host_path::child(&*parent, name)?.as_fd())?;
            }
            _ => return Err(Errno::PERM),
        }
        self.entry(header.node, name)?.put(reply);
        Ok(())
    }

    pub(in super::super) fn mkdir(
        &mut self,
        header: &Header,
        mut fields: Fields<'_>,
        reply: &mut Vec<u8>,
    ) -> Result<(), Errno> {
        let mode = fields.u32()?;
        fields.skip(4)?;
        let name = fields.name()?;
        fields.end()?;
        self.nodes.writable(header.node)?;
        let parent = self.nodes.path_fd(header.node)?;
        let wanted = Mode::from_raw_mode(allowed_mode(DIRECTORY, mode));
        again(|| rustix::fs::mkdirat(&*parent, name, wanted))?;
        let made = self.reopen.open(host_path::child(&*parent, name)?.as_fd(), OFlags::RDONLY);
        match made {
            Ok(made) => self.settle_new(header, &*parent, made.as_fd(), wanted)?,
            // A mode without read permission is the user's wish; then it cannot be adjusted either.
            Err(Errno::ACCESS) => {}
            Err(errno) => return Err(errno),
        }
        self.entry(header.node, name)?.put(reply);
        Ok(())
    }

    pub(in super::super) fn symlink(
        &mut self,
        header: &Header,
        mut fields: Fields<'_>,
        reply: &mut Vec<u8>,
    ) -> Result<(), Errno> {
        let name = fields.name()?;
        let target = fields.target()?;
        fields.end()?;
        self.nodes.writable(header.node)?;
        let parent = self.nodes.path_fd(header.node)?;
        again(|| rustix::fs::symlinkat(target, &*parent, name))?;
        self.give_new(header, &*parent, host_path::child(&*parent, name)?.as_fd())?;
        self.entry(header.node, name)?.put(reply);
        Ok(())
    }

    pub(in super::super) fn link(
        &mut self,
        header: &Header,
        mut fields: Fields<'_>,
        reply: &mut Vec<u8>,
    ) -> Result<(), Errno> {
        let source = fields.u64()?;
        let name = fields.name()?;
        fields.end()?;
        let share = self.nodes.writable(header.node)?;
        if self.nodes.host(source).map_err(|_| Errno::XDEV)?.share != share {
            return Err(Errno::XDEV);
        }
        if self.nodes.host(source)?.identity.kind == DIRECTORY {
            return Err(Errno::PERM);
        }
        let parent = self.nodes.path_fd(header.node)?;
        let file = self.nodes.path_fd(source)?;
        let (directory, entry) = self.reopen.link_to(file.as_fd());
        // Follows the magic link to `file` itself; a symbolic link found there is not followed further.
        let flags = AtFlags::SYMLINK_FOLLOW;
        again(|| rustix::fs::linkat(directory, entry.as_str(), &*parent, name, flags))?;
        self.entry(header.node, name)?.put(reply);
        Ok(())
    }

    /// UNLINK and RMDIR.
    pub(in super::super) fn unlink(&mut self, header: &Header, mut fields: Fields<'_>) -> Result<(), Errno> {
        let name = fields.name()?;
        fields.end()?;
        self.nodes.writable(header.node)?;
        let parent = self.nodes.path_fd(header.node)?;
        let flags = if header.opcode == opcode::RMDIR { AtFlags::REMOVEDIR } else { AtFlags::empty() };
        again(|| rustix::fs::unlinkat(&*parent, name, flags))
    }

    /// RENAME and RENAME2.
    pub(in super::super) fn rename(&mut self, header: &Header, mut fields: Fields<'_>) -> Result<(), Errno> {
        let to = fields.u64()?;
        let mut flags = RenameFlags::empty();
        if header.opcode == opcode::RENAME2 {
            flags = RenameFlags::from_bits_retain(fields.u32()?);
            fields.skip(4)?;
        }
        let (old, new) = (fields.name()?, fields.name()?);
        fields.end()?;
        // WHITEOUT would make a device node.
        if !(RenameFlags::NOREPLACE | RenameFlags::EXCHANGE).contains(flags) {
            return Err(Errno::INVAL);
        }
        let share = self.nodes.writable(header.node)?;
        if self.nodes.writable(to)? != share {
            return Err(Errno::XDEV);
        }
        let (old_parent, new_parent) = (self.nodes.path_fd(header.node)?, self.nodes.path_fd(to)?);
        again(|| rustix::fs::renameat_with(&*old_parent, old, &*new_parent, new, flags))?;
        if let Ok(stat) = host_path::stat_child(&*new_parent, new) {
            self.nodes.moved(share, Identity::of(&stat), to, new);
        }
        if flags.contains(RenameFlags::EXCHANGE)
            && let Ok(stat) = host_path::stat_child(&*old_parent, old)
        {
            self.nodes.moved(share, Identity::of(&stat), header.node, old);
        }
        Ok(())
    }

    /// Gives a new file or directory its owner, and the mode that was asked for: the guest's kernel has
    /// applied the umask of the guest's process, the one of this process does not count.
    pub(super) fn settle_new(
        &self,
        header: &Header,
        parent: impl AsFd,
        made: BorrowedFd<'_>,
        wanted: Mode,
    ) -> Result<(), Errno> {
        self.give_new(header, parent, made)?;
        let stat = host_path::stat(made)?;
        // A set-group-id directory passes that bit on by itself.
        let inherited =
            u32::from(stat.stx_mode) & if stat.stx_mode & FORMAT == DIRECTORY { 0o2000 } else { 0 };
        let mode = wanted | Mode::from_raw_mode(inherited);
        if u32::from(stat.stx_mode) & 0o7777 != mode.as_raw_mode() {
            again(|| rustix::fs::fchmod(made, mode))?;
        }
        Ok(())
    }

    /// Gives something new to the guest's user, when this process can.
    fn give_new(&self, header: &Header, parent: impl AsFd, made: BorrowedFd<'_>) -> Result<(), Errno> {
        if !self.owners.is_root() || (header.uid, header.gid) == (0, 0) || header.uid == u32::MAX {
            return Ok(());
        }
        let uid = self.owners.uid_to_host(header.uid)?;
        // In a set-group-id directory the group comes from there.
        let own_group = host_path::stat(parent)?.stx_mode & 0o2000 == 0;
        let gid = own_group.then(|| self.owners.gid_to_host(header.gid)).transpose()?;
        again(|| rustix::fs::chownat(made, c"", Some(uid), gid, AtFlags::EMPTY_PATH))
    }
}
