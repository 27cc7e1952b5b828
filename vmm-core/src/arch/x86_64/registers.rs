//! The state in which the first vCPU starts: 32-bit without paging for PVH, 64-bit with an identity map
//! for the Linux protocol. The other vCPUs wait for the kernel's INIT and SIPI as after a reset.

use kvm_bindings::{Msrs, kvm_msr_entry, kvm_regs, kvm_segment, kvm_sregs};
use kvm_ioctls::VcpuFd;
use vm_memory::{Bytes, GuestAddress, GuestMemoryError};

use super::layout;
use crate::boot::{Entry, Protocol};
use crate::memory::GuestMemory;

const CR0_PE: u64 = 1;
const CR0_ET: u64 = 1 << 4;
const CR0_PG: u64 = 1 << 31;
const CR4_PAE: u64 = 1 << 5;
const EFER_LME: u64 = 1 << 8;
const EFER_LMA: u64 = 1 << 10;
const RFLAGS_RESERVED: u64 = 1 << 1;

const PAGE_PRESENT_WRITABLE: u64 = 0b11;
const PAGE_2_MIB: u64 = 1 << 7;
const PAGE_BYTES: u64 = 0x1000;
/// GiB that the boot page tables map one to one.
const MAPPED_GIB: u64 = 4;

const MSR_IA32_MISC_ENABLE: u32 = 0x1a0;
const MISC_ENABLE_FAST_STRING: u64 = 1;
const MSR_MTRR_DEF_TYPE: u32 = 0x2ff;
/// MTRRs on, everything write-back: without it a kernel maps all memory uncached (firecracker #5526).
const MTRR_ENABLED_WRITE_BACK: u64 = 1 << 11 | 6;

/// Descriptor indices in the boot GDT.
const GDT_CODE: u16 = 1;
const GDT_DATA: u16 = 2;
const GDT_TSS: u16 = 3;
const GDT_BYTES: u16 = 4 * 8;

/// Model-specific registers that firmware would have set, on every vCPU.
pub(crate) fn set_boot_msrs(vcpu: &VcpuFd) -> Result<(), kvm_ioctls::Error> {
    let entry = |index, data| kvm_msr_entry { index, data, ..Default::default() };
    let wanted = [
        entry(MSR_IA32_MISC_ENABLE, MISC_ENABLE_FAST_STRING),
        entry(MSR_MTRR_DEF_TYPE, MTRR_ENABLED_WRITE_BACK),
    ];
    let msrs = Msrs::from_entries(&wanted).map_err(|_| kvm_ioctls::Error::new(libc::E2BIG))?;
    let set = vcpu.set_msrs(&msrs)?;
    // KVM stops at the first register that it does not know and says how many it set.
    if set == wanted.len() { Ok(()) } else { Err(kvm_ioctls::Error::new(libc::EINVAL)) }
}

/// Points the first vCPU at the kernel.
pub(crate) fn set_entry(vcpu: &VcpuFd, entry: Entry) -> Result<(), kvm_ioctls::Error> {
    let mut sregs = vcpu.get_sregs()?;
    let mut regs = kvm_regs { rflags: RFLAGS_RESERVED, rip: entry.address, ..Default::default() };
    match entry.protocol {
        // The PVH ABI: 32-bit protected mode, flat segments, paging off, ebx = hvm_start_info.
        Protocol::Pvh => {
            set_segments(&mut sregs, false);
            sregs.cr0 = CR0_PE | CR0_ET;
            sregs.cr4 = 0;
            sregs.efer = 0;
            regs.rbx = layout::PVH_START_INFO;
        }
        // Documentation/arch/x86/boot.rst, "64-bit boot protocol": long mode, identity map, rsi = zero page.
        Protocol::Linux64 => {
            set_segments(&mut sregs, true);
            sregs.cr3 = layout::PAGE_TABLES;
            sregs.cr4 = CR4_PAE;
            sregs.cr0 = CR0_PE | CR0_ET | CR0_PG;
            sregs.efer = EFER_LME | EFER_LMA;
            regs.rsi = layout::BOOT_PARAMS;
            regs.rsp = layout::BOOT_STACK;
            regs.rbp = layout::BOOT_STACK;
        }
    }
    vcpu.set_sregs(&sregs)?;
    vcpu.set_regs(&regs)
}

