//! The FUSE wire format (Linux `include/uapi/linux/fuse.h`, protocol 7.31 to 7.38): numbers, and functions
//! from bytes to fields and from attributes to bytes. No input or output happens here.
//!
//! It must never: index into what the guest sent, or let a name through that could be a path.

use std::ffi::CStr;
use std::time::Duration;

use rustix::io::Errno;

use super::limits::{NAME_BYTES_MAX, TARGET_BYTES_MAX};

/// Protocol version.
pub(super) const MAJOR: u32 = 7;
/// Newest minor version whose messages are understood; the guest talks the smaller of the two.
pub(super) const MINOR: u32 = 38;
/// Oldest minor version served: Linux 5.4 has it, the first with virtio-fs.
pub(super) const MINOR_MIN: u32 = 31;

/// Length of the header of a request, in bytes.
pub(super) const HEADER_IN_BYTES: usize = 40;
/// Length of `struct fuse_write_in`, in bytes.
pub(super) const WRITE_IN_BYTES: usize = 40;
/// Length of the header of a reply, in bytes.
pub(super) const HEADER_OUT_BYTES: usize = 16;

/// Request numbers.
pub(super) mod opcode {
    pub(in super::super) const LOOKUP: u32 = 1;
    pub(in super::super) const FORGET: u32 = 2;
    pub(in super::super) const GETATTR: u32 = 3;
    pub(in super::super) const SETATTR: u32 = 4;
    pub(in super::super) const READLINK: u32 = 5;
    pub(in super::super) const SYMLINK: u32 = 6;
    pub(in super::super) const MKNOD: u32 = 8;
    pub(in super::super) const MKDIR: u32 = 9;
    pub(in super::super) const UNLINK: u32 = 10;
    pub(in super::super) const RMDIR: u32 = 11;
    pub(in super::super) const RENAME: u32 = 12;
    pub(in super::super) const LINK: u32 = 13;
    pub(in super::super) const OPEN: u32 = 14;
    pub(in super::super) const READ: u32 = 15;
    pub(in super::super) const WRITE: u32 = 16;
    pub(in super::super) const STATFS: u32 = 17;
    pub(in super::super) const RELEASE: u32 = 18;
    pub(in super::super) const FSYNC: u32 = 20;
    pub(in super::super) const INIT: u32 = 26;
    pub(in super::super) const OPENDIR: u32 = 27;
    pub(in super::super) const READDIR: u32 = 28;
    pub(in super::super) const RELEASEDIR: u32 = 29;
    pub(in super::super) const FSYNCDIR: u32 = 30;
    pub(in super::super) const CREATE: u32 = 35;
    pub(in super::super) const INTERRUPT: u32 = 36;
    pub(in super::super) const DESTROY: u32 = 38;
    pub(in super::super) const BATCH_FORGET: u32 = 42;
    pub(in super::super) const FALLOCATE: u32 = 43;
    pub(in super::super) const READDIRPLUS: u32 = 44;
    pub(in super::super) const RENAME2: u32 = 45;
    pub(in super::super) const LSEEK: u32 = 46;
    pub(in super::super) const COPY_FILE_RANGE: u32 = 47;
}

/// Bits of the INIT message.
pub(super) mod init {
    pub(in super::super) const ASYNC_READ: u32 = 1 << 0;
    pub(in super::super) const ATOMIC_O_TRUNC: u32 = 1 << 3;
    pub(in super::super) const BIG_WRITES: u32 = 1 << 5;
    /// Drop cached pages when attributes show that the file changed on the host.
    pub(in super::super) const AUTO_INVAL_DATA: u32 = 1 << 12;
    pub(in super::super) const DO_READDIRPLUS: u32 = 1 << 13;
    pub(in super::super) const READDIRPLUS_AUTO: u32 = 1 << 14;
    pub(in super::super) const ASYNC_DIO: u32 = 1 << 15;
    pub(in super::super) const PARALLEL_DIROPS: u32 = 1 << 18;
    pub(in super::super) const MAX_PAGES: u32 = 1 << 22;
    pub(in super::super) const CACHE_SYMLINKS: u32 = 1 << 23;
    /// All that this server wants. Not among them, on purpose: WRITEBACK_CACHE (host changes would be
    /// lost), POSIX_LOCKS and FLOCK_LOCKS (locks stay in the guest, so none can block this thread),
    /// POSIX_ACL and the xattr extensions, submounts and DAX.
    pub(in super::super) const WANTED: u32 = ASYNC_READ
        | ATOMIC_O_TRUNC
        | BIG_WRITES
        | AUTO_INVAL_DATA
        | DO_READDIRPLUS
        | READDIRPLUS_AUTO
        | ASYNC_DIO
        | PARALLEL_DIROPS
        | MAX_PAGES
        | CACHE_SYMLINKS;
}

