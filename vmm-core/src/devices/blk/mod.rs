//! A block device (virtio 1.2 §5.2) on a raw image file or a host block device.
//!
//! It must never: write to a disk that is read-only (whatever the guest negotiates), touch a byte beyond
//! the capacity that was measured at the start, or guess an image format (CVE-2026-27211).
//!
//! ```no_run
//! # fn main() -> std::io::Result<()> {
//! use vmm_core::devices::blk::{Blk, BlkConfig};
//!
//! let image = std::fs::File::open("root.ext4")?;
//! let disk = Blk::new(image, BlkConfig { read_only: true, ..BlkConfig::default() })?;
//! # let _ = disk;
//! # Ok(()) }
//! ```

mod device;
mod request;

pub use device::{Blk, BlkConfig};

/// Bytes of a sector, the unit of the protocol whatever the disk's own is.
pub const SECTOR_BYTES: u64 = 512;
/// Longest serial number (§5.2.6.1).
pub const SERIAL_BYTES_MAX: usize = 20;
/// Descriptors of data in one request.
pub const SEGMENTS_MAX: u32 = 254;
/// Bytes in one descriptor.
pub const SEGMENT_BYTES_MAX: u32 = 256 * 1024;
/// Bytes of data in one request; the guest is told by the two limits above.
pub const REQUEST_BYTES_MAX: u64 = 254 * 256 * 1024;

const _: () = assert!(REQUEST_BYTES_MAX == SEGMENTS_MAX as u64 * SEGMENT_BYTES_MAX as u64);

#[cfg(test)]
mod tests;
