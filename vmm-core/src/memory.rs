//! Guest memory: one alias, so that the whole crate agrees on the backend and the dirty bitmap, and the
//! layout of RAM around the hole below 4 GiB that belongs to devices.

use vm_memory::{Address, GuestAddress};

/// Guest memory as every device sees it (mmap-backed, no dirty tracking).
pub type GuestMemory = vm_memory::GuestMemoryMmap<()>;

/// Where RAM below 4 GiB ends at the latest: the last GiB holds virtio-mmio, the I/O APIC, the local
/// APICs and what the vendors' processors expect there.
pub const LOW_RAM_END: u64 = 0xc000_0000;
/// Where the rest of RAM goes on.
pub const HIGH_RAM_START: u64 = 0x1_0000_0000;

/// The address ranges of `mib` MiB of RAM: (start, bytes), ascending.
pub fn ram_ranges(mib: u32) -> Vec<(GuestAddress, u64)> {
    let bytes = u64::from(mib) << 20;
    let low = bytes.min(LOW_RAM_END);
    let high = bytes.saturating_sub(low);
    let mut ranges = vec![(GuestAddress(0), low)];
    if high > 0 {
        ranges.push((GuestAddress(HIGH_RAM_START), high));
    }
    ranges
}

/// Maps `mib` MiB of zeroed RAM. Pages are taken from the host only as the guest touches them.
#[cfg(any(test, feature = "kvm"))]
pub(crate) fn map_ram(mib: u32) -> Result<GuestMemory, vm_memory::mmap::FromRangesError> {
    let ranges: Vec<(GuestAddress, usize)> = ram_ranges(mib)
        .into_iter()
        .map(|(start, bytes)| (start, usize::try_from(bytes).unwrap_or(usize::MAX)))
        .collect();
    GuestMemory::from_ranges(&ranges)
}

/// The end of the RAM that starts at 0.
pub fn low_ram_end(mib: u32) -> u64 {
    ram_ranges(mib).first().map_or(0, |(start, bytes)| start.raw_value().saturating_add(*bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ram_leaves_the_last_gib_below_4_gib_to_devices() {
        assert_eq!(ram_ranges(128), [(GuestAddress(0), 128 << 20)]);
        assert_eq!(ram_ranges(3072), [(GuestAddress(0), LOW_RAM_END)]);
        assert_eq!(
            ram_ranges(3073),
            [(GuestAddress(0), LOW_RAM_END), (GuestAddress(HIGH_RAM_START), 1 << 20)]
        );
    }
}
