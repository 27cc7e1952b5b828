//! Guest memory of one request: the part the guest wrote for us, and the part it wants filled.
//!
//! File data moves between the page cache and guest memory with `preadv` and `pwritev`, without a copy in
//! between. Everything else is copied out once before it is looked at, since the guest can change it at
//! any time. It must never: make a Rust reference to guest memory.

use std::os::fd::{AsRawFd, BorrowedFd};

use rustix::io::Errno;
use virtio_queue::DescriptorChain;
use vm_memory::{GuestMemory as _, VolatileSlice};

use super::limits::DESCRIPTORS_MAX;
use crate::host_path::again;
use crate::memory::GuestMemory;

/// Guest memory of one request.
#[derive(Debug, Default)]
pub(super) struct Buffers<'m> {
    /// Written by the guest, in order.
    readable: Area<'m>,
    /// To be filled by the device, in order.
    writable: Area<'m>,
}

impl<'m> Buffers<'m> {
    /// Collects the slices of a descriptor chain.
    ///
    /// `None` when the chain is malformed: memory that is not the guest's, too many descriptors, or a
    /// readable descriptor after a writable one (virtio 1.2 §2.7.4.2).
    pub(super) fn from_chain(
        chain: DescriptorChain<&'m GuestMemory>,
        memory: &'m GuestMemory,
    ) -> Option<Self> {
        let mut buffers = Self::default();
        for descriptor in chain {
            let area = if descriptor.is_write_only() {
                &mut buffers.writable
            } else if buffers.writable.slices.is_empty() {
                &mut buffers.readable
            } else {
                return None;
            };
            let bytes = usize::try_from(descriptor.len()).ok()?;
            for slice in memory.get_slices(descriptor.addr(), bytes) {
                area.push(slice.ok()?);
            }
            if buffers.readable.slices.len().saturating_add(buffers.writable.slices.len()) > DESCRIPTORS_MAX {
                return None;
            }
        }
        Some(buffers)
    }

    /// Buffers made of plain memory, to drive the server without a guest.
    #[cfg(test)]
    pub(super) fn from_memory(readable: &'m mut [u8], writable: &'m mut [u8]) -> Self {
        let mut buffers = Self::default();
        buffers.readable.push(VolatileSlice::from(readable));
        buffers.writable.push(VolatileSlice::from(writable));
        buffers
    }

    /// Bytes that the guest sent.
    pub(super) fn readable_bytes(&self) -> usize {
        self.readable.bytes
    }

    /// Bytes that the guest has room for.
    pub(super) fn writable_bytes(&self) -> usize {
        self.writable.bytes
    }

    /// Copies what the guest sent from `start` on; returns the number of bytes copied.
    pub(super) fn read(&self, start: usize, into: &mut [u8]) -> usize {
        let mut done = 0;
        for slice in self.readable.range(start, into.len()) {
            let Some(rest) = into.get_mut(done..) else { break };
            done = done.saturating_add(slice.copy_to(rest));
        }
        done
    }

    /// Copies `bytes` to the place `start` of the guest's room. `None` when they do not fit.
    pub(super) fn write(&self, start: usize, bytes: &[u8]) -> Option<()> {
        if start.checked_add(bytes.len())? > self.writable.bytes {
            return None;
        }
        let mut rest = bytes;
        for slice in self.writable.range(start, bytes.len()) {
            slice.copy_from(rest);
            rest = rest.get(slice.len()..).unwrap_or_default();
        }
        Some(())
    }

    /// Reads from `file` at `offset` into the guest's room from `start` on, at most `bytes`; stops at the
    /// end of the file. Returns the number of bytes read.
    pub(super) fn fill(
        &self,
        start: usize,
        bytes: usize,
        file: BorrowedFd<'_>,
        offset: i64,
    ) -> Result<usize, Errno> {
        let mut done = 0_usize;
        while done < bytes {
            let slices = self.writable.range(start.saturating_add(done), bytes.saturating_sub(done));
            let at = advance(offset, done)?;
            match transfer(&slices, |vector, count| {
                // SAFETY: `vector` holds `count` entries that point into guest memory which `self` keeps
                // mapped; the kernel writes within them only.
                unsafe { libc::preadv(file.as_raw_fd(), vector, count, at) }
            }) {
                Ok(0) => break,
                Ok(more) => done = done.saturating_add(more),
                Err(_) if done > 0 => break,
                Err(errno) => return Err(errno),
            }
        }
        Ok(done)
    }

    /// Writes what the guest sent from `start` on, `bytes` long, to `file`: at `offset`, or at its end.
    /// Returns the number of bytes written.
    pub(super) fn drain(
        &self,
        start: usize,
        bytes: usize,
        file: BorrowedFd<'_>,
        offset: Option<i64>,
    ) -> Result<usize, Errno> {
        let mut done = 0_usize;
        while done < bytes {
            let slices = self.readable.range(start.saturating_add(done), bytes.saturating_sub(done));
            let at = advance(offset.unwrap_or(0), done)?;
            let append = if offset.is_none() { libc::RWF_APPEND } else { 0 };
            match transfer(&slices, |vector, count| {
                // SAFETY: `vector` holds `count` entries that point into guest memory which `self` keeps
                // mapped; the kernel only reads them.
                unsafe { pwritev2(file.as_raw_fd(), vector, count, at, append) }
            }) {
                Ok(0) => break,
                Ok(more) => done = done.saturating_add(more),
                Err(_) if done > 0 => break,
                Err(errno) => return Err(errno),
            }
        }
        Ok(done)
    }
}

