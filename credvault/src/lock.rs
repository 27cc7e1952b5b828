//! Memory for secrets: whole pages of their own, locked into RAM, left out of core dumps, emptied in a
//! forked child, cleared before they are given back.
//!
//! Systems that are not Unix get the heap, cleared and reported as unprotected. Must never hand out a pointer.

#[cfg(unix)]
mod pages;

use zeroize::Zeroizing;

#[cfg(unix)]
use pages::Pages;

/// What the system granted for one secret's memory. Nothing here is fatal: a container with
/// `RLIMIT_MEMLOCK` 0 must still work, but the program can tell its user.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Protection {
    /// The pages cannot be swapped out (`mlock`).
    pub locked: bool,
    /// The pages are left out of core dumps (`MADV_DONTDUMP`, Linux only).
    pub kept_out_of_dumps: bool,
    /// A forked child sees zeros (`MADV_WIPEONFORK`, Linux only).
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
        if cfg!(not(unix)) {
            return Some(
                "secrets may be swapped to disk: memory is not locked on this system; encrypt the swap file",
            );
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
    #[cfg(unix)]
    Pages(Pages),
    /// The system gave no pages (out of mappings, or not Unix): the heap, cleared on drop, reported as unprotected.
    Heap(Zeroizing<Vec<u8>>),
}

impl LockedBuf {
    /// A buffer of `len` zero bytes.
    pub(crate) fn zeroed(len: usize) -> Self {
        #[cfg(unix)]
        if let Some((pages, protection)) = Pages::map(len) {
            return Self { home: Home::Pages(pages), protection };
        }
        Self { home: Home::Heap(Zeroizing::new(vec![0; len])), protection: Protection::NONE }
    }

    /// A buffer that holds a copy of `bytes`.
    pub(crate) fn copy_of(bytes: &[u8]) -> Self {
        let mut buf = Self::zeroed(bytes.len());
        buf.bytes_mut().copy_from_slice(bytes);
        buf
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        match &self.home {
            #[cfg(unix)]
            Home::Pages(pages) => pages.bytes(),
            Home::Heap(heap) => heap,
        }
    }

    pub(crate) fn bytes_mut(&mut self) -> &mut [u8] {
        match &mut self.home {
            #[cfg(unix)]
            Home::Pages(pages) => pages.bytes_mut(),
            Home::Heap(heap) => heap,
        }
    }

    pub(crate) fn protection(&self) -> Protection {
        self.protection
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
        let flags = vm_flags(pages.bytes().as_ptr() as usize).expect("mapping is listed");
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
