//! Where things are in the guest's physical memory and port space.
//!
//! ```text
//! 0x0000_0500  GDT
//! 0x0000_6000  hvm_start_info, module list     (PVH)
//! 0x0000_6800  memory map                      (PVH)
//! 0x0000_7000  boot_params, the "zero page"    (64-bit Linux protocol)
//! 0x0000_8ff0  boot stack, growing down
//! 0x0000_9000  page tables: identity map of the first 4 GiB
//! 0x0002_0000  kernel command line
//! 0x0009_fc00  end of low RAM as the memory map tells it
//! 0x000e_0000  ACPI tables, RSDP first
//! 0x0010_0000  kernel (where its image says; never below)
//!    …         initramfs, at the end of the RAM below the hole
//! 0xc000_0000  hole: 0xd000_0000 virtio-mmio, 0xfec0_0000 I/O APIC, 0xfee0_0000 local APIC
//! 0x1_0000_0000  the rest of RAM
//! ```

use std::ops::Range;

pub(crate) const GDT: u64 = 0x500;
pub(crate) const PVH_START_INFO: u64 = 0x6000;
pub(crate) const PVH_MODULES: u64 = 0x6100;
pub(crate) const PVH_MEMORY_MAP: u64 = 0x6800;
pub(crate) const BOOT_PARAMS: u64 = 0x7000;
pub(crate) const BOOT_STACK: u64 = 0x8ff0;
pub(crate) const PAGE_TABLES: u64 = 0x9000;
pub(crate) const COMMAND_LINE: u64 = 0x2_0000;
/// The conventional end of base memory (the extended BIOS data area would begin here).
pub(crate) const BASE_RAM_END: u64 = 0x9_fc00;
/// The BIOS area, where a kernel that is told nothing looks for the RSDP.
pub(crate) const ACPI_TABLES: Range<u64> = 0xe_0000..0x10_0000;
/// Lowest address at which a kernel may be loaded.
pub(crate) const KERNEL_MIN: u64 = 0x10_0000;

/// Registers of virtio device `n` start at `MMIO_START + n * MMIO_BYTES`.
pub(crate) const MMIO_START: u64 = 0xd000_0000;
pub(crate) const MMIO_BYTES: u64 = 0x1000;
pub(crate) const IO_APIC: u32 = 0xfec0_0000;
pub(crate) const LOCAL_APIC: u32 = 0xfee0_0000;
/// Three pages and one page that KVM wants for itself on Intel processors.
pub(crate) const KVM_TSS: usize = 0xfffb_d000;
pub(crate) const KVM_IDENTITY_MAP: u64 = 0xfffb_c000;

/// Interrupt line of virtio device `n` is `GSI_START + n`.
pub(crate) const GSI_START: u32 = 5;
pub(crate) const GSI_SERIAL: u32 = 4;

pub(crate) const PORTS_SERIAL: Range<u64> = 0x3f8..0x400;
pub(crate) const PORTS_CMOS: Range<u64> = 0x70..0x72;
pub(crate) const PORTS_I8042: Range<u64> = 0x60..0x65;
/// ACPI sleep control and sleep status register, in this order.
pub(crate) const PORTS_ACPI: Range<u64> = 0x600..0x602;
