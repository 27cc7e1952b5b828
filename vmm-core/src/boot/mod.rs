//! Puts a Linux kernel, its initramfs and its command line into guest memory, and describes the machine.
//!
//! It must never: trust a number of the image further than the checks here and in `linux-loader` go, or
//! write outside guest memory.
//!
//! ```text
//! image ─► kernel.rs ── ELF with PVH note ──► Entry { Pvh }      ─► pvh.rs        (hvm_start_info)
//!                    ── ELF without, bzImage ► Entry { Linux64 } ─► zero_page.rs  (boot_params)
//! devices, vCPUs ─► acpi.rs ─► RSDP ──────────────────────────────► in both
//! ```

use std::fs::File;

use vm_memory::{Bytes, GuestAddress, GuestMemoryError};

use crate::arch::x86_64::layout;
use crate::limits::COMMAND_LINE_BYTES_MAX;
use crate::memory::{self, GuestMemory};

pub(crate) mod acpi;
mod kernel;
mod pvh;
mod zero_page;

/// A kernel or an initramfs: an open file or bytes.
#[derive(Debug)]
#[non_exhaustive]
pub enum Image {
    /// Read from the start, whatever the file's position.
    File(File),
    /// Already in memory.
    Bytes(Vec<u8>),
}

impl From<File> for Image {
    fn from(file: File) -> Self {
        Self::File(file)
    }
}

impl From<Vec<u8>> for Image {
    fn from(bytes: Vec<u8>) -> Self {
        Self::Bytes(bytes)
    }
}

/// Why a kernel cannot be started.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BootError {
    /// The image is neither of the two formats.
    #[error("the kernel is neither an x86_64 ELF (vmlinux) nor a bzImage (vmlinuz); is it another file?")]
    UnknownFormat,
    /// A bzImage without a 64-bit entry point.
    #[error(
        "the bzImage has no 64-bit entry point (boot protocol {protocol:#06x}); use a 64-bit kernel \
             of Linux 3.8 or later"
    )]
    NoEntry64 {
        /// Version of the boot protocol, 0x020c being 2.12.
        protocol: u16,
    },
    /// `linux-loader` refused the image.
    #[error("the kernel image is damaged or does not fit into guest memory: {0}")]
    Load(#[from] linux_loader::loader::Error),
    /// The kernel says it wants to be in a place that it may not have.
    #[error("the kernel asks for the address {0:#x}, below the first MiB; it is not a kernel for this VMM")]
    TooLow(u64),
    /// Reading the initramfs or the kernel failed.
    #[error("cannot read the {what}: {source}")]
    Read {
        /// "kernel" or "initramfs".
        what: &'static str,
        /// What the kernel of the host said.
        source: std::io::Error,
    },
    /// Everything together is larger than the guest's memory below the hole.
    #[error(
        "kernel and initramfs need {needed_mib} MiB of guest memory, there are {have_mib} MiB; \
             give the guest more memory"
    )]
    MemoryTooSmall {
        /// What they need, rounded up.
        needed_mib: u64,
        /// RAM below the device hole.
        have_mib: u64,
    },
    /// The command line is too long or holds a byte that cannot be in one.
    #[error("the kernel command line must be at most {COMMAND_LINE_BYTES_MAX} printable ASCII bytes")]
    CommandLine,
    /// A table did not fit where it belongs.
    #[error("the ACPI tables need {0} bytes, more than there is room for; use fewer devices")]
    Tables(usize),
    /// Writing to guest memory failed.
    #[error("cannot write the boot data to guest memory: {0}")]
    Memory(#[from] GuestMemoryError),
}

/// How a kernel is entered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Protocol {
    /// Xen's PVH ABI: 32-bit, `hvm_start_info`. The quickest way into a vmlinux.
    Pvh,
    /// Linux's 64-bit boot protocol: zero page, page tables.
    Linux64,
}

/// Where the first vCPU begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) address: u64,
    pub(crate) protocol: Protocol,
}

