use std::io::Write;

use flate2::write::GzEncoder;
use proptest::prelude::*;

use super::*;

const ELF: &[u8] = b"\x7fELF\x02\x01 the rest of a kernel";

/// A bzImage of protocol 2.15 with one setup sector.
fn image(payload: &[u8]) -> Vec<u8> {
    let mut bytes = vec![0; 1024];
    bytes[SETUP_SECTS] = 1;
    bytes[HEADER_MAGIC..][..4].copy_from_slice(b"HdrS");
    bytes[VERSION..][..2].copy_from_slice(&0x020f_u16.to_le_bytes());
    bytes[KERNEL_VERSION..][..2].copy_from_slice(&0x100_u16.to_le_bytes());
    bytes[0x300..][..21].copy_from_slice(b"6.12.117+deb12 (x) #1");
    bytes[PAYLOAD_OFFSET..][..4].copy_from_slice(&16u32.to_le_bytes());
    bytes[PAYLOAD_LENGTH..][..4].copy_from_slice(&u32::try_from(payload.len()).unwrap().to_le_bytes());
    bytes.extend_from_slice(&[0; 16]);
    bytes.extend_from_slice(payload);
    bytes
}

fn gzip(data: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(data).unwrap();
    encoder.finish().unwrap()
}

/// As the kernel's build makes it: magic, one block, size appended.
fn lz4(data: &[u8]) -> Vec<u8> {
    let block = lz4_flex::block::compress(data);
    let mut out = vec![0x02, 0x21, 0x4c, 0x18];
    out.extend_from_slice(&u32::try_from(block.len()).unwrap().to_le_bytes());
    out.extend_from_slice(&block);
    out.extend_from_slice(&u32::try_from(data.len()).unwrap().to_le_bytes());
    out
}

/// A zstd frame of one raw block (RFC 8878 §3.1.1), size appended.
fn zstd(data: &[u8]) -> Vec<u8> {
    let mut out = vec![0x28, 0xb5, 0x2f, 0xfd, 0x20, u8::try_from(data.len()).unwrap()];
    let header = u32::try_from(data.len()).unwrap() << 3 | 1;
    out.extend_from_slice(&header.to_le_bytes()[..3]);
    out.extend_from_slice(data);
    out.extend_from_slice(&u32::try_from(data.len()).unwrap().to_le_bytes());
    out
}

/// A whole bzImage around `elf`, for tests of other modules.
pub(crate) fn stored(elf: &[u8]) -> Vec<u8> {
    image(&gzip(elf))
}

#[test]
fn every_compression_gives_the_kernel_back() {
    for payload in [gzip(ELF), lz4(ELF), zstd(ELF)] {
        assert_eq!(vmlinux(&image(&payload)).as_deref(), Ok(ELF), "{:02x?}", &payload[..4]);
    }
}

/// What `xz --check=crc32 --x86 --lzma2=dict=1MiB` makes of [`packed_elf`]: the kernel's build uses that filter.
const XZ: &[u8] = &[
    0xfd, 0x37, 0x7a, 0x58, 0x5a, 0x00, 0x00, 0x01, 0x69, 0x22, 0xde, 0x36, 0x02, 0x01, 0x04, 0x00, 0x21,
    0x01, 0x10, 0x00, 0x8b, 0x21, 0x6f, 0x49, 0xe0, 0x01, 0xe5, 0x00, 0x1b, 0x5d, 0x00, 0x3f, 0x91, 0x45,
    0x84, 0x68, 0x3d, 0x87, 0x30, 0xb9, 0x08, 0xdb, 0x8f, 0x9c, 0xc3, 0xc4, 0x9f, 0x4d, 0x0f, 0x03, 0x82,
    0x59, 0x10, 0x91, 0xd4, 0xe4, 0xf0, 0x00, 0x00, 0x00, 0xd5, 0x8e, 0xd2, 0xfc, 0x00, 0x01, 0x33, 0xe6,
    0x03, 0x00, 0x00, 0x00, 0x4f, 0x3c, 0x9a, 0xf4, 0x3e, 0x30, 0x0d, 0x8b, 0x02, 0x00, 0x00, 0x00, 0x00,
    0x01, 0x59, 0x5a,
];