/// Bits of `fuse_setattr_in.valid`.
pub(super) mod valid {
    pub(in super::super) const MODE: u32 = 1 << 0;
    pub(in super::super) const UID: u32 = 1 << 1;
    pub(in super::super) const GID: u32 = 1 << 2;
    pub(in super::super) const SIZE: u32 = 1 << 3;
    pub(in super::super) const ATIME: u32 = 1 << 4;
    pub(in super::super) const MTIME: u32 = 1 << 5;
    pub(in super::super) const FH: u32 = 1 << 6;
    pub(in super::super) const ATIME_NOW: u32 = 1 << 7;
    pub(in super::super) const MTIME_NOW: u32 = 1 << 8;
}

/// `fuse_getattr_in.getattr_flags`: the file handle is valid.
pub(super) const GETATTR_FH: u32 = 1;
/// `fuse_write_in.write_flags`: delayed write from the page cache.
pub(super) const WRITE_CACHE: u32 = 1;
/// `fuse_fsync_in.fsync_flags`: data only.
pub(super) const FSYNC_DATA_ONLY: u32 = 1;
/// `fuse_open_out.open_flags`: keep the pages that are cached.
pub(super) const FOPEN_KEEP_CACHE: u32 = 1 << 1;
/// `fuse_open_out.open_flags`: the listing may be cached.
pub(super) const FOPEN_CACHE_DIR: u32 = 1 << 3;

/// Takes fields out of a request, in order. All integers are little-endian on every machine we run on.
#[derive(Debug)]
pub(super) struct Fields<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    pub(super) fn u32(&mut self) -> Result<u32, Errno> {
        let (first, rest) = self.0.split_first_chunk().ok_or(Errno::INVAL)?;
        self.0 = rest;
        Ok(u32::from_le_bytes(*first))
    }

    pub(super) fn u64(&mut self) -> Result<u64, Errno> {
        let (first, rest) = self.0.split_first_chunk().ok_or(Errno::INVAL)?;
        self.0 = rest;
        Ok(u64::from_le_bytes(*first))
    }

    /// A position or length in a file; the kernel's are signed.
    pub(super) fn offset(&mut self) -> Result<i64, Errno> {
        self.u64().and_then(|offset| i64::try_from(offset).map_err(|_| Errno::INVAL))
    }

    pub(super) fn skip(&mut self, bytes: usize) -> Result<(), Errno> {
        self.0 = self.0.get(bytes..).ok_or(Errno::INVAL)?;
        Ok(())
    }

    /// A directory entry's name: one component, never `.` or `..`.
    pub(super) fn name(&mut self) -> Result<&'a CStr, Errno> {
        let name = self.text()?;
        let bytes = name.to_bytes();
        if bytes.len() > NAME_BYTES_MAX {
            return Err(Errno::NAMETOOLONG);
        }
        if bytes.is_empty() || bytes == b"." || bytes == b".." || bytes.contains(&b'/') {
            return Err(Errno::INVAL);
        }
        Ok(name)
    }

    /// The target of a symbolic link: any text, since nobody on this side ever follows it.
    pub(super) fn target(&mut self) -> Result<&'a CStr, Errno> {
        let target = self.text()?;
        match target.count_bytes() {
            0 => Err(Errno::NOENT),
            1..=TARGET_BYTES_MAX => Ok(target),
            _ => Err(Errno::NAMETOOLONG),
        }
    }

    fn text(&mut self) -> Result<&'a CStr, Errno> {
        let text = CStr::from_bytes_until_nul(self.0).map_err(|_| Errno::INVAL)?;
        self.skip(text.to_bytes_with_nul().len())?;
        Ok(text)
    }

    /// Nothing may be left over: a NUL inside a name shows here.
    pub(super) fn end(self) -> Result<(), Errno> {
        if self.0.is_empty() { Ok(()) } else { Err(Errno::INVAL) }
    }
}

