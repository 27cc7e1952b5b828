//! Listing directories.

use std::ffi::CString;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::{FileType, OFlags, RawDir, SeekFrom};
use rustix::io::Errno;

use super::super::abi::{
    ENTRY_BYTES, Entry, FOPEN_CACHE_DIR, FOPEN_KEEP_CACHE, Fields, HEADER_OUT_BYTES, Header, dirent_bytes,
    put_dirent,
};
use super::super::buffers::Buffers;
use super::super::handles::Open;
use super::super::limits::LISTING_BYTES_MAX;
use super::super::nodes::Kind;
use super::super::server::{Server, folder_inode};
use super::super::tree::Spot;
use super::content::put_open;
use crate::host_path::DIRECTORY;

/// One record, found on the host or made up.
struct Record {
    name: CString,
    inode: u64,
    /// `DT_*`.
    kind: u32,
    /// Position after this record.
    next: u64,
}

impl Server {
    pub(in super::super) fn opendir(&mut self, header: &Header, reply: &mut Vec<u8>) -> Result<(), Errno> {
        self.handles.room()?;
        let (open, flags) = match self.nodes.kind(header.node)? {
            Kind::Folder(folder) => (Open::Folder(folder), FOPEN_CACHE_DIR | FOPEN_KEEP_CACHE),
            Kind::Host(share) => {
                if self.nodes.host(header.node)?.identity.kind != DIRECTORY {
                    return Err(Errno::NOTDIR);
                }
                let path = self.nodes.path_fd(header.node)?;
                let fd = self.reopen.open(path.as_fd(), OFlags::RDONLY | OFlags::DIRECTORY)?;
                let cached =
                    if self.nodes.is_read_only(share) { FOPEN_CACHE_DIR | FOPEN_KEEP_CACHE } else { 0 };
                (Open::Directory { fd }, cached)
            }
        };
        let handle = self.handles.add(header.node, open)?;
        put_open(reply, handle, flags);
        Ok(())
    }

    pub(in super::super) fn readdir(
        &mut self,
        header: &Header,
        fields: Fields<'_>,
        buffers: &Buffers<'_>,
        reply: &mut Vec<u8>,
    ) -> Result<(), Errno> {
        let (records, room) = self.records(header, fields, buffers, 0)?;
        for record in records {
            if reply.len().saturating_add(dirent_bytes(record.name.count_bytes())) > room {
                break;
            }
            put_dirent(reply, record.inode, record.next, record.kind, &record.name);
        }
        Ok(())
    }

    pub(in super::super) fn readdirplus(
        &mut self,
        header: &Header,
        fields: Fields<'_>,
        buffers: &Buffers<'_>,
        reply: &mut Vec<u8>,
    ) -> Result<(), Errno> {
        let (records, room) = self.records(header, fields, buffers, ENTRY_BYTES)?;
        for record in records {
            let bytes = ENTRY_BYTES.saturating_add(dirent_bytes(record.name.count_bytes()));
            // Checked before the name is looked up: a lookup that the guest never hears of is a leak.
            if reply.len().saturating_add(bytes) > room {
                break;
            }
            let nobody = Entry::absent(std::time::Duration::ZERO);
            let dots = matches!(record.name.to_bytes(), b"." | b"..");
            // A name that is gone or out of bounds is still listed; the guest looks it up when it cares.
            let entry = if dots { nobody } else { self.entry(header.node, &record.name).unwrap_or(nobody) };
            entry.put(reply);
            put_dirent(reply, record.inode, record.next, record.kind, &record.name);
        }
        Ok(())
    }

    /// The next records of an open directory, about as many as fit, and the room for them in bytes.
    /// `extra` is what each takes beyond a plain record.
    fn records(
        &mut self,
        header: &Header,
        mut fields: Fields<'_>,
        buffers: &Buffers<'_>,
        extra: usize,
    ) -> Result<(Vec<Record>, usize), Errno> {
        let (handle, position, bytes) = (fields.u64()?, fields.u64()?, fields.u32()?);
        let room = usize::try_from(bytes)
            .map_err(|_| Errno::INVAL)?
            .min(buffers.writable_bytes().saturating_sub(HEADER_OUT_BYTES))
            .min(LISTING_BYTES_MAX);
        let records = match self.handles.get(header.node, handle)? {
            Open::File { .. } => return Err(Errno::NOTDIR),
            Open::Folder(folder) => {
                let folder = *folder;
                self.folder_records(header.node, folder, position)
            }
            Open::Directory { fd } => {
                let device = self.nodes.host(header.node)?.identity.device;
                let mut records = host_records(fd, position, room, extra)?;
                for record in &mut records {
                    record.inode = self.devices.inode(device, record.inode);
                }
                records
            }
        };
        Ok((records, room))
    }

    fn folder_records(&self, node: u64, folder: usize, position: u64) -> Vec<Record> {
        const DIRECTORY_TYPE: u32 = 4;
        let dots = [c".", c".."].map(|name| (name.to_owned(), folder_inode(node), DIRECTORY_TYPE));
        let entries = self.nodes.tree.folders.get(folder).map(|folder| &folder.entries);
        let listed = entries.into_iter().flatten().map(|(name, spot)| {
            let kind = match spot {
                Spot::Folder(_) => DIRECTORY_TYPE,
                Spot::Share(_) => 0,
            };
            (name.clone(), folder_inode(self.nodes.number_of(*spot)), kind)
        });
        let numbered = dots.into_iter().chain(listed).zip(1_u64..);
        numbered
            .filter(|(_, next)| *next > position)
            .map(|((name, inode, kind), next)| Record { name, inode, kind, next })
            .collect()
    }
}

/// Reads from `position` on; one system call, whose buffer is scaled so that little is read in vain.
fn host_records(fd: &OwnedFd, position: u64, room: usize, extra: usize) -> Result<Vec<Record>, Errno> {
    const RECORD_BYTES: usize = 32;
    const BUFFER_BYTES_MIN: usize = 1024;
    rustix::fs::seek(fd, SeekFrom::Start(position))?;
    let wanted = room / RECORD_BYTES.saturating_add(extra).max(1) * RECORD_BYTES;
    let mut buffer = vec![MaybeUninit::uninit(); wanted.max(BUFFER_BYTES_MIN)];
    let mut listing = RawDir::new(fd, &mut buffer);
    let mut records = Vec::new();
    while let Some(entry) = listing.next() {
        let entry = entry?;
        records.push(Record {
            name: entry.file_name().to_owned(),
            inode: entry.ino(),
            kind: kind_of(entry.file_type()),
            next: entry.next_entry_cookie(),
        });
        if listing.is_buffer_empty() {
            break;
        }
    }
    Ok(records)
}

/// `DT_*` of a type.
fn kind_of(kind: FileType) -> u32 {
    match kind {
        FileType::Fifo => 1,
        FileType::CharacterDevice => 2,
        FileType::Directory => 4,
        FileType::BlockDevice => 6,
        FileType::RegularFile => 8,
        FileType::Symlink => 10,
        FileType::Socket => 12,
        FileType::Unknown => 0,
    }
}