/// Writes what [`set_entry`] makes the vCPU point at.
pub(crate) fn write_tables(memory: &GuestMemory, protocol: Protocol) -> Result<(), GuestMemoryError> {
    let long = protocol == Protocol::Linux64;
    let gdt = [0, descriptor(&code(long)), descriptor(&data()), descriptor(&tss())];
    for (entry, address) in gdt.into_iter().zip((layout::GDT..).step_by(8)) {
        memory.write_obj(entry, GuestAddress(address))?;
    }
    if long { write_identity_map(memory) } else { Ok(()) }
}

fn write_identity_map(memory: &GuestMemory) -> Result<(), GuestMemoryError> {
    let directory_pointers = layout::PAGE_TABLES + PAGE_BYTES;
    let directories = directory_pointers + PAGE_BYTES;
    let write = |value: u64, address: u64| memory.write_obj(value, GuestAddress(address));
    write(directory_pointers | PAGE_PRESENT_WRITABLE, layout::PAGE_TABLES)?;
    for gib in 0..MAPPED_GIB {
        let directory = directories + gib * PAGE_BYTES;
        write(directory | PAGE_PRESENT_WRITABLE, directory_pointers + gib * 8)?;
        for page in 0..512 {
            let target = gib << 30 | page << 21;
            write(target | PAGE_PRESENT_WRITABLE | PAGE_2_MIB, directory + page * 8)?;
        }
    }
    Ok(())
}

fn set_segments(sregs: &mut kvm_sregs, long: bool) {
    sregs.gdt.base = layout::GDT;
    sregs.gdt.limit = GDT_BYTES - 1;
    // No interrupt table: an exception before the kernel has its own is a triple fault, and seen as one.
    sregs.idt.base = 0;
    sregs.idt.limit = 0;
    sregs.cs = code(long);
    sregs.tr = tss();
    for segment in [&mut sregs.ds, &mut sregs.es, &mut sregs.fs, &mut sregs.gs, &mut sregs.ss] {
        *segment = data();
    }
}

fn code(long: bool) -> kvm_segment {
    // Type 0xb: code, readable, accessed. Either L (64-bit) or D (32-bit), never both.
    kvm_segment { type_: 0xb, l: u8::from(long), db: u8::from(!long), ..flat(GDT_CODE) }
}

fn data() -> kvm_segment {
    // Type 0x3: data, writable, accessed.
    kvm_segment { type_: 0x3, db: 1, ..flat(GDT_DATA) }
}

fn tss() -> kvm_segment {
    // Type 0xb of a system segment: busy TSS. VM entry requires one; nothing ever uses it.
    kvm_segment { type_: 0xb, s: 0, g: 0, limit: 0x67, ..flat(GDT_TSS) }
}

fn flat(index: u16) -> kvm_segment {
    kvm_segment { selector: index << 3, limit: u32::MAX, s: 1, present: 1, g: 1, ..Default::default() }
}

/// The segment as its eight bytes in the GDT (Intel SDM vol. 3, 3.4.5).
fn descriptor(segment: &kvm_segment) -> u64 {
    let limit = u64::from(if segment.g == 1 { segment.limit >> 12 } else { segment.limit });
    let field = |value: u8, shift: u32| u64::from(value) << shift;
    (limit & 0xffff)
        | (limit >> 16 & 0xf) << 48
        | (segment.base & 0xff_ffff) << 16
        | (segment.base >> 24 & 0xff) << 56
        | field(segment.type_, 40)
        | field(segment.s, 44)
        | field(segment.dpl, 45)
        | field(segment.present, 47)
        | field(segment.l, 53)
        | field(segment.db, 54)
        | field(segment.g, 55)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn descriptors_match_the_known_flat_segments() {
        assert_eq!(descriptor(&code(true)), 0x00af_9b00_0000_ffff);
        assert_eq!(descriptor(&code(false)), 0x00cf_9b00_0000_ffff);
        assert_eq!(descriptor(&data()), 0x00cf_9300_0000_ffff);
        assert_eq!(descriptor(&tss()), 0x0000_8b00_0000_0067);
    }

    #[test]
    fn the_identity_map_covers_4_gib() {
        let memory = crate::memory::map_ram(32).unwrap();
        write_tables(&memory, Protocol::Linux64).unwrap();
        let read = |address| -> u64 { memory.read_obj(GuestAddress(address)).unwrap() };
        assert_eq!(read(layout::PAGE_TABLES), (layout::PAGE_TABLES + PAGE_BYTES) | 3);
        let last = layout::PAGE_TABLES + 2 * PAGE_BYTES + 3 * PAGE_BYTES + 511 * 8;
        assert_eq!(read(last), 0xffe0_0000 | 0x83);
        assert_eq!(read(last + 8), 0);
    }
}
