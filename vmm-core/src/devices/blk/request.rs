//! One request (virtio 1.2 §5.2.6): header, data, status byte.

use std::fs::File;
use std::io::{Read, Write};
use std::os::unix::fs::FileExt;

use virtio_bindings::virtio_blk::{
    VIRTIO_BLK_S_IOERR, VIRTIO_BLK_S_OK, VIRTIO_BLK_S_UNSUPP, VIRTIO_BLK_T_FLUSH, VIRTIO_BLK_T_GET_ID,
    VIRTIO_BLK_T_IN, VIRTIO_BLK_T_OUT,
};
use virtio_queue::{Reader, Writer};

use super::{BlkConfig, REQUEST_BYTES_MAX, SECTOR_BYTES, SERIAL_BYTES_MAX};

/// Bytes moved between file and guest at once.
const CHUNK_BYTES: usize = 64 * 1024;

/// Why a request failed, as its status byte.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Refusal {
    Io,
    Unsupported,
}

/// A file as a disk.
#[derive(Debug)]
pub(super) struct Disk {
    image: File,
    sectors: u64,
    config: BlkConfig,
    chunk: Vec<u8>,
}

impl Disk {
    pub(super) fn new(image: File, sectors: u64, config: BlkConfig) -> Self {
        Self { image, sectors, config, chunk: vec![0; CHUNK_BYTES] }
    }

    pub(super) fn sectors(&self) -> u64 {
        self.sectors
    }

    pub(super) fn is_read_only(&self) -> bool {
        self.config.read_only
    }

    /// Serves one request and returns the bytes written to the guest, the status byte included.
    pub(super) fn serve(&mut self, reader: &mut Reader<'_>, writer: &mut Writer<'_>) -> u32 {
        // The last writable byte is the status, wherever the descriptors are cut. Without one there is
        // nobody to answer.
        let data_bytes = writer.available_bytes().checked_sub(1);
        let Some(Ok(mut status)) = data_bytes.map(|bytes| writer.split_at(bytes)) else { return 0 };
        let code = match self.execute(reader, writer) {
            Ok(()) => VIRTIO_BLK_S_OK,
            Err(Refusal::Io) => VIRTIO_BLK_S_IOERR,
            Err(Refusal::Unsupported) => VIRTIO_BLK_S_UNSUPP,
        };
        let told = status.write_all(&[u8::try_from(code).unwrap_or(u8::MAX)]).is_ok();
        let written = writer.bytes_written().saturating_add(usize::from(told));
        u32::try_from(written).unwrap_or(u32::MAX)
    }

    fn execute(&mut self, reader: &mut Reader<'_>, writer: &mut Writer<'_>) -> Result<(), Refusal> {
        let mut header = [0; 16];
        reader.read_exact(&mut header).map_err(|_| Refusal::Io)?;
        let [t0, t1, t2, t3, _, _, _, _, sector @ ..] = header;
        let sector = u64::from_le_bytes(sector);
        match u32::from_le_bytes([t0, t1, t2, t3]) {
            VIRTIO_BLK_T_IN => {
                let bytes = writer.available_bytes();
                self.read(self.range(sector, bytes)?, bytes, writer)
            }
            VIRTIO_BLK_T_OUT if self.config.read_only => Err(Refusal::Io),
            VIRTIO_BLK_T_OUT => {
                let bytes = reader.available_bytes();
                self.write(self.range(sector, bytes)?, bytes, reader)
            }
            VIRTIO_BLK_T_FLUSH if self.config.read_only => Ok(()),
            VIRTIO_BLK_T_FLUSH => self.image.sync_data().map_err(|_| Refusal::Io),
            VIRTIO_BLK_T_GET_ID => self.serial(writer),
            _ => Err(Refusal::Unsupported),
        }
    }

    /// Where in the file a transfer starts, if all of it lies on the disk.
    fn range(&self, sector: u64, bytes: usize) -> Result<u64, Refusal> {
        let bytes = u64::try_from(bytes).map_err(|_| Refusal::Io)?;
        let whole = bytes % SECTOR_BYTES == 0 && bytes <= REQUEST_BYTES_MAX;
        let end = sector.checked_add(bytes / SECTOR_BYTES).filter(|end| *end <= self.sectors);
        let start = sector.checked_mul(SECTOR_BYTES);
        start.filter(|_| whole && end.is_some()).ok_or(Refusal::Io)
    }

    fn read(&mut self, mut at: u64, mut left: usize, to: &mut Writer<'_>) -> Result<(), Refusal> {
        while left > 0 {
            let part = self.chunk.get_mut(..left.min(CHUNK_BYTES)).ok_or(Refusal::Io)?;
            // A file that was cut short since the start is an error here, not zeroes.
            self.image.read_exact_at(part, at).map_err(|_| Refusal::Io)?;
            to.write_all(part).map_err(|_| Refusal::Io)?;
            left -= part.len();
            at = at.saturating_add(u64::try_from(part.len()).unwrap_or_default());
        }
        Ok(())
    }

    fn write(&mut self, mut at: u64, mut left: usize, from: &mut Reader<'_>) -> Result<(), Refusal> {
        while left > 0 {
            let part = self.chunk.get_mut(..left.min(CHUNK_BYTES)).ok_or(Refusal::Io)?;
            from.read_exact(part).map_err(|_| Refusal::Io)?;
            self.image.write_all_at(part, at).map_err(|_| Refusal::Io)?;
            left -= part.len();
            at = at.saturating_add(u64::try_from(part.len()).unwrap_or_default());
        }
        Ok(())
    }

    /// The serial number, padded with zeroes.
    fn serial(&self, to: &mut Writer<'_>) -> Result<(), Refusal> {
        let mut padded = [0; SERIAL_BYTES_MAX];
        for (to, from) in padded.iter_mut().zip(self.config.serial.bytes()) {
            *to = from;
        }
        let room = to.available_bytes().min(SERIAL_BYTES_MAX);
        to.write_all(padded.get(..room).unwrap_or_default()).map_err(|_| Refusal::Io)
    }
}
