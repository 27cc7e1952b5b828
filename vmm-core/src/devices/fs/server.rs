//! From the bytes of one request to the bytes of its reply.
//!
//! Every operation works through [`Nodes`] and [`Handles`]; nothing here or in `ops/` builds a path. It
//! must never: panic on what a guest sent, wait for the guest or for another process, or change a
//! read-only share.

use std::ffi::CStr;
use std::time::Duration;

use rustix::fs::Statx;
use rustix::io::Errno;

use super::abi::{self, Attr, Entry, Fields, HEADER_IN_BYTES, HEADER_OUT_BYTES, Header, Put, opcode};
use super::buffers::Buffers;
use super::handles::Handles;
use super::identity::{Devices, Owners};
use super::limits::{
    BACKGROUND_REQUESTS_MAX, DATA_BYTES_MAX, DATA_PAGES_MAX, READ_ONLY_VALID_SECONDS, REQUEST_BYTES_MAX,
    WRITABLE_VALID_SECONDS,
};
use super::nodes::{Kind, Nodes};
use super::tree::{Spot, Tree};
use crate::host_path::Reopen;

/// Sizes that depend on the process's limits.
#[derive(Clone, Copy, Debug)]
pub(super) struct Budget {
    /// Files the guest may hold open.
    pub(super) handles: usize,
    /// Directory descriptors kept.
    pub(super) directory_fds: usize,
    /// Largest file this process may write (`RLIMIT_FSIZE`); going beyond would be a deadly signal.
    pub(super) file_bytes: u64,
}

/// The file server.
#[derive(Debug)]
pub(super) struct Server {
    pub(super) nodes: Nodes,
    pub(super) handles: Handles,
    pub(super) reopen: Reopen,
    pub(super) owners: Owners,
    pub(super) devices: Devices,
    pub(super) file_bytes_max: u64,
    /// INIT has been answered.
    ready: bool,
    /// Reused from one request to the next.
    request: Vec<u8>,
    reply: Vec<u8>,
}

/// How a request ends when it does not fail.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Answer {
    /// The reply buffer is the payload.
    Reply,
    /// This many bytes of payload are in guest memory already.
    Filled(usize),
    /// The protocol knows no reply.
    Silence,
}

impl Server {
    pub(super) fn new(tree: Tree, reopen: Reopen, owners: Owners, budget: Budget) -> Self {
        Self {
            nodes: Nodes::new(tree, budget.directory_fds),
            handles: Handles::new(budget.handles),
            reopen,
            owners,
            devices: Devices::default(),
            file_bytes_max: budget.file_bytes,
            ready: false,
            request: Vec::new(),
            reply: Vec::new(),
        }
    }

    /// Forgets the guest: closes all handles and nodes.
    pub(super) fn reset(&mut self) {
        self.handles.clear();
        self.nodes.clear();
        self.ready = false;
    }

    /// Serves one request. Returns the number of bytes written into the guest's room; zero when there is
    /// no reply, or nothing sensible to reply to.
    pub(super) fn serve(&mut self, buffers: &Buffers<'_>) -> usize {
        let mut bytes = [0; HEADER_IN_BYTES];
        if buffers.read(0, &mut bytes) < HEADER_IN_BYTES {
            return 0;
        }
        let Ok(header) = Header::parse(&bytes) else { return 0 };
        let mut reply = std::mem::take(&mut self.reply);
        reply.clear();
        let answer = self.dispatch(&header, buffers, &mut reply);
        let written = finish(&header, answer, &reply, buffers);
        self.reply = reply;
        written
    }

    fn dispatch(
        &mut self,
        header: &Header,
        buffers: &Buffers<'_>,
        reply: &mut Vec<u8>,
    ) -> Result<Answer, Errno> {
        if usize::try_from(header.bytes) != Ok(buffers.readable_bytes()) {
            return Err(Errno::INVAL);
        }
        match header.opcode {
            opcode::WRITE if self.ready => return self.write(header, buffers, reply),
            _ if buffers.readable_bytes() > REQUEST_BYTES_MAX => return Err(Errno::INVAL),
            _ => {}
        }
        let mut request = std::mem::take(&mut self.request);
        request.resize(buffers.readable_bytes().saturating_sub(HEADER_IN_BYTES), 0);
        let copied = buffers.read(HEADER_IN_BYTES, &mut request);
        let fields = Fields::new(request.get(..copied).unwrap_or_default());
        let answer = self.act(header, fields, buffers, reply);
        self.request = request;
        answer
    }

