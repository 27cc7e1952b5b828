//! Which device answers at an address: one type for port I/O and for memory-mapped I/O.
//!
//! It must never: let two regions overlap, or hand a region an access that reaches beyond its end.

use std::ops::Range;
use std::sync::Arc;

/// Something that answers reads and writes at offsets from its own start. Called from any vCPU thread.
pub(crate) trait Region: Send + Sync {
    /// Fills `data`; what the device does not define is left as it comes in, all ones.
    fn read(&self, offset: u64, data: &mut [u8]);
    /// Takes `data`.
    fn write(&self, offset: u64, data: &[u8]);
}

/// Two regions wanted the same address.
#[derive(Debug, thiserror::Error)]
#[error("two devices claim the addresses {0:#x?}; this is a bug in the machine's layout")]
pub struct Overlap(Range<u64>);

/// An address space of regions.
#[derive(Default)]
pub(crate) struct Bus {
    regions: Vec<(Range<u64>, Arc<dyn Region>)>,
}

impl Bus {
    /// Puts `region` at `range`.
    pub(crate) fn add(&mut self, range: Range<u64>, region: Arc<dyn Region>) -> Result<(), Overlap> {
        let overlaps = |taken: &Range<u64>| taken.start < range.end && range.start < taken.end;
        if range.is_empty() || self.regions.iter().any(|(taken, _)| overlaps(taken)) {
            return Err(Overlap(range));
        }
        let at = self.regions.partition_point(|(taken, _)| taken.start < range.start);
        self.regions.insert(at, (range, region));
        Ok(())
    }

    /// Reads; an address without a device reads as all ones, as on real buses.
    pub(crate) fn read(&self, address: u64, data: &mut [u8]) {
        data.fill(0xff);
        if let Some((region, offset)) = self.find(address, data.len()) {
            region.read(offset, data);
        }
    }

    /// Writes; an address without a device swallows the bytes.
    pub(crate) fn write(&self, address: u64, data: &[u8]) {
        if let Some((region, offset)) = self.find(address, data.len()) {
            region.write(offset, data);
        }
    }

    fn find(&self, address: u64, bytes: usize) -> Option<(&dyn Region, u64)> {
        let end = address.checked_add(u64::try_from(bytes).ok()?)?;
        let at = self.regions.partition_point(|(range, _)| range.end <= address);
        let (range, region) = self.regions.get(at)?;
        let offset = address.checked_sub(range.start)?;
        (end <= range.end).then_some((region.as_ref(), offset))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;

    #[derive(Default)]
    struct Echo(Mutex<Vec<(u64, Vec<u8>)>>);

    impl Region for Echo {
        fn read(&self, offset: u64, data: &mut [u8]) {
            data.fill(u8::try_from(offset).unwrap());
        }
        fn write(&self, offset: u64, data: &[u8]) {
            self.0.lock().unwrap().push((offset, data.to_vec()));
        }
    }

    #[test]
    fn an_access_reaches_the_region_that_contains_all_of_it() {
        let (low, high) = (Arc::new(Echo::default()), Arc::new(Echo::default()));
        let mut bus = Bus::default();
        bus.add(0x20..0x28, Arc::<Echo>::clone(&high)).unwrap();
        bus.add(0x10..0x18, Arc::<Echo>::clone(&low)).unwrap();
        bus.write(0x11, &[7]);
        bus.write(0x27, &[1, 2]); // across the end
        bus.write(0x1f, &[1, 2]); // across the start
        bus.write(u64::MAX, &[1]);
        assert_eq!(*low.0.lock().unwrap(), [(1, vec![7])]);
        assert!(high.0.lock().unwrap().is_empty());
        let mut data = [0; 2];
        bus.read(0x26, &mut data);
        assert_eq!(data, [6, 6]);
        bus.read(0x18, &mut data);
        assert_eq!(data, [0xff, 0xff]);
    }

    #[test]
    fn overlapping_and_empty_regions_are_refused() {
        let mut bus = Bus::default();
        bus.add(0x10..0x18, Arc::new(Echo::default())).unwrap();
        for range in [0x10..0x18, 0x17..0x20, 0x0..0x11, 0x12..0x13, 0x30..0x30] {
            assert!(bus.add(range, Arc::new(Echo::default())).is_err());
        }
        bus.add(0x18..0x19, Arc::new(Echo::default())).unwrap();
    }
}
