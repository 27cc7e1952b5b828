//! The server driven with crafted requests: no guest, no virtqueue (those are in `tests/chains.rs`).

use std::path::Path;

use super::abi::{Fields, HEADER_IN_BYTES, HEADER_OUT_BYTES, opcode};
use super::buffers::Buffers;
use super::identity::Owners;
use super::server::{Budget, Server};
use super::tree::{Share, Tree};
use crate::host_path::Reopen;

mod chains;
mod escapes;
mod malformed;
mod operations;

/// An error number, positive, or what the payload was.
pub(super) type Reply = Result<Vec<u8>, i32>;

/// A request's body.
#[derive(Default)]
pub(super) struct Body(pub(super) Vec<u8>);

impl Body {
    pub(super) fn u32(mut self, value: u32) -> Self {
        self.0.extend(value.to_le_bytes());
        self
    }
    pub(super) fn u64(mut self, value: u64) -> Self {
        self.0.extend(value.to_le_bytes());
        self
    }
    pub(super) fn name(mut self, name: &str) -> Self {
        self.0.extend(name.bytes().chain([0]));
        self
    }
}

/// A guest that can say anything.
pub(super) struct Guest {
    pub(super) server: Server,
    /// Kept so that the shares exist as long as the guest does.
    pub(super) folder: tempfile::TempDir,
    /// The writable share's root.
    pub(super) work: u64,
    /// The read-only share's root.
    pub(super) fixed: u64,
}

impl Guest {
    /// `work` is shared for writing and `fixed` for reading; `secret` lies beside them.
    pub(super) fn new() -> Self {
        Self::made(Budget { handles: 64, directory_fds: 16, file_bytes: 1 << 40 }, true)
    }

    /// The same, with `fixed` writable too.
    pub(super) fn with_two_writable_shares() -> Self {
        Self::made(Budget { handles: 64, directory_fds: 16, file_bytes: 1 << 40 }, false)
    }

