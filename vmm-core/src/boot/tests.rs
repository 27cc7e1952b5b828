use super::*;
use crate::arch::x86_64::layout::{COMMAND_LINE, KERNEL_MIN};

/// The smallest ELF that loads: one segment of code at 1 MiB.
fn elf(machine: u8) -> Vec<u8> {
    let mut image = Vec::new();
    image.extend(b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0");
    image.extend([2, 0, machine, 0, 1, 0, 0, 0]);
    image.extend(KERNEL_MIN.to_le_bytes()); // entry
    image.extend(64_u64.to_le_bytes()); // program headers
    image.extend(0_u64.to_le_bytes());
    image.extend([0, 0, 0, 0, 64, 0, 56, 0, 1, 0, 0, 0, 0, 0, 0, 0]);
    image.extend([1, 0, 0, 0, 5, 0, 0, 0]); // PT_LOAD, R E
    for field in [120, KERNEL_MIN, KERNEL_MIN, 1, 1, 0x1000] {
        image.extend(field.to_le_bytes());
    }
    image.push(0xf4); // hlt
    image
}

fn boot(kernel: Vec<u8>, initramfs: Option<Vec<u8>>, command_line: &str) -> Result<Entry, BootError> {
    let memory = memory::map_ram(32).unwrap();
    let boot = Boot {
        kernel: kernel.into(),
        initramfs: initramfs.map(Image::from),
        command_line: command_line.to_owned(),
        memory_mib: 32,
    };
    boot.load(&memory, b"tables")
}

#[test]
fn an_elf_without_a_pvh_note_is_entered_in_64_bit_mode() {
    let entry = boot(elf(62), None, "quiet").unwrap();
    assert_eq!(entry, Entry { address: KERNEL_MIN, protocol: Protocol::Linux64 });
}

#[test]
fn what_is_no_kernel_is_refused_by_name() {
    let arm = boot(elf(183), None, "");
    for result in [
        boot(vec![], None, ""),
        boot(vec![0; 4096], None, ""),
        boot(b"#!/bin/sh\n".repeat(200), None, ""),
        arm,
    ] {
        assert!(matches!(result, Err(BootError::UnknownFormat)), "{result:?}");
    }
}

#[test]
fn a_truncated_elf_is_an_error() {
    let image = elf(62);
    for bytes in [21, 63, 64, 100, 120] {
        assert!(boot(image[..bytes].to_vec(), None, "").is_err(), "{bytes}");
    }
}

#[test]
fn a_segment_outside_memory_is_an_error() {
    let mut image = elf(62);
    image[88..96].copy_from_slice(&(u64::MAX - 1).to_le_bytes());
    assert!(matches!(boot(image, None, ""), Err(BootError::Load(_))));
}

#[test]
fn the_command_line_is_limited_and_printable() {
    let most = "x".repeat(COMMAND_LINE_BYTES_MAX);
    assert!(boot(elf(62), None, &most).is_ok());
    for bad in [format!("{most}x"), "a\0b".into(), "a\nb".into(), "ä".into()] {
        assert!(matches!(boot(elf(62), None, &bad), Err(BootError::CommandLine)));
    }
}

#[test]
fn the_initramfs_lies_at_the_end_of_memory() {
    let memory = memory::map_ram(32).unwrap();
    let mut image = Image::Bytes(vec![7; 5000]);
    let placed = load_initramfs(&memory, &mut image, 32, KERNEL_MIN).unwrap();
    assert_eq!(placed, Initramfs { address: (32 << 20) - 0x2000, bytes: 5000 });
    let last: u8 = memory.read_obj(GuestAddress(placed.address + 4999)).unwrap();
    assert_eq!(last, 7);
    let too_much = boot(elf(62), Some(vec![0; 32 << 20]), "");
    assert!(
        matches!(too_much, Err(BootError::MemoryTooSmall { needed_mib: 34, have_mib: 32 })),
        "{too_much:?}"
    );
}

#[test]
fn the_memory_map_hides_the_bios_area_and_the_hole() {
    let map = memory_map(4096);
    assert_eq!(map.first(), Some(&(0, layout::BASE_RAM_END, 1)));
    assert_eq!(map.last(), Some(&(memory::HIGH_RAM_START, 1 << 30, 1)));
    assert!(map.windows(2).all(|pair| pair[0].0 + pair[0].1 <= pair[1].0));
    const { assert!(COMMAND_LINE > layout::PAGE_TABLES + 6 * 0x1000) };
}