    fn act(
        &mut self,
        header: &Header,
        fields: Fields<'_>,
        buffers: &Buffers<'_>,
        reply: &mut Vec<u8>,
    ) -> Result<Answer, Errno> {
        match header.opcode {
            opcode::INIT => self.init(fields, reply)?,
            _ if !self.ready => return Err(Errno::IO),
            opcode::READ => return self.read(header, fields, buffers),
            opcode::FORGET | opcode::BATCH_FORGET | opcode::INTERRUPT => {
                self.act_silently(header, fields)?;
                return Ok(Answer::Silence);
            }
            opcode::DESTROY => self.reset(),
            opcode::LOOKUP => self.lookup(header, fields, reply)?,
            opcode::GETATTR => self.getattr(header, fields, reply)?,
            opcode::SETATTR => self.setattr(header, fields, reply)?,
            opcode::READLINK => self.readlink(header, reply)?,
            opcode::STATFS => self.statfs(header, reply)?,
            opcode::OPEN => self.open(header, fields, reply)?,
            opcode::CREATE => self.create(header, fields, reply)?,
            opcode::FSYNC | opcode::FSYNCDIR => self.fsync(header, fields)?,
            opcode::RELEASE | opcode::RELEASEDIR => self.release(header, fields)?,
            opcode::FALLOCATE => self.fallocate(header, fields)?,
            opcode::LSEEK => self.lseek(header, fields, reply)?,
            opcode::COPY_FILE_RANGE => self.copy_file_range(header, fields, reply)?,
            opcode::OPENDIR => self.opendir(header, reply)?,
            opcode::READDIR => self.readdir(header, fields, buffers, reply)?,
            opcode::READDIRPLUS => self.readdirplus(header, fields, buffers, reply)?,
            opcode::MKNOD => self.mknod(header, fields, reply)?,
            opcode::MKDIR => self.mkdir(header, fields, reply)?,
            opcode::SYMLINK => self.symlink(header, fields, reply)?,
            opcode::LINK => self.link(header, fields, reply)?,
            opcode::UNLINK | opcode::RMDIR => self.unlink(header, fields)?,
            opcode::RENAME | opcode::RENAME2 => self.rename(header, fields)?,
            // Left to the guest's kernel, which remembers the answer and does not ask again: ACCESS (it
            // checks permissions itself), FLUSH, extended attributes, locks, IOCTL, POLL, TMPFILE, SYNCFS.
            _ => return Err(Errno::NOSYS),
        }
        Ok(Answer::Reply)
    }

    fn act_silently(&mut self, header: &Header, mut fields: Fields<'_>) -> Result<(), Errno> {
        match header.opcode {
            opcode::FORGET => self.nodes.forget(header.node, fields.u64()?),
            opcode::BATCH_FORGET => {
                let count = fields.u32()?;
                fields.skip(4)?;
                for _ in 0..count {
                    // The first record that is not there ends it, whatever the count says.
                    let (node, times) = (fields.u64()?, fields.u64()?);
                    self.nodes.forget(node, times);
                }
            }
            // Requests are served one after the other, so the one to interrupt is done already.
            _ => {}
        }
        Ok(())
    }

