//! Opening files, and what is in them.

use std::ffi::CStr;
use std::os::fd::AsFd;

use rustix::fs::{FallocateFlags, Mode, OFlags, SeekFrom};
use rustix::io::Errno;

use super::super::abi::{
    FOPEN_KEEP_CACHE, FSYNC_DATA_ONLY, Fields, HEADER_IN_BYTES, HEADER_OUT_BYTES, Header, Put, WRITE_CACHE,
    WRITE_IN_BYTES,
};
use super::super::buffers::Buffers;
use super::super::handles::Open;
use super::super::identity::Version;
use super::super::limits::{COPY_BYTES_MAX, DATA_BYTES_MAX};
use super::super::server::{Answer, Server};
use super::attributes::allowed_mode;
use crate::host_path::{self, DIRECTORY, REGULAR, SYMLINK, again};

/// Open flags that reach the host. O_APPEND is kept by the handle; O_DIRECT, O_NOATIME and the rest are
/// the guest's own business.
const PASSED: OFlags =
    OFlags::RDWR.union(OFlags::WRONLY).union(OFlags::TRUNC).union(OFlags::SYNC).union(OFlags::DSYNC);

impl Server {
    pub(in super::super) fn open(
        &mut self,
        header: &Header,
        mut fields: Fields<'_>,
        reply: &mut Vec<u8>,
    ) -> Result<(), Errno> {
        let flags = OFlags::from_bits_retain(fields.u32()?);
        fields.skip(4)?;
        fields.end()?;
        self.handles.room()?;
        let (handle, open_flags) = self.open_node(header.node, flags)?;
        put_open(reply, handle, open_flags);
        Ok(())
    }

    fn open_node(&mut self, node: u64, flags: OFlags) -> Result<(u64, u32), Errno> {
        let known = self.nodes.host(node)?;
        match known.identity.kind {
            REGULAR => {}
            DIRECTORY => return Err(Errno::ISDIR),
            SYMLINK => return Err(Errno::LOOP),
            // The guest's kernel opens its own FIFO or socket in its place and never asks for this.
            _ => return Err(Errno::NXIO),
        }
        let access = flags & OFlags::ACCMODE;
        if access == OFlags::ACCMODE {
            return Err(Errno::INVAL);
        }
        if access != OFlags::RDONLY || flags.contains(OFlags::TRUNC) {
            self.nodes.writable(node)?;
        }
        let path = match self.nodes.path_fd(node) {
            Err(Errno::STALE) => {
                let fd = self.handles.any(node).ok_or(Errno::STALE)?;
                std::sync::Arc::new(fd.try_clone_to_owned().map_err(|_| Errno::NFILE)?)
            }
            result => result?,
        };
        let fd = self.reopen.open(path.as_fd(), flags & PASSED)?;
        let keep = self.keeps_cache(node, &Version::of(&host_path::stat(&fd)?))?;
        let handle = self.handles.add(node, Open::File { fd, append: flags.contains(OFlags::APPEND) })?;
        Ok((handle, if keep { FOPEN_KEEP_CACHE } else { 0 }))
    }

    /// Whether pages that the guest has cached are those of the file as it is now.
    fn keeps_cache(&mut self, node: u64, version: &Version) -> Result<bool, Errno> {
        let known = self.nodes.host_mut(node)?;
        Ok(known.opened.replace(*version).is_none_or(|before| before == *version))
    }

