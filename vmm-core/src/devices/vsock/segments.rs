//! Guest memory of one descriptor chain, as segments that the kernel reads and writes in place.
//!
//! All bounds are checked by `vm-memory`, across regions, before a pointer exists (CVE-2019-18960); a
//! chain that points anywhere else is refused as a whole. Header and payload may share a descriptor
//! (Linux ≥ 6.2), have one each (older), or be cut anywhere: only the byte order counts.

use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

use virtio_queue::DescriptorChain;
use vm_memory::{GuestMemory as _, VolatileSlice};

use super::limits::SEGMENTS_MAX;
use super::packet::{HEADER_BYTES, Header};
use crate::memory::GuestMemory;

/// The chain points outside guest memory, is too long, or has a descriptor of the wrong direction.
#[derive(Debug, PartialEq, Eq)]
pub struct BadChain;

/// The bytes of one chain, in order.
pub struct Segments<'m> {
    slices: Vec<VolatileSlice<'m>>,
    /// Segments before this one are used up.
    first: usize,
    bytes: usize,
}

impl<'m> Segments<'m> {
    /// An empty list, to be filled again and again by [`Segments::load`].
    pub fn new() -> Self {
        Self { slices: Vec::new(), first: 0, bytes: 0 }
    }

    /// Replaces the content with what `chain` describes. `writable` is the direction that every
    /// descriptor must have.
    ///
    /// # Errors
    /// [`BadChain`]; the list is empty then.
    pub fn load(
        &mut self,
        chain: DescriptorChain<&'m GuestMemory>,
        memory: &'m GuestMemory,
        writable: bool,
    ) -> Result<(), BadChain> {
        self.clear();
        for (index, descriptor) in chain.enumerate() {
            // Empty descriptors count too: an indirect table holds 65,535 of them.
            if index >= SEGMENTS_MAX || descriptor.is_write_only() != writable {
                return Err(self.refuse());
            }
            let bytes = usize::try_from(descriptor.len()).map_err(|_| self.refuse())?;
            for slice in memory.get_slices(descriptor.addr(), bytes) {
                let Ok(slice) = slice else { return Err(self.refuse()) };
                if self.slices.len() == SEGMENTS_MAX {
                    return Err(self.refuse());
                }
                // At most 2³² bytes: `virtio-queue` ends longer chains.
                self.bytes = self.bytes.saturating_add(slice.len());
                self.slices.push(slice);
            }
        }
        Ok(())
    }

    fn clear(&mut self) {
        self.slices.clear();
        self.first = 0;
        self.bytes = 0;
    }

    fn refuse(&mut self) -> BadChain {
        self.clear();
        BadChain
    }

    /// Bytes left.
    pub fn len(&self) -> usize {
        self.bytes
    }

    fn rest(&self) -> &[VolatileSlice<'m>] {
        self.slices.get(self.first..).unwrap_or_default()
    }

    /// Drops `count` bytes from the front.
    pub fn advance(&mut self, mut count: usize) {
        self.bytes = self.bytes.saturating_sub(count);
        while let Some(slice) = self.slices.get_mut(self.first) {
            if count < slice.len() {
                // Cannot fail: `count` is inside.
                if let Ok(rest) = slice.offset(count) {
                    *slice = rest;
                }
                return;
            }
            count -= slice.len();
            self.first += 1;
        }
    }

    /// Drops what is beyond the first `bytes_max` bytes.
    pub fn truncate(&mut self, bytes_max: usize) {
        if self.bytes <= bytes_max {
            return;
        }
        self.bytes = bytes_max;
        let mut left = bytes_max;
        for index in self.first..self.slices.len() {
            let Some(slice) = self.slices.get_mut(index) else { return };
            if left < slice.len() {
                if let Ok(part) = slice.subslice(0, left) {
                    *slice = part;
                }
                self.slices.truncate(index.saturating_add(1));
                return;
            }
            left -= slice.len();
        }
    }

    /// Reads the packet header and drops it from the front; `None` if the chain is shorter.
    pub fn take_header(&mut self) -> Option<Header> {
        if self.bytes < HEADER_BYTES {
            return None;
        }
        let mut bytes = [0; HEADER_BYTES];
        let mut to = bytes.as_mut_slice();
        for slice in self.rest() {
            let count = slice.copy_to(to);
            to = to.get_mut(count..).unwrap_or_default();
            if to.is_empty() {
                break;
            }
        }
        self.advance(HEADER_BYTES);
        Some(Header::decode(&bytes))
    }