    /// Agrees on the protocol. A second INIT comes from a new driver, so the old one's state goes.
    fn init(&mut self, mut fields: Fields<'_>, reply: &mut Vec<u8>) -> Result<(), Errno> {
        let (major, minor) = (fields.u32()?, fields.u32()?);
        let (readahead, offered) = (fields.u32()?, fields.u32()?);
        self.reset();
        if major < abi::MAJOR || (major == abi::MAJOR && minor < abi::MINOR_MIN) {
            return Err(Errno::PROTO);
        }
        reply.put_u32(abi::MAJOR);
        reply.put_u32(abi::MINOR);
        if major > abi::MAJOR {
            // The guest is to ask again in our version; the rest of the reply is not read.
            reply.resize(64, 0);
            return Ok(());
        }
        reply.put_u32(readahead.min(DATA_BYTES_MAX));
        reply.put_u32(offered & abi::init::WANTED);
        reply.put_u16(BACKGROUND_REQUESTS_MAX);
        reply.put_u16(BACKGROUND_REQUESTS_MAX / 4 * 3);
        reply.put_u32(DATA_BYTES_MAX);
        reply.put_u32(1); // times are exact to the nanosecond
        reply.put_u16(DATA_PAGES_MAX);
        reply.resize(64, 0);
        self.ready = true;
        Ok(())
    }

    /// How long the guest may trust what it is told about a file of `share`.
    pub(super) fn lasts(&self, share: usize) -> Duration {
        Duration::from_secs(if self.nodes.is_read_only(share) {
            READ_ONLY_VALID_SECONDS
        } else {
            WRITABLE_VALID_SECONDS
        })
    }

    pub(super) fn attr_of(&mut self, stat: &Statx) -> Attr {
        self.devices.attr(stat, self.owners)
    }

    /// The entry for `name` in `parent`, counted as known to the guest.
    pub(super) fn entry(&mut self, parent: u64, name: &CStr) -> Result<Entry, Errno> {
        match self.nodes.kind(parent)? {
            Kind::Folder(folder) => {
                let spot = self.nodes.tree.find(folder, name).ok_or(Errno::NOENT)?;
                self.spot_entry(spot)
            }
            Kind::Host(share) => {
                let (node, stat) = self.nodes.look_up(parent, name)?;
                Ok(Entry { node, lasts: self.lasts(share), attr: self.attr_of(&stat) })
            }
        }
    }

    /// The entry of a made-up directory or of a share's root. Their nodes live for ever.
    pub(super) fn spot_entry(&mut self, spot: Spot) -> Result<Entry, Errno> {
        let node = self.nodes.number_of(spot);
        let (attr, lasts) = match spot {
            Spot::Folder(_) => (folder_attr(node), Duration::from_secs(READ_ONLY_VALID_SECONDS)),
            Spot::Share(share) => {
                let stat = self.nodes.stat(node)?;
                (self.attr_of(&stat), self.lasts(share))
            }
        };
        Ok(Entry { node, lasts, attr })
    }
}

/// A made-up directory: root's, and nobody may write to it.
fn folder_attr(node: u64) -> Attr {
    let never = (0, 0);
    Attr {
        inode: folder_inode(node),
        size: 0,
        blocks: 0,
        atime: never,
        mtime: never,
        ctime: never,
        mode: 0o040_555,
        links: 2,
        uid: 0,
        gid: 0,
        rdev: 0,
        block_bytes: 4096,
    }
}

/// Inode numbers of made-up directories, far from those of host files.
pub(super) fn folder_inode(node: u64) -> u64 {
    node | (1 << 62)
}

/// Writes the header, and the payload unless it is there already.
fn finish(header: &Header, answer: Result<Answer, Errno>, reply: &[u8], buffers: &Buffers<'_>) -> usize {
    let (payload, error) = match answer {
        // Such a request must not be answered, not even when it was nonsense.
        Ok(Answer::Silence) => return 0,
        Err(_) if matches!(header.opcode, opcode::FORGET | opcode::BATCH_FORGET) => return 0,
        Ok(Answer::Filled(bytes)) => (bytes, 0),
        Ok(Answer::Reply) if buffers.write(HEADER_OUT_BYTES, reply).is_some() => (reply.len(), 0),
        // The guest left too little room for the reply.
        Ok(Answer::Reply) => (0, Errno::OVERFLOW.raw_os_error()),
        Err(errno) => (0, errno.raw_os_error()),
    };
    let head = abi::header_out(payload, error.saturating_neg(), header.unique);
    match buffers.write(0, &head) {
        Some(()) => payload.saturating_add(HEADER_OUT_BYTES),
        None => 0,
    }
}
