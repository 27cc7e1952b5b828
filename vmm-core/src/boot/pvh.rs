//! Boot data of the PVH protocol (Xen, `xen/include/public/arch-x86/hvm/start_info.h`).

use linux_loader::loader::elf::start_info::{hvm_memmap_table_entry, hvm_modlist_entry, hvm_start_info};
use vm_memory::{Bytes, GuestAddress, GuestMemoryError};

use super::{Initramfs, memory_map};
use crate::arch::x86_64::layout;
use crate::memory::GuestMemory;

const MAGIC: u32 = 0x336e_c578;
/// Version 1 brought the memory map.
const VERSION: u32 = 1;

pub(super) fn write(
    memory: &GuestMemory,
    memory_mib: u32,
    initramfs: Option<Initramfs>,
) -> Result<(), GuestMemoryError> {
    let mut info = hvm_start_info {
        magic: MAGIC,
        version: VERSION,
        cmdline_paddr: layout::COMMAND_LINE,
        rsdp_paddr: layout::ACPI_TABLES.start,
        memmap_paddr: layout::PVH_MEMORY_MAP,
        ..Default::default()
    };
    if let Some(Initramfs { address, bytes }) = initramfs {
        let module = hvm_modlist_entry { paddr: address, size: bytes, ..Default::default() };
        memory.write_obj(module, GuestAddress(layout::PVH_MODULES))?;
        info.nr_modules = 1;
        info.modlist_paddr = layout::PVH_MODULES;
    }
    let mut address = GuestAddress(layout::PVH_MEMORY_MAP);
    for (addr, size, type_) in memory_map(memory_mib) {
        memory.write_obj(hvm_memmap_table_entry { addr, size, type_, reserved: 0 }, address)?;
        address.0 = address.0.saturating_add(24);
        info.memmap_entries = info.memmap_entries.saturating_add(1);
    }
    memory.write_obj(info, GuestAddress(layout::PVH_START_INFO))
}
