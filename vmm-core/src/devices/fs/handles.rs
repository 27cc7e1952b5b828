//! Files and directories that the guest holds open. A handle number is used once.

use std::collections::HashMap;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::io::Errno;

/// What is open.
#[derive(Debug)]
pub(super) enum Open {
    File {
        fd: OwnedFd,
        /// Writes go to the end of the file. Kept here and not in the descriptor: delayed writes of a
        /// shared mapping come through any handle and must land where they belong.
        append: bool,
    },
    Directory {
        fd: OwnedFd,
    },
    /// A made-up directory.
    Folder(usize),
}

/// All that is open.
#[derive(Debug)]
pub(super) struct Handles {
    open: HashMap<u64, (u64, Open)>,
    next: u64,
    capacity: usize,
}

impl Handles {
    pub(super) fn new(capacity: usize) -> Self {
        Self { open: HashMap::new(), next: 1, capacity }
    }

    /// Whether one more may be opened; asked before anything is created on the host.
    pub(super) fn room(&self) -> Result<(), Errno> {
        if self.open.len() < self.capacity { Ok(()) } else { Err(Errno::NFILE) }
    }

    pub(super) fn add(&mut self, node: u64, open: Open) -> Result<u64, Errno> {
        self.room()?;
        let handle = self.next;
        self.next = self.next.checked_add(1).ok_or(Errno::NFILE)?;
        self.open.insert(handle, (node, open));
        Ok(handle)
    }

    /// What `handle` stands for, if the guest opened it on `node`.
    pub(super) fn get(&self, node: u64, handle: u64) -> Result<&Open, Errno> {
        match self.open.get(&handle) {
            Some((opened, open)) if *opened == node => Ok(open),
            _ => Err(Errno::BADF),
        }
    }

    /// The descriptor of an open file.
    pub(super) fn file(&self, node: u64, handle: u64) -> Result<BorrowedFd<'_>, Errno> {
        match self.get(node, handle)? {
            Open::File { fd, .. } => Ok(fd.as_fd()),
            Open::Directory { .. } | Open::Folder(_) => Err(Errno::ISDIR),
        }
    }

    /// Any descriptor for `node`: the way to a file that no longer has a name.
    pub(super) fn any(&self, node: u64) -> Option<BorrowedFd<'_>> {
        self.open.values().find_map(|(opened, open)| match open {
            Open::File { fd, .. } | Open::Directory { fd } if *opened == node => Some(fd.as_fd()),
            _ => None,
        })
    }

    pub(super) fn close(&mut self, node: u64, handle: u64) -> Result<(), Errno> {
        self.get(node, handle)?;
        self.open.remove(&handle);
        Ok(())
    }

    pub(super) fn clear(&mut self) {
        self.open.clear();
    }
}