/// Slices of guest memory, and their length together.
#[derive(Debug, Default)]
struct Area<'m> {
    slices: Vec<VolatileSlice<'m>>,
    bytes: usize,
}

impl<'m> Area<'m> {
    fn push(&mut self, slice: VolatileSlice<'m>) {
        // A chain is shorter than 2^32 bytes (`DescriptorChain` ends it there), so this cannot saturate.
        self.bytes = self.bytes.saturating_add(slice.len());
        self.slices.push(slice);
    }

    /// The slices that cover `bytes` from `start` on, or as much of that as there is.
    fn range(&self, start: usize, bytes: usize) -> Vec<VolatileSlice<'m>> {
        let (mut skip, mut wanted) = (start, bytes);
        let mut range = Vec::with_capacity(self.slices.len());
        for slice in &self.slices {
            if wanted == 0 {
                break;
            }
            if skip >= slice.len() {
                skip = skip.saturating_sub(slice.len());
                continue;
            }
            let count = slice.len().saturating_sub(skip).min(wanted);
            if let Ok(part) = slice.subslice(skip, count) {
                range.push(part);
            }
            skip = 0;
            wanted = wanted.saturating_sub(count);
        }
        range
    }
}

fn advance(offset: i64, done: usize) -> Result<i64, Errno> {
    i64::try_from(done).ok().and_then(|done| offset.checked_add(done)).ok_or(Errno::INVAL)
}

/// Runs a vectored system call over `slices`.
fn transfer(
    slices: &[VolatileSlice<'_>],
    mut call: impl FnMut(*const libc::iovec, libc::c_int) -> isize,
) -> Result<usize, Errno> {
    // The guards keep the mappings addressable for the time of the call.
    let guards: Vec<_> = slices.iter().map(VolatileSlice::ptr_guard_mut).collect();
    let vector: Vec<_> = guards
        .iter()
        .map(|guard| libc::iovec { iov_base: guard.as_ptr().cast(), iov_len: guard.len() })
        .collect();
    let count = libc::c_int::try_from(vector.len()).map_err(|_| Errno::INVAL)?;
    again(|| {
        usize::try_from(call(vector.as_ptr(), count))
            .map_err(|_| Errno::from_io_error(&std::io::Error::last_os_error()).unwrap_or(Errno::IO))
    })
}

/// `pwritev2(2)`; not every C library has a wrapper.
///
/// # Safety
/// As for `pwritev`: `vector` points to `count` valid entries.
unsafe fn pwritev2(
    fd: libc::c_int,
    vector: *const libc::iovec,
    count: libc::c_int,
    offset: i64,
    flags: libc::c_int,
) -> isize {
    // SAFETY: the arguments are those of the system call (on 64-bit machines `pos_l` carries the whole
    // offset and `pos_h` is unused); the caller vouches for the vector.
    let result = unsafe {
        let (fd, count, flags) = (i64::from(fd), i64::from(count), i64::from(flags));
        libc::syscall(libc::SYS_pwritev2, fd, vector, count, offset, 0_i64, flags)
    };
    isize::try_from(result).unwrap_or(-1)
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Seek};
    use std::os::fd::AsFd;

    use super::*;

    #[test]
    fn ranges_cross_slices() {
        let (mut first, mut second) = ([1, 2, 3], [4, 5, 6, 7]);
        let mut buffers = Buffers::default();
        for slice in [&mut first[..], &mut second[..]] {
            buffers.readable.push(VolatileSlice::from(slice));
        }
        let mut copy = [0; 4];
        assert_eq!(buffers.read(1, &mut copy), 4);
        assert_eq!(copy, [2, 3, 4, 5]);
        assert_eq!(buffers.read(5, &mut copy), 2);
        assert_eq!(buffers.read(100, &mut copy), 0);
        assert_eq!(buffers.read(usize::MAX, &mut copy), 0);
    }

    #[test]
    fn data_moves_both_ways() {
        let mut file = tempfile::tempfile().unwrap();
        let (mut sent, mut room) = (*b"headHELLO", [0; 16]);
        let buffers = Buffers::from_memory(&mut sent, &mut room);
        assert_eq!(buffers.drain(4, 5, file.as_fd(), Some(2)), Ok(5));
        assert_eq!(buffers.drain(4, 1, file.as_fd(), None), Ok(1));
        assert_eq!(buffers.fill(3, 100, file.as_fd(), 1), Ok(7));
        assert_eq!(buffers.fill(0, 100, file.as_fd(), i64::MAX), Err(Errno::INVAL));
        assert_eq!(&room[3..10], b"\0HELLOH");
        let mut text = Vec::new();
        file.rewind().unwrap();
        file.read_to_end(&mut text).unwrap();
        assert_eq!(text, b"\0\0HELLOH");
    }

    #[test]
    fn what_does_not_fit_is_not_written() {
        let (mut sent, mut room) = ([0; 1], [0; 4]);
        let buffers = Buffers::from_memory(&mut sent, &mut room);
        assert_eq!(buffers.write(2, &[1, 2, 3]), None);
        assert_eq!(buffers.write(usize::MAX, &[1]), None);
        assert_eq!(buffers.write(1, &[1, 2, 3]), Some(()));
        assert_eq!(room, [0, 1, 2, 3]);
    }
}
