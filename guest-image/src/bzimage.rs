//! From a bzImage to the vmlinux inside it, so that the guest need not decompress itself at every boot.
//! Source of the layout: Linux `Documentation/arch/x86/boot.rst`.

use crate::decompress;
use crate::error::KernelDefect;
use crate::limits;

const SETUP_SECTS: usize = 0x1f1;
const HEADER_MAGIC: usize = 0x202;
const VERSION: usize = 0x206;
const KERNEL_VERSION: usize = 0x20e;
const PAYLOAD_OFFSET: usize = 0x248;
const PAYLOAD_LENGTH: usize = 0x24c;
const SECTOR_BYTES: usize = 512;

/// What a kernel file turned out to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A 64-bit ELF file, bootable as it is.
    Elf,
    /// A Linux bzImage.
    BzImage,
}

/// Tells the two formats apart by their first bytes (at least 0x206 of them for a bzImage).
pub fn kind(head: &[u8]) -> Option<Kind> {
    if is_elf64(head) {
        Some(Kind::Elf)
    } else if head.get(HEADER_MAGIC..)?.starts_with(b"HdrS") {
        Some(Kind::BzImage)
    } else {
        None
    }
}

/// The release in a bzImage's header, such as `6.12.117+deb12-cloud-amd64`.
pub fn release(image: &[u8]) -> Option<String> {
    let at = usize::from(u16_at(image, KERNEL_VERSION)?).checked_add(0x200)?;
    let text = image.get(at..)?;
    let end = text.iter().take(limits::NAME_BYTES_MAX).position(|b| matches!(b, b' ' | 0))?;
    let name = text.get(..end)?;
    let plain = |b: &u8| b.is_ascii_alphanumeric() || b"+-._~".contains(b);
    if name.is_empty() || name.starts_with(b".") || !name.iter().all(plain) {
        return None;
    }
    String::from_utf8(name.to_vec()).ok()
}

/// Unpacks the kernel in a bzImage. The result is an ELF file, with the relocation table (if any) after it.
pub fn vmlinux(image: &[u8]) -> Result<Vec<u8>, KernelDefect> {
    if kind(image) != Some(Kind::BzImage) {
        return Err(KernelDefect::UnknownFormat);
    }
    let payload = payload(image)?;
    let format = decompress::sniff(payload).ok_or(KernelDefect::UnknownCompression)?;
    let elf =
        decompress::decompress(format, payload, limits::VMLINUX_BYTES_MAX).ok_or(KernelDefect::BadPayload)?;
    // The build appends the unpacked size; gzip has it as its own last field.
    let size = payload.last_chunk::<4>().map(|b| u32::from_le_bytes(*b)).ok_or(KernelDefect::Truncated)?;
    if u32::try_from(elf.len()) != Ok(size) {
        return Err(KernelDefect::BadPayload);
    }
    if is_elf64(&elf) { Ok(elf) } else { Err(KernelDefect::NotElf) }
}

fn payload(image: &[u8]) -> Result<&[u8], KernelDefect> {
    use KernelDefect::{OldProtocol, Truncated};
    if u16_at(image, VERSION).ok_or(Truncated)? < 0x0208 {
        return Err(OldProtocol);
    }
    let sectors = match image.get(SETUP_SECTS).ok_or(Truncated)? {
        0 => 4,
        n => usize::from(*n),
    };
    let offset = u32_at(image, PAYLOAD_OFFSET).ok_or(Truncated)?;
    let length = u32_at(image, PAYLOAD_LENGTH).ok_or(Truncated)?;
    let start = sectors.checked_add(1).and_then(|n| n.checked_mul(SECTOR_BYTES)?.checked_add(offset));
    start.and_then(|s| image.get(s..s.checked_add(length)?)).ok_or(Truncated)
}

/// `\x7fELF`, 64-bit, little-endian.
fn is_elf64(bytes: &[u8]) -> bool {
    bytes.starts_with(b"\x7fELF\x02\x01")
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    bytes.get(at..)?.first_chunk().map(|b| u16::from_le_bytes(*b))
}

fn u32_at(bytes: &[u8], at: usize) -> Option<usize> {
    let value = bytes.get(at..)?.first_chunk().map(|b| u32::from_le_bytes(*b))?;
    usize::try_from(value).ok()
}

#[cfg(test)]
pub(crate) mod tests;