/// What is to be booted.
pub(crate) struct Boot {
    pub(crate) kernel: Image,
    pub(crate) initramfs: Option<Image>,
    pub(crate) command_line: String,
    pub(crate) memory_mib: u32,
}

/// The initramfs in guest memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Initramfs {
    address: u64,
    bytes: u64,
}

impl Boot {
    /// Loads everything; `tables` are the ACPI tables, already made for [`layout::ACPI_TABLES`].
    pub(crate) fn load(mut self, memory: &GuestMemory, tables: &[u8]) -> Result<Entry, BootError> {
        let room = layout::ACPI_TABLES.end - layout::ACPI_TABLES.start;
        if u64::try_from(tables.len()).is_ok_and(|bytes| bytes > room) {
            return Err(BootError::Tables(tables.len()));
        }
        let kernel = kernel::load(memory, &mut self.kernel)?;
        // After the kernel: an ELF with segments in low memory cannot replace what is written here.
        memory.write_slice(tables, GuestAddress(layout::ACPI_TABLES.start))?;
        write_command_line(memory, &self.command_line)?;
        let initramfs = match self.initramfs.as_mut() {
            Some(image) => Some(load_initramfs(memory, image, self.memory_mib, kernel.end)?),
            None => None,
        };
        match kernel.entry.protocol {
            Protocol::Pvh => pvh::write(memory, self.memory_mib, initramfs)?,
            Protocol::Linux64 => {
                let command_line_bytes = self.command_line.len();
                zero_page::write(memory, self.memory_mib, &kernel, initramfs, command_line_bytes)?;
            }
        }
        crate::arch::x86_64::registers::write_tables(memory, kernel.entry.protocol)?;
        Ok(kernel.entry)
    }
}

fn write_command_line(memory: &GuestMemory, text: &str) -> Result<(), BootError> {
    let printable = text.bytes().all(|byte| byte == b' ' || byte.is_ascii_graphic());
    if text.len() > COMMAND_LINE_BYTES_MAX || !printable {
        return Err(BootError::CommandLine);
    }
    memory.write_slice(text.as_bytes(), GuestAddress(layout::COMMAND_LINE))?;
    // Fresh memory is zero, but an ELF segment may have been here.
    let end = layout::COMMAND_LINE.saturating_add(u64::try_from(text.len()).unwrap_or(0));
    memory.write_obj(0_u8, GuestAddress(end))?;
    Ok(())
}

/// Puts the initramfs at the end of low RAM, page-aligned, where no kernel decompresses itself to.
fn load_initramfs(
    memory: &GuestMemory,
    image: &mut Image,
    memory_mib: u32,
    kernel_end: u64,
) -> Result<Initramfs, BootError> {
    let read = |source| BootError::Read { what: "initramfs", source };
    let bytes = image.len().map_err(read)?;
    let ram_end = memory::low_ram_end(memory_mib);
    let address = ram_end.saturating_sub(bytes) & !0xfff;
    if address < kernel_end {
        return Err(BootError::MemoryTooSmall {
            needed_mib: kernel_end.saturating_add(bytes).div_ceil(1 << 20),
            have_mib: ram_end >> 20,
        });
    }
    image.copy_to(memory, address, bytes).map_err(read)?;
    Ok(Initramfs { address, bytes })
}

/// The guest's memory map as both protocols tell it: (start, bytes, e820 type).
fn memory_map(memory_mib: u32) -> Vec<(u64, u64, u32)> {
    const RAM: u32 = 1;
    const ACPI: u32 = 3;
    let low_end = memory::low_ram_end(memory_mib);
    let tables = &layout::ACPI_TABLES;
    let mut map = vec![
        (0, layout::BASE_RAM_END, RAM),
        (tables.start, tables.end - tables.start, ACPI),
        (layout::KERNEL_MIN, low_end.saturating_sub(layout::KERNEL_MIN), RAM),
    ];
    map.extend(
        memory::ram_ranges(memory_mib).into_iter().skip(1).map(|(start, bytes)| (start.0, bytes, RAM)),
    );
    map
}

#[cfg(test)]
mod tests;
