//! Every size and count that this crate accepts from the program that embeds it, in one place.
//!
//! Limits of one device stand with that device (`devices/*/limits.rs`); limits on what the *guest* may do
//! are there too.

/// Smallest guest memory: a Linux kernel, its decompressor and a small initramfs need about this much.
pub const MEMORY_MIB_MIN: u32 = 32;
/// Largest guest memory: 512 GiB, which keeps every address far below any host's physical address width.
pub const MEMORY_MIB_MAX: u32 = 512 * 1024;
/// Most vCPUs of one guest.
pub const CPUS_MAX: u8 = 32;
/// Most virtio devices of one guest: the interrupt lines 5 to 23 of the one I/O APIC, one each.
pub const DEVICES_MAX: usize = 19;
/// Longest kernel command line without its final zero byte (Linux on x86: `COMMAND_LINE_SIZE` 2048).
pub const COMMAND_LINE_BYTES_MAX: usize = 2047;

const _: () = assert!(MEMORY_MIB_MIN < MEMORY_MIB_MAX);
const _: () = assert!(DEVICES_MAX == interrupt_lines());

const fn interrupt_lines() -> usize {
    // Lines 0 to 4 belong to the legacy devices (timer, keyboard, cascade, COM2, COM1).
    24 - 5
}