    pub(in super::super) fn create(
        &mut self,
        header: &Header,
        mut fields: Fields<'_>,
        reply: &mut Vec<u8>,
    ) -> Result<(), Errno> {
        let flags = OFlags::from_bits_retain(fields.u32()?);
        let mode = fields.u32()?;
        fields.skip(8)?;
        let name = fields.name()?;
        fields.end()?;
        self.nodes.writable(header.node)?;
        self.handles.room()?;
        if flags & OFlags::ACCMODE == OFlags::ACCMODE {
            return Err(Errno::INVAL);
        }
        let parent = self.nodes.path_fd(header.node)?;
        let wanted = Mode::from_raw_mode(allowed_mode(REGULAR, mode));
        let host_flags = (flags & PASSED).difference(OFlags::TRUNC) | OFlags::NONBLOCK;
        let fd = match host_path::create(&*parent, name, host_flags, wanted) {
            // Somebody on the host was faster.
            Err(Errno::EXIST) if !flags.contains(OFlags::EXCL) => {
                return self.open_named(header, name, flags, reply);
            }
            result => result?,
        };
        self.settle_new(header, &*parent, fd.as_fd(), wanted)?;
        let version = Version::of(&host_path::stat(&fd)?);
        let entry = self.entry(header.node, name)?;
        self.keeps_cache(entry.node, &version)?;
        let open = Open::File { fd, append: flags.contains(OFlags::APPEND) };
        let handle = self.handles.add(entry.node, open)?;
        entry.put(reply);
        put_open(reply, handle, 0);
        Ok(())
    }

    /// Looks up and opens in one request.
    fn open_named(
        &mut self,
        header: &Header,
        name: &CStr,
        flags: OFlags,
        reply: &mut Vec<u8>,
    ) -> Result<(), Errno> {
        let entry = self.entry(header.node, name)?;
        let (handle, open_flags) = self.open_node(entry.node, flags).inspect_err(|_| {
            // The guest is not told of the lookup.
            self.nodes.forget(entry.node, 1);
        })?;
        entry.put(reply);
        put_open(reply, handle, open_flags);
        Ok(())
    }

    pub(in super::super) fn read(
        &mut self,
        header: &Header,
        mut fields: Fields<'_>,
        buffers: &Buffers<'_>,
    ) -> Result<Answer, Errno> {
        let (handle, offset, bytes) = (fields.u64()?, fields.offset()?, fields.u32()?);
        let room = buffers.writable_bytes().saturating_sub(HEADER_OUT_BYTES);
        let bytes = usize::try_from(bytes.min(DATA_BYTES_MAX)).map_err(|_| Errno::INVAL)?.min(room);
        let file = self.handles.file(header.node, handle)?;
        buffers.fill(HEADER_OUT_BYTES, bytes, file, offset).map(Answer::Filled)
    }

    pub(in super::super) fn write(
        &mut self,
        header: &Header,
        buffers: &Buffers<'_>,
        reply: &mut Vec<u8>,
    ) -> Result<Answer, Errno> {
        let mut head = [0; WRITE_IN_BYTES];
        if buffers.read(HEADER_IN_BYTES, &mut head) < WRITE_IN_BYTES {
            return Err(Errno::INVAL);
        }
        let mut fields = Fields::new(&head);
        let (handle, offset) = (fields.u64()?, fields.offset()?);
        let (announced, flags) = (fields.u32()?, fields.u32()?);
        let start = HEADER_IN_BYTES.saturating_add(WRITE_IN_BYTES);
        let bytes = buffers.readable_bytes().saturating_sub(start);
        if usize::try_from(announced) != Ok(bytes) || announced > DATA_BYTES_MAX {
            return Err(Errno::INVAL);
        }
        self.nodes.writable(header.node)?;
        let Open::File { fd, append } = self.handles.get(header.node, handle)? else {
            return Err(Errno::ISDIR);
        };
        // A delayed write of a shared mapping has a place of its own even in a file opened for appending.
        let to_end = *append && flags & WRITE_CACHE == 0;
        let from = if to_end { host_path::stat(fd)?.stx_size } else { offset.unsigned_abs() };
        self.check_size(from, u64::from(announced))?;
        let done = buffers.drain(start, bytes, fd.as_fd(), (!to_end).then_some(offset))?;
        reply.put_u32(u32::try_from(done).map_err(|_| Errno::OVERFLOW)?);
        reply.put_u32(0);
        Ok(Answer::Reply)
    }

    /// Refuses what would go beyond this process's file size limit, which the kernel answers by `SIGXFSZ`.
    fn check_size(&self, from: u64, bytes: u64) -> Result<(), Errno> {
        match from.checked_add(bytes) {
            Some(end) if end <= self.file_bytes_max => Ok(()),
            _ => Err(Errno::FBIG),
        }
    }

