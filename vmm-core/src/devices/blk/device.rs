//! The device: features, configuration space, one queue of requests.

use std::fs::File;
use std::io::{self, Seek, SeekFrom};
use std::os::fd::{AsRawFd, BorrowedFd};

use virtio_bindings::virtio_blk::{
    VIRTIO_BLK_F_FLUSH, VIRTIO_BLK_F_RO, VIRTIO_BLK_F_SEG_MAX, VIRTIO_BLK_F_SIZE_MAX,
};
use virtio_bindings::virtio_config::VIRTIO_F_VERSION_1;
use virtio_bindings::virtio_ids::VIRTIO_ID_BLOCK;
use virtio_bindings::virtio_ring::{VIRTIO_RING_F_EVENT_IDX, VIRTIO_RING_F_INDIRECT_DESC};
use vmm_sys_util::eventfd::{EFD_CLOEXEC, EFD_NONBLOCK, EventFd};

use super::request::Disk;
use super::{SECTOR_BYTES, SEGMENT_BYTES_MAX, SEGMENTS_MAX, SERIAL_BYTES_MAX};
use crate::devices::turn::{self, Left};
use crate::devices::{Device, Vring};
use crate::memory::GuestMemory;

const QUEUE_SIZES: [u16; 1] = [256];

/// How a block device behaves.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BlkConfig {
    /// Refuse every write.
    pub read_only: bool,
    /// Serial number, as in `/dev/disk/by-id/virtio-…`; at most [`SERIAL_BYTES_MAX`] ASCII bytes.
    pub serial: String,
}

/// The block device.
#[derive(Debug)]
pub struct Blk {
    disk: Disk,
    /// Readable while a turn ended before its queue did.
    again: EventFd,
}

impl Blk {
    /// Makes a disk of `image`, whose content is taken as it is ("raw"). A length that is no multiple of
    /// [`SECTOR_BYTES`] is rounded down. The file must be open for reading, and for writing too unless
    /// `config` says read-only.
    ///
    /// # Errors
    /// [`io::ErrorKind::InvalidInput`] for a serial number that is too long or not printable ASCII, else
    /// those of `lseek(2)` and `eventfd(2)`.
    pub fn new(mut image: File, config: BlkConfig) -> io::Result<Self> {
        let printable = config.serial.bytes().all(|byte| byte.is_ascii_graphic());
        if config.serial.len() > SERIAL_BYTES_MAX || !printable {
            let text = format!("a disk's serial number has at most {SERIAL_BYTES_MAX} printable ASCII bytes");
            return Err(io::Error::new(io::ErrorKind::InvalidInput, text));
        }
        let sectors = image.seek(SeekFrom::End(0))? / SECTOR_BYTES;
        let disk = Disk::new(image, sectors, config);
        Ok(Self { disk, again: EventFd::new(EFD_CLOEXEC | EFD_NONBLOCK)? })
    }

    fn turn(&mut self, memory: &GuestMemory, vrings: &mut [Vring<'_>]) {
        let [vring] = vrings else { return };
        let disk = &mut self.disk;
        if turn::serve(memory, vring, |reader, writer| disk.serve(reader, writer)) == Left::More {
            let _ = self.again.write(1);
        }
    }
}

impl Device for Blk {
    fn id(&self) -> u32 {
        VIRTIO_ID_BLOCK
    }

    fn queue_sizes(&self) -> &[u16] {
        &QUEUE_SIZES
    }

    fn features(&self) -> u64 {
        1 << VIRTIO_F_VERSION_1
            | 1 << VIRTIO_RING_F_EVENT_IDX
            | 1 << VIRTIO_RING_F_INDIRECT_DESC
            | 1 << VIRTIO_BLK_F_FLUSH
            | 1 << VIRTIO_BLK_F_SIZE_MAX
            | 1 << VIRTIO_BLK_F_SEG_MAX
            | u64::from(self.disk.is_read_only()) << VIRTIO_BLK_F_RO
    }

    fn acknowledge(&mut self, _features: u64) {}

    fn read_config(&self, offset: u32, data: &mut [u8]) {
        // struct virtio_blk_config: capacity, size_max, seg_max; the rest belongs to features not offered.
        let mut config = [0; 16];
        let fields = self.disk.sectors().to_le_bytes().into_iter();
        let fields = fields.chain(SEGMENT_BYTES_MAX.to_le_bytes()).chain(SEGMENTS_MAX.to_le_bytes());
        for (to, from) in config.iter_mut().zip(fields) {
            *to = from;
        }
        turn::read_config(&config, offset, data);
    }

    fn queue_event(&mut self, _index: usize, memory: &GuestMemory, vrings: &mut [Vring<'_>]) {
        self.turn(memory, vrings);
    }

    fn host_fd(&self) -> Option<BorrowedFd<'_>> {
        // SAFETY: the eventfd lives as long as `self`, and so as long as the borrow.
        Some(unsafe { BorrowedFd::borrow_raw(self.again.as_raw_fd()) })
    }

    fn host_event(&mut self, memory: &GuestMemory, vrings: &mut [Vring<'_>]) {
        let _ = self.again.read();
        self.turn(memory, vrings);
    }

    fn reset(&mut self) {
        let _ = self.again.read();
    }
}
