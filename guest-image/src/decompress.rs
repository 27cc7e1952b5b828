//! Bounded decompression of what distributions ship kernels and modules in: gzip, xz, zstd, legacy LZ4.
//! Input is not trusted: no output beyond the limit is ever allocated, damage is an error.

use std::io::Read;

use crate::limits;

/// Container formats, told apart by their magic numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// RFC 1952.
    Gzip,
    /// The .xz file format 1.2.
    Xz,
    /// RFC 8878.
    Zstd,
    /// `lz4 -l`, the format the kernel's build uses.
    Lz4Legacy,
}

/// Bytes of one uncompressed block of legacy LZ4.
const LZ4_BLOCK_BYTES: usize = 8 << 20;

/// The format that `bytes` begin with, if any is known.
pub fn sniff(bytes: &[u8]) -> Option<Format> {
    const MAGICS: [(&[u8], Format); 4] = [
        (&[0x1f, 0x8b], Format::Gzip),
        (&[0xfd, b'7', b'z', b'X', b'Z', 0], Format::Xz),
        (&[0x28, 0xb5, 0x2f, 0xfd], Format::Zstd),
        (&[0x02, 0x21, 0x4c, 0x18], Format::Lz4Legacy),
    ];
    MAGICS.iter().find(|(magic, _)| bytes.starts_with(magic)).map(|(_, format)| *format)
}

/// Decompresses the first stream in `bytes`; `None` when it is damaged or larger than `bytes_max`.
pub fn decompress(format: Format, bytes: &[u8], bytes_max: usize) -> Option<Vec<u8>> {
    match format {
        Format::Gzip => read_bounded(flate2::bufread::GzDecoder::new(bytes), bytes_max),
        Format::Xz => read_bounded(
            lzma_rust2::XzReader::new_mem_limit(bytes, false, limits::XZ_MEMORY_KIB_MAX),
            bytes_max,
        ),
        Format::Zstd => {
            use ruzstd::decoding::StreamingDecoder;
            let window = limits::ZSTD_WINDOW_BYTES_MAX;
            read_bounded(StreamingDecoder::new_with_max_window_size(bytes, window).ok()?, bytes_max)
        }
        Format::Lz4Legacy => lz4_legacy(bytes, bytes_max),
    }
}

fn read_bounded(stream: impl Read, bytes_max: usize) -> Option<Vec<u8>> {
    let mut out = Vec::new();
    let take = u64::try_from(bytes_max).ok()?.checked_add(1)?;
    stream.take(take).read_to_end(&mut out).ok()?;
    (out.len() <= bytes_max).then_some(out)
}

/// Magic, then blocks of a 32-bit length and an LZ4 block, until the input ends. A length that cannot be a
/// block's ends the stream: the kernel's build appends four bytes of size there.
fn lz4_legacy(bytes: &[u8], bytes_max: usize) -> Option<Vec<u8>> {
    let mut rest = bytes.get(4..)?;
    let mut out = Vec::new();
    let mut block = vec![0; LZ4_BLOCK_BYTES.min(bytes_max)];
    while let Some((length, tail)) = rest.split_first_chunk::<4>() {
        let length = usize::try_from(u32::from_le_bytes(*length)).ok()?;
        if length > tail.len() {
            return tail.is_empty().then_some(out);
        }
        let (packed, tail) = tail.split_at_checked(length)?;
        let written = lz4_flex::block::decompress_into(packed, &mut block).ok()?;
        if out.len().checked_add(written)? > bytes_max {
            return None;
        }
        out.extend_from_slice(block.get(..written)?);
        rest = tail;
    }
    rest.is_empty().then_some(out)
}
