//! Finds out which kind of kernel an image is, and loads it.

use std::io::{self, Cursor, Read, Seek, SeekFrom};

use linux_loader::bootparam::setup_header;
use linux_loader::loader::{BzImage, Elf, Error as LoadError, KernelLoader, PvhBootCapability, bzimage};
use vm_memory::{Bytes, GuestAddress, GuestMemory as _, GuestMemoryRegion, ReadVolatile};

use super::{BootError, Entry, Image, Protocol};
use crate::arch::x86_64::layout::KERNEL_MIN;
use crate::memory::GuestMemory;

/// A bzImage's 64-bit entry point is this far behind its 32-bit one (boot.rst, "64-bit boot protocol").
const ENTRY_64_OFFSET: u64 = 0x200;
/// Boot protocol 2.12 brought `xloadflags`; bit 0 of it says that there is a 64-bit entry point.
const PROTOCOL_XLOADFLAGS: u16 = 0x020c;
const XLF_KERNEL_64: u16 = 1;
/// The ELF header: magic, 64-bit class, little-endian; machine x86_64 at offset 18.
const ELF_MAGIC: &[u8] = b"\x7fELF";
const ELF_64_LITTLE: &[u8] = b"\x7fELF\x02\x01";
const ELF_MACHINE_X86_64: &[u8] = &[62, 0];

/// A kernel in guest memory.
pub(super) struct Kernel {
    pub(super) entry: Entry,
    /// First address that the kernel leaves free, decompression included.
    pub(super) end: u64,
    /// The setup header of a bzImage.
    pub(super) header: Option<setup_header>,
}

pub(super) fn load(memory: &GuestMemory, image: &mut Image) -> Result<Kernel, BootError> {
    match image {
        Image::File(file) => load_from(memory, file),
        Image::Bytes(bytes) => load_from(memory, &mut Cursor::new(bytes.as_slice())),
    }
}

fn load_from<I: Read + Seek + ReadVolatile>(
    memory: &GuestMemory,
    image: &mut I,
) -> Result<Kernel, BootError> {
    let read = |source| BootError::Read { what: "kernel", source };
    let mut head = [0; 20];
    image.rewind().map_err(read)?;
    match image.read_exact(&mut head) {
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Err(BootError::UnknownFormat),
        result => result.map_err(read)?,
    }
    if head.starts_with(ELF_MAGIC) {
        if !head.starts_with(ELF_64_LITTLE) || !head.ends_with(ELF_MACHINE_X86_64) {
            return Err(BootError::UnknownFormat);
        }
        load_elf(memory, image)
    } else {
        load_bzimage(memory, image)
    }
}

fn load_elf<I: Read + Seek + ReadVolatile>(memory: &GuestMemory, image: &mut I) -> Result<Kernel, BootError> {
    let loaded = Elf::load(memory, None, image, Some(GuestAddress(KERNEL_MIN)))?;
    let entry = match loaded.pvh_boot_cap {
        PvhBootCapability::PvhEntryPresent(address) => Entry { address: address.0, protocol: Protocol::Pvh },
        _ => Entry { address: loaded.kernel_load.0, protocol: Protocol::Linux64 },
    };
    checked(memory, Kernel { entry, end: loaded.kernel_end, header: None })
}

fn load_bzimage<I: Read + Seek + ReadVolatile>(
    memory: &GuestMemory,
    image: &mut I,
) -> Result<Kernel, BootError> {
    let loaded = match BzImage::load(memory, None, image, Some(GuestAddress(KERNEL_MIN))) {
        Err(LoadError::Bzimage(bzimage::Error::InvalidBzImage)) => return Err(BootError::UnknownFormat),
        result => result?,
    };
    let header = loaded.setup_header.ok_or(BootError::UnknownFormat)?;
    if header.version < PROTOCOL_XLOADFLAGS || header.xloadflags & XLF_KERNEL_64 == 0 {
        return Err(BootError::NoEntry64 { protocol: header.version });
    }
    let address = loaded.kernel_load.0.saturating_add(ENTRY_64_OFFSET);
    // It decompresses itself into `init_size` bytes at its preferred address, or where it is if higher.
    let unpacked = header.pref_address.max(loaded.kernel_load.0).saturating_add(u64::from(header.init_size));
    let entry = Entry { address, protocol: Protocol::Linux64 };
    checked(memory, Kernel { entry, end: loaded.kernel_end.max(unpacked), header: Some(header) })
}

fn checked(memory: &GuestMemory, kernel: Kernel) -> Result<Kernel, BootError> {
    if kernel.entry.address < KERNEL_MIN {
        return Err(BootError::TooLow(kernel.entry.address));
    }
    let ram_end = memory.iter().next().map_or(0, GuestMemoryRegion::len);
    if kernel.end > ram_end {
        let needed_mib = kernel.end.div_ceil(1 << 20);
        return Err(BootError::MemoryTooSmall { needed_mib, have_mib: ram_end >> 20 });
    }
    Ok(kernel)
}

impl Image {
    pub(super) fn len(&mut self) -> io::Result<u64> {
        match self {
            Self::File(file) => file.seek(SeekFrom::End(0)),
            Self::Bytes(bytes) => Ok(u64::try_from(bytes.len()).unwrap_or(u64::MAX)),
        }
    }

    /// Copies the first `bytes` bytes to guest memory.
    pub(super) fn copy_to(&mut self, memory: &GuestMemory, address: u64, bytes: u64) -> io::Result<()> {
        match self {
            Self::File(file) => {
                file.rewind()?;
                copy_to(memory, address, bytes, file)
            }
            Self::Bytes(content) => copy_to(memory, address, bytes, &mut content.as_slice()),
        }
    }
}

fn copy_to<R: ReadVolatile>(memory: &GuestMemory, address: u64, bytes: u64, from: &mut R) -> io::Result<()> {
    let bytes = usize::try_from(bytes).map_err(io::Error::other)?;
    memory.read_exact_volatile_from(GuestAddress(address), from, bytes).map_err(io::Error::other)
}