/// `struct fuse_in_header`, as far as it is used.
#[derive(Clone, Copy, Debug)]
pub(super) struct Header {
    pub(super) bytes: u32,
    pub(super) opcode: u32,
    pub(super) unique: u64,
    pub(super) node: u64,
    pub(super) uid: u32,
    pub(super) gid: u32,
}

impl Header {
    pub(super) fn parse(bytes: &[u8; HEADER_IN_BYTES]) -> Result<Self, Errno> {
        let mut fields = Fields::new(bytes);
        Ok(Self {
            bytes: fields.u32()?,
            opcode: fields.u32()?,
            unique: fields.u64()?,
            node: fields.u64()?,
            uid: fields.u32()?,
            gid: fields.u32()?,
        })
    }
}

/// The header of a reply whose payload is `payload` bytes long.
pub(super) fn header_out(payload: usize, error: i32, unique: u64) -> [u8; HEADER_OUT_BYTES] {
    let bytes = u32::try_from(payload.saturating_add(HEADER_OUT_BYTES)).unwrap_or(u32::MAX);
    let mut header = [0; HEADER_OUT_BYTES];
    let fields = bytes.to_le_bytes().into_iter().chain(error.to_le_bytes()).chain(unique.to_le_bytes());
    header.iter_mut().zip(fields).for_each(|(to, from)| *to = from);
    header
}

/// Appends fields to a reply.
pub(super) trait Put {
    fn put_u16(&mut self, value: u16);
    fn put_u32(&mut self, value: u32);
    fn put_u64(&mut self, value: u64);
}

impl Put for Vec<u8> {
    fn put_u16(&mut self, value: u16) {
        self.extend_from_slice(&value.to_le_bytes());
    }
    fn put_u32(&mut self, value: u32) {
        self.extend_from_slice(&value.to_le_bytes());
    }
    fn put_u64(&mut self, value: u64) {
        self.extend_from_slice(&value.to_le_bytes());
    }
}

/// A point in time: seconds (may be before 1970) and nanoseconds.
pub(super) type Time = (i64, u32);

/// `struct fuse_attr`, as the guest is to see it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Attr {
    pub(super) inode: u64,
    pub(super) size: u64,
    pub(super) blocks: u64,
    pub(super) atime: Time,
    pub(super) mtime: Time,
    pub(super) ctime: Time,
    pub(super) mode: u32,
    pub(super) links: u32,
    pub(super) uid: u32,
    pub(super) gid: u32,
    pub(super) rdev: u32,
    pub(super) block_bytes: u32,
}

/// Length of `struct fuse_attr`, in bytes.
pub(super) const ATTR_BYTES: usize = 88;
/// Length of `struct fuse_entry_out`, in bytes.
pub(super) const ENTRY_BYTES: usize = 40 + ATTR_BYTES;
/// Length of `struct fuse_dirent` without its name, in bytes.
pub(super) const DIRENT_BYTES: usize = 24;

impl Attr {
    /// Appends `struct fuse_attr`.
    pub(super) fn put(&self, reply: &mut Vec<u8>) {
        reply.put_u64(self.inode);
        reply.put_u64(self.size);
        reply.put_u64(self.blocks);
        for (seconds, _) in [self.atime, self.mtime, self.ctime] {
            reply.extend_from_slice(&seconds.to_le_bytes());
        }
        for (_, nanoseconds) in [self.atime, self.mtime, self.ctime] {
            reply.put_u32(nanoseconds);
        }
        for field in [self.mode, self.links, self.uid, self.gid, self.rdev, self.block_bytes, 0] {
            reply.put_u32(field);
        }
    }

    /// Appends `struct fuse_attr_out`.
    pub(super) fn put_out(&self, lasts: Duration, reply: &mut Vec<u8>) {
        reply.put_u64(lasts.as_secs());
        reply.put_u32(lasts.subsec_nanos());
        reply.put_u32(0);
        self.put(reply);
    }
}

