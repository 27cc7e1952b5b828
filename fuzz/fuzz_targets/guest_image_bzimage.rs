//! Kernel files: what comes out is an ELF file of the size that the image says, and never more than was asked for.

#![no_main]

use guest_image::bzimage::{Kind, kind, release, vmlinux};
use guest_image::decompress::{decompress, sniff};
use libfuzzer_sys::fuzz_target;

const SMALL_BYTES_MAX: usize = 1 << 16;
const LARGE_BYTES_MAX: usize = 1 << 20;

fuzz_target!(|bytes: &[u8]| {
    if let Some(name) = release(bytes) {
        assert!(!name.is_empty() && !name.starts_with('.') && !name.contains(['/', '\0', ' ']));
    }
    if let Ok(elf) = vmlinux(bytes) {
        assert_eq!(kind(bytes), Some(Kind::BzImage));
        assert_eq!(kind(&elf), Some(Kind::Elf));
        let size = u32::try_from(elf.len()).unwrap().to_le_bytes();
        assert!(bytes.windows(4).any(|window| window == size), "a size that the image does not name");
    }
    if let Some(format) = sniff(bytes) {
        let small = decompress(format, bytes, SMALL_BYTES_MAX);
        let large = decompress(format, bytes, LARGE_BYTES_MAX);
        assert!(small.as_ref().is_none_or(|data| data.len() <= SMALL_BYTES_MAX));
        assert!(large.as_ref().is_none_or(|data| data.len() <= LARGE_BYTES_MAX));
        match (small, large) {
            (Some(small), large) => assert_eq!(Some(small), large, "the limit changes the result"),
            (None, Some(large)) => assert!(large.len() > SMALL_BYTES_MAX, "refused below the limit"),
            (None, None) => {}
        }
    }
});
