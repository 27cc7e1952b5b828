//! Whole pages for one secret each.
//!
//! The only `unsafe` of this crate. Pages are not shared with anything else, since `munlock` works on
//! whole pages: two secrets on one page would unlock each other. Must never hand out a pointer.

use std::ptr::{self, NonNull};

use rustix::mm::{MapFlags, ProtFlags, mlock, mmap_anonymous, munmap};
use zeroize::Zeroize;

use super::Protection;

/// A private anonymous mapping. Invariant: `start` is the beginning of a live mapping of `mapped` bytes,
/// readable and writable, owned by this value alone, and `len <= mapped`.
pub(super) struct Pages {
    start: NonNull<u8>,
    len: usize,
    mapped: usize,
}

// SAFETY: the mapping is owned by this value alone and is plain memory without thread affinity.
unsafe impl Send for Pages {}
// SAFETY: `&Pages` only gives `&[u8]`, writing takes `&mut Pages`.
unsafe impl Sync for Pages {}

impl Pages {
    pub(super) fn map(len: usize) -> Option<(Self, Protection)> {
        let mapped = len.max(1).checked_next_multiple_of(rustix::param::page_size())?;
        // SAFETY: a null hint with a private anonymous mapping touches no memory that exists.
        let start = unsafe {
            mmap_anonymous(ptr::null_mut(), mapped, ProtFlags::READ | ProtFlags::WRITE, MapFlags::PRIVATE)
        };
        let start = NonNull::new(start.ok()?.cast::<u8>())?;
        let pages = Self { start, len, mapped };
        let protection = pages.protect();
        Some((pages, protection))
    }

    fn protect(&self) -> Protection {
        let at = self.start.as_ptr().cast();
        // SAFETY: the range is this value's own mapping, and `mlock` only keeps the pages resident.
        let locked = unsafe { mlock(at, self.mapped) }.is_ok();
        Protection { locked, ..self.advise() }
    }

    #[cfg(target_os = "linux")]
    fn advise(&self) -> Protection {
        use rustix::mm::{Advice, madvise};

        let at = self.start.as_ptr().cast();
        // SAFETY: the range is this value's own mapping, and neither changes what this process reads.
        unsafe {
            Protection {
                kept_out_of_dumps: madvise(at, self.mapped, Advice::LinuxDontDump).is_ok(),
                wiped_on_fork: madvise(at, self.mapped, Advice::LinuxWipeOnFork).is_ok(),
                ..Protection::NONE
            }
        }
    }

    /// Other systems have nothing of the kind, and none of it is claimed.
    #[cfg(not(target_os = "linux"))]
    fn advise(&self) -> Protection {
        Protection::NONE
    }

    pub(super) fn bytes(&self) -> &[u8] {
        // SAFETY: by the invariant the first `len` bytes are mapped, initialised (the kernel gives zeros)
        // and not written while `&self` lives.
        unsafe { std::slice::from_raw_parts(self.start.as_ptr(), self.len) }
    }

    pub(super) fn bytes_mut(&mut self) -> &mut [u8] {
        // SAFETY: as in `bytes`, and `&mut self` makes the access exclusive.
        unsafe { std::slice::from_raw_parts_mut(self.start.as_ptr(), self.len) }
    }
}

impl Drop for Pages {
    fn drop(&mut self) {
        self.bytes_mut().zeroize();
        // SAFETY: the mapping is this value's own and no reference into it outlives the value. A failure
        // would leave cleared pages mapped, which is harmless. Unmapping also unlocks.
        let _ = unsafe { munmap(self.start.as_ptr().cast(), self.mapped) };
    }
}
