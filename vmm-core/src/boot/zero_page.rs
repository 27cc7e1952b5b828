//! Boot data of Linux's own protocol: `boot_params`, the "zero page" (Documentation/arch/x86/zero-page.rst).

use linux_loader::bootparam::{boot_e820_entry, boot_params, setup_header};
use vm_memory::{Bytes, GuestAddress};

use super::kernel::Kernel;
use super::{BootError, Initramfs, memory_map};
use crate::arch::x86_64::layout;
use crate::memory::GuestMemory;

const BOOT_FLAG: u16 = 0xaa55;
/// "HdrS".
const HEADER_MAGIC: u32 = 0x5372_6448;
/// Boot loader of no registered type.
const LOADER_UNDEFINED: u8 = 0xff;
const KERNEL_ALIGNMENT: u32 = 0x20_0000;

pub(super) fn write(
    memory: &GuestMemory,
    memory_mib: u32,
    kernel: &Kernel,
    initramfs: Option<Initramfs>,
    command_line_bytes: usize,
) -> Result<(), BootError> {
    // An ELF has no header of its own: this is the least that a kernel looks at.
    let made_up = || setup_header {
        boot_flag: BOOT_FLAG,
        header: HEADER_MAGIC,
        kernel_alignment: KERNEL_ALIGNMENT,
        ..Default::default()
    };
    let mut params = boot_params { hdr: kernel.header.unwrap_or_else(made_up), ..Default::default() };
    params.hdr.type_of_loader = LOADER_UNDEFINED;
    params.hdr.cmd_line_ptr = u32::try_from(layout::COMMAND_LINE).unwrap_or_default();
    params.hdr.cmdline_size = u32::try_from(command_line_bytes).unwrap_or_default();
    params.acpi_rsdp_addr = layout::ACPI_TABLES.start;
    if let Some(Initramfs { address, bytes }) = initramfs {
        // It lies below the hole, so both fit into 32 bits.
        params.hdr.ramdisk_image = u32::try_from(address).unwrap_or_default();
        params.hdr.ramdisk_size = u32::try_from(bytes).unwrap_or_default();
    }
    for (entry, (addr, size, type_)) in params.e820_table.iter_mut().zip(memory_map(memory_mib)) {
        *entry = boot_e820_entry { addr, size, type_ };
        params.e820_entries = params.e820_entries.saturating_add(1);
    }
    memory.write_obj(params, GuestAddress(layout::BOOT_PARAMS))?;
    Ok(())
}