/// What `zstd --ultra -19` makes of [`packed_elf`].
const ZSTD: &[u8] = &[
    0x28, 0xb5, 0x2f, 0xfd, 0x64, 0xe6, 0x00, 0xcd, 0x00, 0x00, 0x90, 0x7f, 0x45, 0x4c, 0x46, 0x02, 0x01,
    0x6b, 0x65, 0x72, 0x6e, 0x65, 0x6c, 0x20, 0x74, 0x65, 0x78, 0x74, 0x20, 0x01, 0x00, 0xa2, 0xaf, 0x96,
    0x30, 0x9a, 0x28, 0xa4, 0xc6,
];

fn packed_elf() -> Vec<u8> {
    [&b"\x7fELF\x02\x01"[..], &b"kernel text ".repeat(40)].concat()
}

#[test]
fn what_other_programs_pack_is_unpacked() {
    for sample in [XZ, ZSTD] {
        let payload = [sample, &u32::try_from(packed_elf().len()).unwrap().to_le_bytes()].concat();
        assert_eq!(vmlinux(&image(&payload)), Ok(packed_elf()), "{:02x?}", &sample[..4]);
    }
}

#[test]
fn release_is_the_first_word_and_only_a_plain_one() {
    assert_eq!(release(&image(b"")).as_deref(), Some("6.12.117+deb12"));
    let mut evil = image(b"");
    evil[0x300..0x304].copy_from_slice(b"../x");
    assert_eq!(release(&evil), None);
    assert_eq!(release(b""), None);
}

#[test]
fn kinds_are_told_apart() {
    assert_eq!(kind(ELF), Some(Kind::Elf));
    assert_eq!(kind(&image(b"")), Some(Kind::BzImage));
    assert_eq!(kind(b"\x7fELF\x01\x01 32 bit"), None);
    assert_eq!(kind(b"MZ"), None);
}

#[test]
fn defects_have_names() {
    let good = image(&gzip(ELF));
    let changed = |at: usize, bytes: &[u8]| {
        let mut copy = good.clone();
        copy[at..at + bytes.len()].copy_from_slice(bytes);
        vmlinux(&copy).unwrap_err()
    };
    assert_eq!(changed(HEADER_MAGIC, b"HdrX"), KernelDefect::UnknownFormat);
    assert_eq!(changed(VERSION, &[0x07, 0x02]), KernelDefect::OldProtocol);
    assert_eq!(changed(PAYLOAD_OFFSET, &[0xff; 4]), KernelDefect::Truncated);
    assert_eq!(changed(PAYLOAD_LENGTH, &[0xff; 4]), KernelDefect::Truncated);
    assert_eq!(changed(1024 + 16, b"??"), KernelDefect::UnknownCompression);
    assert_eq!(changed(1024 + 16 + 12, &[0xff; 8]), KernelDefect::BadPayload);
    assert_eq!(vmlinux(&good[..good.len() - 1]), Err(KernelDefect::Truncated));
    assert_eq!(vmlinux(&image(&gzip(b"no kernel"))), Err(KernelDefect::NotElf));
    let mut wrong_size = lz4(ELF);
    *wrong_size.last_mut().unwrap() = 9;
    assert_eq!(vmlinux(&image(&wrong_size)), Err(KernelDefect::BadPayload));
}

#[test]
fn output_is_bounded_whatever_the_input_claims() {
    let bomb = gzip(&vec![0; 4 << 20]);
    assert!(decompress::decompress(decompress::Format::Gzip, &bomb, 1 << 20).is_none());
    assert!(decompress::decompress(decompress::Format::Gzip, &bomb, 4 << 20).is_some());
    let bomb = lz4(&vec![0; 4 << 20]);
    assert!(decompress::decompress(decompress::Format::Lz4Legacy, &bomb, 1 << 20).is_none());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]
    #[test]
    fn any_payload_never_panics(
        which in 0usize..5,
        at in 4usize..100,
        damage in proptest::collection::vec(any::<u8>(), 0..16),
        tail in proptest::collection::vec(any::<u8>(), 0..64),
    ) {
        let mut payload = [gzip(ELF), lz4(ELF), zstd(ELF), XZ.to_vec(), ZSTD.to_vec()][which].clone();
        payload.extend_from_slice(&tail);
        for (target, byte) in payload.iter_mut().skip(at).zip(&damage) {
            *target = *byte;
        }
        let _ = vmlinux(&image(&payload));
    }

    #[test]
    fn any_header_never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..1200)) {
        let mut bytes = bytes;
        if let Some(magic) = bytes.get_mut(HEADER_MAGIC..HEADER_MAGIC + 4) {
            magic.copy_from_slice(b"HdrS");
        }
        let _ = vmlinux(&bytes);
        let _ = release(&bytes);
    }
}