    pub(in super::super) fn fsync(&mut self, header: &Header, mut fields: Fields<'_>) -> Result<(), Errno> {
        let (handle, flags) = (fields.u64()?, fields.u32()?);
        match self.handles.get(header.node, handle)? {
            Open::File { fd, .. } | Open::Directory { fd } if flags & FSYNC_DATA_ONLY != 0 => {
                again(|| rustix::fs::fdatasync(fd))
            }
            Open::File { fd, .. } | Open::Directory { fd } => again(|| rustix::fs::fsync(fd)),
            Open::Folder(_) => Ok(()),
        }
    }

    pub(in super::super) fn release(&mut self, header: &Header, mut fields: Fields<'_>) -> Result<(), Errno> {
        self.handles.close(header.node, fields.u64()?)
    }

    pub(in super::super) fn fallocate(
        &mut self,
        header: &Header,
        mut fields: Fields<'_>,
    ) -> Result<(), Errno> {
        let (handle, offset, bytes) = (fields.u64()?, fields.offset()?, fields.offset()?);
        let mode = FallocateFlags::from_bits_retain(fields.u32()?);
        let known = FallocateFlags::KEEP_SIZE | FallocateFlags::PUNCH_HOLE | FallocateFlags::ZERO_RANGE;
        if !known.contains(mode) {
            return Err(Errno::OPNOTSUPP);
        }
        self.nodes.writable(header.node)?;
        let (offset, bytes) = (offset.unsigned_abs(), bytes.unsigned_abs());
        if !mode.contains(FallocateFlags::PUNCH_HOLE) {
            self.check_size(offset, bytes)?;
        }
        let fd = self.handles.file(header.node, handle)?;
        again(|| rustix::fs::fallocate(fd, mode, offset, bytes))
    }

    pub(in super::super) fn lseek(
        &mut self,
        header: &Header,
        mut fields: Fields<'_>,
        reply: &mut Vec<u8>,
    ) -> Result<(), Errno> {
        let (handle, offset, whence) = (fields.u64()?, fields.offset()?, fields.u32()?);
        let offset = offset.unsigned_abs();
        let to = match i32::try_from(whence) {
            Ok(libc::SEEK_DATA) => SeekFrom::Data(offset),
            Ok(libc::SEEK_HOLE) => SeekFrom::Hole(offset),
            _ => return Err(Errno::INVAL),
        };
        let fd = self.handles.file(header.node, handle)?;
        reply.put_u64(rustix::fs::seek(fd, to)?);
        Ok(())
    }

    pub(in super::super) fn copy_file_range(
        &mut self,
        header: &Header,
        mut fields: Fields<'_>,
        reply: &mut Vec<u8>,
    ) -> Result<(), Errno> {
        let (handle_in, offset_in) = (fields.u64()?, fields.offset()?);
        let (node_out, handle_out, offset_out) = (fields.u64()?, fields.u64()?, fields.offset()?);
        let (bytes, flags) = (fields.offset()?, fields.u64()?);
        if flags != 0 {
            return Err(Errno::INVAL);
        }
        self.nodes.writable(node_out)?;
        let bytes = usize::try_from(bytes).map_err(|_| Errno::INVAL)?.min(COPY_BYTES_MAX);
        let (mut from, mut to) = (offset_in.unsigned_abs(), offset_out.unsigned_abs());
        self.check_size(to, u64::try_from(bytes).map_err(|_| Errno::INVAL)?)?;
        let source = self.handles.file(header.node, handle_in)?;
        let target = self.handles.file(node_out, handle_out)?;
        let done = rustix::fs::copy_file_range(source, Some(&mut from), target, Some(&mut to), bytes)?;
        reply.put_u32(u32::try_from(done).map_err(|_| Errno::OVERFLOW)?);
        reply.put_u32(0);
        Ok(())
    }
}

/// Appends `struct fuse_open_out`.
pub(super) fn put_open(reply: &mut Vec<u8>, handle: u64, flags: u32) {
    reply.put_u64(handle);
    reply.put_u32(flags);
    reply.put_u32(0);
}