/// A name's node and attributes, and how long both may be trusted.
#[derive(Clone, Copy, Debug)]
pub(super) struct Entry {
    /// Zero says "there is no such name" (and may be remembered).
    pub(super) node: u64,
    pub(super) lasts: Duration,
    pub(super) attr: Attr,
}

impl Entry {
    /// A name that does not exist, which the guest may remember.
    pub(super) fn absent(lasts: Duration) -> Self {
        let never = (0, 0);
        Self {
            node: 0,
            lasts,
            attr: Attr {
                inode: 0,
                size: 0,
                blocks: 0,
                atime: never,
                mtime: never,
                ctime: never,
                mode: 0,
                links: 0,
                uid: 0,
                gid: 0,
                rdev: 0,
                block_bytes: 0,
            },
        }
    }

    /// Appends `struct fuse_entry_out`. Nodes are never used twice, so the generation is always zero.
    pub(super) fn put(&self, reply: &mut Vec<u8>) {
        reply.put_u64(self.node);
        reply.put_u64(0);
        reply.put_u64(self.lasts.as_secs());
        reply.put_u64(self.lasts.as_secs());
        reply.put_u32(self.lasts.subsec_nanos());
        reply.put_u32(self.lasts.subsec_nanos());
        self.attr.put(reply);
    }
}

/// Length of a directory record with a name of `name_bytes`, padding included.
pub(super) fn dirent_bytes(name_bytes: usize) -> usize {
    DIRENT_BYTES.saturating_add(name_bytes).next_multiple_of(8)
}

/// Appends `struct fuse_dirent`. `next` is the position after this record, `kind` a `DT_*` value.
pub(super) fn put_dirent(reply: &mut Vec<u8>, inode: u64, next: u64, kind: u32, name: &CStr) {
    let start = reply.len();
    reply.put_u64(inode);
    reply.put_u64(next);
    reply.put_u32(u32::try_from(name.count_bytes()).unwrap_or(0));
    reply.put_u32(kind);
    reply.extend_from_slice(name.to_bytes());
    reply.resize(start.saturating_add(dirent_bytes(name.count_bytes())), 0);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(bytes: &[u8]) -> Result<usize, Errno> {
        let mut fields = Fields::new(bytes);
        let name = fields.name()?.count_bytes();
        fields.end().map(|()| name)
    }

    #[test]
    fn names_that_are_paths_are_refused() {
        for bad in [
            &b"\0"[..],
            b".\0",
            b"..\0",
            b"/\0",
            b"a/b\0",
            b"/etc/shadow\0",
            b"../x\0",
            b"a\0b\0",
            b"unterminated",
            b"",
        ] {
            assert_eq!(name(bad), Err(Errno::INVAL), "{bad:?}");
        }
        assert_eq!(name(b"...\0"), Ok(3));
        assert_eq!(name(b".hidden\0"), Ok(7));
        assert_eq!(name(&[vec![b'x'; 255], vec![0]].concat()), Ok(255));
        assert_eq!(name(&[vec![b'x'; 256], vec![0]].concat()), Err(Errno::NAMETOOLONG));
    }

    #[test]
    fn targets_may_be_any_text_of_bounded_length() {
        assert_eq!(Fields::new(b"/etc/shadow\0").target(), Ok(c"/etc/shadow"));
        assert_eq!(Fields::new(b"\0").target(), Err(Errno::NOENT));
        assert_eq!(Fields::new(&[vec![b'x'; 4096], vec![0]].concat()).target(), Err(Errno::NAMETOOLONG));
    }

    #[test]
    fn structures_have_the_length_of_the_kernels() {
        let entry = Entry::absent(Duration::from_secs(1));
        let (mut attr, mut attr_out, mut entry_out, mut record) = (vec![], vec![], vec![], vec![]);
        entry.attr.put(&mut attr);
        entry.attr.put_out(entry.lasts, &mut attr_out);
        entry.put(&mut entry_out);
        put_dirent(&mut record, 1, 2, 4, c"name");
        assert_eq!((attr.len(), attr_out.len()), (ATTR_BYTES, 104));
        assert_eq!((entry_out.len(), record.len()), (ENTRY_BYTES, 32));
    }
}
