//! The probe guest: its memory and the state of its one vCPU.

use kvm_bindings::{kvm_regs, kvm_segment, kvm_sregs};

/// Guest memory, from guest address 0.
pub(super) const MEMORY_BYTES: usize = 0x8000;

const PML4: usize = 0x1000;
const PDPT: usize = 0x2000;
const PD: usize = 0x3000;
const GDT: usize = 0x4000;
const RING_0: usize = 0x5000;
const RING_3: usize = 0x5100;
const SYSCALL: usize = 0x5200;
const STACK_0: u64 = 0x7000;

/// Port and values of the guest's reports, one for each system call.
pub(super) const REPORT_PORT: u16 = 0x600;
pub(super) const REPORTS: [u32; 2] = [0x5afe, 0x5aff];

/// Drops to ring 3 the way a kernel does.
const RING_0_CODE: &[u8] = &[
    0x6a, 0x1b, // push 0x1b        user data segment
    0x68, 0x00, 0x80, 0x00, 0x00, // push 0x8000      user stack
    0x6a, 0x02, // push 2           flags, interrupts off
    0x6a, 0x23, // push 0x23        user code segment
    0x68, 0x00, 0x51, 0x00, 0x00, // push RING_3
    0x48, 0xcf, // iretq
];

/// Counts from the first report on, through an SSE register, with a system call for each number.
const RING_3_CODE: &[u8] = &[
    0xbf, 0xfe, 0x5a, 0x00, 0x00, // mov edi, 0x5afe
    0x66, 0x0f, 0x6e, 0xc7, // again: movd xmm0, edi
    0x66, 0x0f, 0x7e, 0xc6, // movd esi, xmm0
    0x0f, 0x05, // syscall
    0xff, 0xc7, // inc edi
    0xeb, 0xf2, // jmp again
];

/// The kernel's side: tells the host and returns.
const SYSCALL_CODE: &[u8] = &[
    0x89, 0xf0, // mov eax, esi
    0x66, 0xba, 0x00, 0x06, // mov dx, REPORT_PORT
    0xef, // out dx, eax
    0x48, 0x0f, 0x07, // sysretq
];

/// User-accessible, writable, present.
const PAGE_USER: u64 = 0b111;
const PAGE_2_MIB: u64 = 1 << 7;

const SELECTOR_CODE: u16 = 0x08;
const SELECTOR_DATA: u16 = 0x10;
const SELECTOR_TSS: u16 = 0x28;
const GDT_LIMIT: u16 = 0x37;
/// Flat segments; the last two words are a busy 64-bit TSS at 0, limit 0x67, which is never used.
const GDT_ENTRIES: [u64; 7] = [
    0,
    0x00af_9b00_0000_ffff, // 0x08 kernel code
    0x00cf_9300_0000_ffff, // 0x10 kernel data
    0x00cf_f300_0000_ffff, // 0x18 user data
    0x00af_fb00_0000_ffff, // 0x20 user code
    0x0000_8b00_0000_0067, // 0x28 task state
    0,
];

/// `STAR`: SYSCALL takes its segments from 0x08 on, SYSRET from 0x10 on. `LSTAR`: where SYSCALL goes.
/// `SFMASK`: flags that SYSCALL clears, all of them.
pub(super) const MSRS: [(u32, u64); 3] =
    [(0xc000_0081, 0x0010_0008 << 32), (0xc000_0082, SYSCALL as u64), (0xc000_0084, 0xffff_fffd)];

const CR0_PE_MP_ET_NE_WP_PG: u64 = 1 | 1 << 1 | 1 << 4 | 1 << 5 | 1 << 16 | 1 << 31;
const CR4_PAE_OSFXSR_OSXMMEXCPT: u64 = 1 << 5 | 1 << 9 | 1 << 10;
const EFER_SCE_LME_LMA: u64 = 1 | 1 << 8 | 1 << 10;

/// Writes tables and code.
pub(super) fn fill(memory: &mut [u8]) {
    put(memory, PML4, &(PDPT as u64 | PAGE_USER).to_le_bytes());
    put(memory, PDPT, &(PD as u64 | PAGE_USER).to_le_bytes());
    put(memory, PD, &(PAGE_2_MIB | PAGE_USER).to_le_bytes());
    for (entry, at) in GDT_ENTRIES.iter().zip((GDT..).step_by(8)) {
        put(memory, at, &entry.to_le_bytes());
    }
    put(memory, RING_0, RING_0_CODE);
    put(memory, RING_3, RING_3_CODE);
    put(memory, SYSCALL, SYSCALL_CODE);
}

fn put(memory: &mut [u8], at: usize, bytes: &[u8]) {
    for (to, from) in memory.iter_mut().skip(at).zip(bytes) {
        *to = *from;
    }
}

/// 64-bit mode, ring 0, paging on, the way Linux runs.
pub(super) fn set_special_registers(sregs: &mut kvm_sregs) {
    let flat = |selector, type_, l, db| kvm_segment {
        base: 0,
        limit: u32::MAX,
        selector,
        type_,
        present: 1,
        s: 1,
        l,
        db,
        g: 1,
        ..Default::default()
    };
    sregs.cs = flat(SELECTOR_CODE, 0xb, 1, 0);
    let data = flat(SELECTOR_DATA, 0x3, 0, 1);
    (sregs.ds, sregs.es, sregs.fs, sregs.gs, sregs.ss) = (data, data, data, data, data);
    sregs.tr = kvm_segment { limit: 0x67, s: 0, g: 0, ..flat(SELECTOR_TSS, 0xb, 0, 0) };
    sregs.gdt.base = GDT as u64;
    sregs.gdt.limit = GDT_LIMIT;
    // No interrupt table: every exception is a triple fault, and reported as one.
    sregs.idt.base = 0;
    sregs.idt.limit = 0;
    sregs.cr3 = PML4 as u64;
    sregs.cr0 = CR0_PE_MP_ET_NE_WP_PG;
    sregs.cr4 = CR4_PAE_OSFXSR_OSXMMEXCPT;
    sregs.efer = EFER_SCE_LME_LMA;
}

/// At the first instruction of ring 0.
pub(super) fn registers() -> kvm_regs {
    kvm_regs { rip: RING_0 as u64, rsp: STACK_0, rflags: 2, ..Default::default() }
}