    fn made(budget: Budget, fixed: bool) -> Self {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("secret"), "the secret").unwrap();
        for share in ["work", "fixed"] {
            let root = folder.path().join(share);
            std::fs::create_dir_all(root.join("directory/inner")).unwrap();
            std::fs::write(root.join("file"), "content").unwrap();
            std::fs::write(root.join("directory/inner/deep"), "deep content").unwrap();
            std::os::unix::fs::symlink("file", root.join("link")).unwrap();
        }
        let share =
            |at: &str, source: &Path, read_only| Share { at: at.into(), source: source.into(), read_only };
        let shares = vec![
            share("work", &folder.path().join("work"), false),
            share("some/fixed", &folder.path().join("fixed"), fixed),
            share("some/file", &folder.path().join("secret"), true),
        ];
        let tree = Tree::build(shares).unwrap();
        let server = Server::new(tree, Reopen::new().unwrap(), Owners::of_this_process(), budget);
        let mut guest = Self { server, folder, work: 0, fixed: 0 };
        guest.init().unwrap();
        guest.work = guest.look_up(1, "work").unwrap();
        guest.fixed = guest.walk(1, "some/fixed");
        guest
    }

    pub(super) fn init(&mut self) -> Reply {
        self.call(opcode::INIT, 0, Body::default().u32(7).u32(41).u32(1 << 20).u32(u32::MAX))
    }

    pub(super) fn host(&self, path: &str) -> std::path::PathBuf {
        self.folder.path().join(path)
    }

    /// Sends whatever bytes; returns the reply as it lies in the guest's room.
    pub(super) fn raw(&mut self, request: &mut [u8], room: usize) -> Vec<u8> {
        let mut memory = vec![0xee; room];
        let written = self.server.serve(&Buffers::from_memory(request, &mut memory));
        assert!(written <= room);
        assert!(memory[written..].iter().all(|byte| *byte == 0xee), "bytes beyond the reply were written");
        memory.truncate(written);
        memory
    }

    /// Sends a well-formed header with any body; `None` when there was no reply.
    pub(super) fn send(&mut self, opcode: u32, node: u64, body: &[u8], room: usize) -> Option<Reply> {
        let mut request = header(opcode, node, body.len());
        request.extend(body);
        let reply = self.raw(&mut request, room);
        if reply.is_empty() {
            return None;
        }
        let mut fields = Fields::new(&reply);
        let (bytes, error, unique) = (fields.u32().unwrap(), fields.u32().unwrap(), fields.u64().unwrap());
        assert_eq!((bytes as usize, unique), (reply.len(), 0x1234_5678_9abc));
        Some(match error.cast_signed() {
            0 => Ok(reply[HEADER_OUT_BYTES..].to_vec()),
            error => {
                assert_eq!(reply.len(), HEADER_OUT_BYTES);
                Err(-error)
            }
        })
    }

    pub(super) fn call(&mut self, opcode: u32, node: u64, body: Body) -> Reply {
        self.send(opcode, node, &body.0, 70_000).expect("no reply")
    }

    pub(super) fn look_up(&mut self, parent: u64, name: &str) -> Result<u64, i32> {
        let entry = self.call(opcode::LOOKUP, parent, Body::default().name(name))?;
        assert_eq!(entry.len(), 128);
        Ok(u64_at(&entry, 0))
    }

    pub(super) fn walk(&mut self, from: u64, path: &str) -> u64 {
        path.split('/').fold(from, |node, name| self.look_up(node, name).unwrap())
    }

    pub(super) fn open(&mut self, node: u64, flags: i32) -> Result<u64, i32> {
        let body = Body::default().u32(flags.cast_unsigned()).u32(0);
        self.call(opcode::OPEN, node, body).map(|reply| u64_at(&reply, 0))
    }

    pub(super) fn open_directory(&mut self, node: u64) -> Result<u64, i32> {
        self.call(opcode::OPENDIR, node, Body::default().u32(0).u32(0)).map(|reply| u64_at(&reply, 0))
    }

    pub(super) fn read(&mut self, node: u64, handle: u64, offset: u64, bytes: u32) -> Reply {
        self.call(opcode::READ, node, transfer(handle, offset, bytes, 0))
    }

    pub(super) fn write(&mut self, node: u64, handle: u64, offset: u64, data: &[u8]) -> Result<u32, i32> {
        let mut body = transfer(handle, offset, u32::try_from(data.len()).unwrap(), 0);
        body.0.extend(data);
        self.call(opcode::WRITE, node, body).map(|reply| u32_at(&reply, 0))
    }

    pub(super) fn create(
        &mut self,
        parent: u64,
        name: &str,
        flags: i32,
        mode: u32,
    ) -> Result<(u64, u64), i32> {
        let body = Body::default().u32(flags.cast_unsigned()).u32(mode).u32(0).u32(0).name(name);
        self.call(opcode::CREATE, parent, body).map(|reply| (u64_at(&reply, 0), u64_at(&reply, 128)))
    }

    pub(super) fn mode_of(&mut self, node: u64) -> u32 {
        let reply = self.call(opcode::GETATTR, node, Body::default().u32(0).u32(0).u64(0)).unwrap();
        u32_at(&reply, 16 + 60)
    }
}

/// `fuse_read_in` and `fuse_write_in`.
pub(super) fn transfer(handle: u64, offset: u64, bytes: u32, flags: u32) -> Body {
    Body::default().u64(handle).u64(offset).u32(bytes).u32(flags).u64(0).u32(0).u32(0)
}

/// `fuse_setattr_in`.
pub(super) fn setattr(valid: u32, handle: u64, size: u64, mode: u32, owner: u32) -> Body {
    let body = Body::default().u32(valid).u32(0).u64(handle).u64(size).u64(0).u64(7).u64(8).u64(0);
    body.u32(5).u32(6).u32(0).u32(mode).u32(0).u32(owner).u32(owner).u32(0)
}

pub(super) fn header(opcode: u32, node: u64, body: usize) -> Vec<u8> {
    let length = u32::try_from(HEADER_IN_BYTES + body).unwrap();
    let head = Body::default().u32(length).u32(opcode).u64(0x1234_5678_9abc).u64(node);
    head.u32(0).u32(0).u32(1).u32(0).0
}

pub(super) fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(bytes[at..at + 8].try_into().unwrap())
}

pub(super) fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap())
}

/// The names of a listing, and the position after the last of them.
pub(super) fn names(mut listing: &[u8], plus: bool) -> (Vec<String>, u64) {
    let (mut names, mut next) = (Vec::new(), 0);
    while !listing.is_empty() {
        let record = if plus { &listing[128..] } else { listing };
        let bytes = u32_at(record, 16) as usize;
        next = u64_at(record, 8);
        names.push(String::from_utf8(record[24..24 + bytes].to_vec()).unwrap());
        listing = &record[(24 + bytes).next_multiple_of(8)..];
    }
    (names, next)
}
