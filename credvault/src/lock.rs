//! Memory for secrets: whole pages of their own, locked into RAM, left out of core dumps, emptied in a
//! forked child, cleared before they are given back.
//!
//! The only `unsafe` of this crate. Pages are not shared with anything else, since `munlock` works on
//! whole pages: two secrets on one page would unlock each other. Must never hand out a pointer.

use std::ptr::{self, NonNull};

use rustix::mm::{Advice, MapFlags, ProtFlags, madvise, mlock, mmap_anonymous, munmap};
use zeroize::{Zeroize, Zeroizing};

/// What the system granted for one secret's memory. Nothing here is fatal: a container with
/// `RLIMIT_MEMLOCK` 0 must still work, but the program can tell its user.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Protection {
    /// The pages cannot be swapped out (`mlock`).
    pub locked: bool,
    /// The pages are left out of core dumps (`MADV_DONTDUMP`).
    pub kept_out_of_dumps: bool,
    /// A forked child sees zeros (`MADV_WIPEONFORK`).
    pub wiped_on_fork: bool,
}

impl Protection {
    const NONE: Self = Self { locked: false, kept_out_of_dumps: false, wiped_on_fork: false };
    pub(crate) const FULL: Self = Self { locked: true, kept_out_of_dumps: true, wiped_on_fork: true };

    /// What holds for both.
    pub(crate) fn and(self, other: Self) -> Self {
        Self {
            locked: self.locked && other.locked,
            kept_out_of_dumps: self.kept_out_of_dumps && other.kept_out_of_dumps,
            wiped_on_fork: self.wiped_on_fork && other.wiped_on_fork,
        }
    }

    /// Whether all of it was granted.
    #[must_use]
    pub fn is_full(self) -> bool {
        self.locked && self.kept_out_of_dumps && self.wiped_on_fork
    }

    /// What to do when memory could not be locked; `None` when all is well.
    #[must_use]
    pub fn remedy(self) -> Option<&'static str> {
        if self.locked {
            return None;
        }
        Some(
            "secrets may be swapped to disk: raise the limit on locked memory (`ulimit -l`, or `LimitMEMLOCK=` of a systemd unit)",
        )
    }
}

/// A buffer of fixed length in protected memory.
pub(crate) struct LockedBuf {
    home: Home,
    protection: Protection,
}

enum Home {
    Pages(Pages),
    /// The system gave no pages (out of mappings): the heap, cleared on drop, reported as unprotected.
    Heap(Zeroizing<Vec<u8>>),
}

impl LockedBuf {
    /// A buffer of `len` zero bytes.
    pub(crate) fn zeroed(len: usize) -> Self {
        match Pages::map(len) {
            Some((pages, protection)) => Self { home: Home::Pages(pages), protection },
            None => Self { home: Home::Heap(Zeroizing::new(vec![0; len])), protection: Protection::NONE },
        }
    }

    /// A buffer that holds a copy of `bytes`.
    pub(crate) fn copy_of(bytes: &[u8]) -> Self {
        let mut buf = Self::zeroed(bytes.len());
        buf.bytes_mut().copy_from_slice(bytes);
        buf
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        match &self.home {
            Home::Pages(pages) => pages.bytes(),
            Home::Heap(heap) => heap,
        }
    }

    pub(crate) fn bytes_mut(&mut self) -> &mut [u8] {
        match &mut self.home {
            Home::Pages(pages) => pages.bytes_mut(),
            Home::Heap(heap) => heap,
        }
    }

    pub(crate) fn protection(&self) -> Protection {
        self.protection
    }
}

/// A private anonymous mapping. Invariant: `start` is the beginning of a live mapping of `mapped` bytes,
/// readable and writable, owned by this value alone, and `len <= mapped`.
struct Pages {
    start: NonNull<u8>,
    len: usize,
    mapped: usize,
}

// SAFETY: the mapping is owned by this value alone and is plain memory without thread affinity.
unsafe impl Send for Pages {}
// SAFETY: `&Pages` only gives `&[u8]`, writing takes `&mut Pages`.
unsafe impl Sync for Pages {}

impl Pages {
    fn map(len: usize) -> Option<(Self, Protection)> {
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
        // SAFETY: the range is this value's own mapping. DONTDUMP and WIPEONFORK do not change what this
        // process reads, and `mlock` only keeps the pages resident.
        unsafe {
            Protection {
                kept_out_of_dumps: madvise(at, self.mapped, Advice::LinuxDontDump).is_ok(),
                wiped_on_fork: madvise(at, self.mapped, Advice::LinuxWipeOnFork).is_ok(),
                locked: mlock(at, self.mapped).is_ok(),
            }
        }
    }

    fn bytes(&self) -> &[u8] {
        // SAFETY: by the invariant the first `len` bytes are mapped, initialised (the kernel gives zeros)
        // and not written while `&self` lives.
        unsafe { std::slice::from_raw_parts(self.start.as_ptr(), self.len) }
    }

    fn bytes_mut(&mut self) -> &mut [u8] {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keeps_its_bytes_for_odd_lengths() {
        for len in [0, 1, 4095, 4096, 4097] {
            let bytes = vec![7; len];
            assert_eq!(LockedBuf::copy_of(&bytes).bytes(), &bytes[..], "{len}");
        }
    }

    #[test]
    fn the_kernel_confirms_what_is_reported() {
        let buf = LockedBuf::copy_of(b"in its own mapping");
        let Home::Pages(pages) = &buf.home else { panic!("no pages") };
        let flags = vm_flags(pages.start.as_ptr() as usize).expect("mapping is listed");
        let protection = buf.protection();
        assert_eq!(flags.contains(&"lo".to_string()), protection.locked, "{flags:?}");
        assert_eq!(flags.contains(&"dd".to_string()), protection.kept_out_of_dumps, "{flags:?}");
        assert_eq!(flags.contains(&"wf".to_string()), protection.wiped_on_fork, "{flags:?}");
        assert!(protection.kept_out_of_dumps);
    }

    /// `VmFlags` of the mapping that begins at `start` (proc_pid_smaps(5)).
    fn vm_flags(start: usize) -> Option<Vec<String>> {
        let smaps = std::fs::read_to_string("/proc/self/smaps").ok()?;
        let mut lines = smaps.lines().skip_while(|line| !line.starts_with(&format!("{start:x}-")));
        let flags = lines.find_map(|line| line.strip_prefix("VmFlags:"))?;
        Some(flags.split_whitespace().map(str::to_owned).collect())
    }

    #[test]
    fn missing_lock_has_a_remedy_and_full_protection_has_none() {
        assert!(Protection::NONE.remedy().is_some_and(|text| text.contains("ulimit -l")));
        assert!(Protection::FULL.is_full() && Protection::FULL.remedy().is_none());
        assert_eq!(Protection::FULL.and(Protection::NONE), Protection::NONE);
    }
}