    /// Writes the packet header to the front, which must hold it; nothing is dropped.
    pub fn put_header(&self, header: &Header) {
        let bytes = header.encode();
        let mut from = bytes.as_slice();
        for slice in self.rest() {
            let count = slice.len().min(from.len());
            let (now, later) = from.split_at_checked(count).unwrap_or((from, &[]));
            slice.copy_from(now);
            from = later;
            if from.is_empty() {
                break;
            }
        }
    }

    /// Appends all bytes left to `to`.
    pub fn copy_into(&self, to: &mut VecDeque<u8>) {
        to.reserve(self.bytes);
        let mut chunk = [0; 4096];
        for slice in self.rest() {
            let mut slice = *slice;
            while !slice.is_empty() {
                let count = slice.copy_to(&mut chunk);
                to.extend(chunk.get(..count).unwrap_or_default());
                let Ok(rest) = slice.offset(count) else { break };
                slice = rest;
            }
        }
    }

    /// Sends bytes from the front to a non-blocking socket, straight out of guest memory, and returns how
    /// many it took. They are not dropped; see [`Segments::advance`].
    ///
    /// # Errors
    /// As `sendmsg(2)`; a closed peer is `BrokenPipe`, never a signal (Firecracker #2464).
    pub fn send_to(&self, socket: BorrowedFd<'_>) -> io::Result<usize> {
        self.transfer(0, |message| {
            // SAFETY: `message` points to segments that are mapped for as long as `self` borrows guest
            // memory. The guest may change the bytes meanwhile, which only changes what it sends.
            unsafe { libc::sendmsg(socket.as_raw_fd(), message, libc::MSG_NOSIGNAL | libc::MSG_DONTWAIT) }
        })
    }

    /// Receives from a non-blocking socket into guest memory, after the first `skip` bytes and at most
    /// `bytes_max`; zero means end of stream.
    ///
    /// # Errors
    /// As `recvmsg(2)`.
    pub fn receive_from(&self, socket: BorrowedFd<'_>, skip: usize, bytes_max: usize) -> io::Result<usize> {
        let mut window = Segments { slices: self.rest().to_vec(), first: 0, bytes: self.bytes };
        window.advance(skip);
        window.truncate(bytes_max);
        window.transfer(0, |message| {
            // SAFETY: `message` points to segments that are mapped for as long as `self` borrows guest
            // memory, and that no Rust reference covers: guest memory is only reached through volatile
            // slices.
            unsafe { libc::recvmsg(socket.as_raw_fd(), message, libc::MSG_DONTWAIT) }
        })
    }

    /// Calls `call` with the segments as an I/O vector, again if a signal interrupted it.
    fn transfer(&self, flags: i32, mut call: impl FnMut(*mut libc::msghdr) -> isize) -> io::Result<usize> {
        let slices = self.rest();
        let guards: Vec<_> = slices.iter().map(VolatileSlice::ptr_guard_mut).collect();
        let mut vector: Vec<libc::iovec> = guards
            .iter()
            .map(|guard| libc::iovec { iov_base: guard.as_ptr().cast(), iov_len: guard.len() })
            .collect();
        let mut message = libc::msghdr {
            msg_name: std::ptr::null_mut(),
            msg_namelen: 0,
            msg_iov: vector.as_mut_ptr(),
            msg_iovlen: vector.len(),
            msg_control: std::ptr::null_mut(),
            msg_controllen: 0,
            msg_flags: flags,
        };
        loop {
            let done = call(&raw mut message);
            if let Ok(count) = usize::try_from(done) {
                return Ok(count);
            }
            let error = io::Error::last_os_error();
            if error.kind() != io::ErrorKind::Interrupted {
                return Err(error);
            }
        }
    }
}

/// Sends the front of `bytes` to a non-blocking socket, drops what it took and returns the count.
///
/// # Errors
/// As `sendmsg(2)`; a closed peer is `BrokenPipe`, never a signal.
pub fn send_bytes(bytes: &mut VecDeque<u8>, socket: BorrowedFd<'_>) -> io::Result<usize> {
    let (front, _) = bytes.as_slices();
    loop {
        // SAFETY: `front` is a live slice of that length.
        let sent = unsafe {
            let flags = libc::MSG_NOSIGNAL | libc::MSG_DONTWAIT;
            libc::send(socket.as_raw_fd(), front.as_ptr().cast(), front.len(), flags)
        };
        if let Ok(count) = usize::try_from(sent) {
            bytes.drain(..count.min(bytes.len()));
            return Ok(count);
        }
        let error = io::Error::last_os_error();
        if error.kind() != io::ErrorKind::Interrupted {
            return Err(error);
        }
    }
}
