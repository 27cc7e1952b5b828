//! Archives: a second reader finds exactly what was put in, and no name that leads elsewhere.

#![no_main]

use fuzz::Input;
use guest_image::cpio::Archive;
use libfuzzer_sys::fuzz_target;

#[derive(Debug, PartialEq, Eq)]
struct Entry {
    name: String,
    mode: u32,
    data: Vec<u8>,
    device: (u32, u32),
}

fuzz_target!(|bytes: &[u8]| {
    let mut input = Input(bytes);
    let mut archive = Archive::new();
    let mut expected = Vec::new();
    while !input.is_empty() {
        let (kind, mode) = (input.below(3), u32::from(input.u16()));
        let name = String::from_utf8_lossy(input.piece()).into_owned();
        let (data, device) = (input.piece(), (input.u32(), input.u32()));
        let (added, format, data, device) = match kind {
            0 => (archive.directory(&name, mode), 0o040_000, &[][..], (0, 0)),
            1 => (archive.file(&name, mode, data), 0o100_000, data, (0, 0)),
            _ => (archive.character_device(&name, mode, device.0, device.1), 0o020_000, &[][..], device),
        };
        let climbs = name.split('/').any(|part| matches!(part, "" | "." | ".."));
        let good = !climbs && !name.contains('\0') && name.len() <= 255 && name != "TRAILER!!!";
        assert_eq!(added.is_ok(), good, "{name:?}");
        if good {
            expected.push(Entry { name, mode: format | mode & 0o7777, data: data.to_vec(), device });
        }
    }
    assert_eq!(read(&archive.finish().unwrap()), expected);
});

/// Reads an archive as Linux's `init/initramfs.c` does.
fn read(mut bytes: &[u8]) -> Vec<Entry> {
    let mut entries = Vec::new();
    loop {
        assert_eq!(&bytes[..6], b"070701");
        let field = |index: usize| {
            let digits = std::str::from_utf8(&bytes[6 + 8 * index..][..8]).unwrap();
            u32::from_str_radix(digits, 16).unwrap()
        };
        let (mode, device) = (field(1), (field(9), field(10)));
        let (data_bytes, name_bytes) =
            (usize::try_from(field(6)).unwrap(), usize::try_from(field(11)).unwrap());
        let name = &bytes[110..][..name_bytes];
        assert_eq!(name.last(), Some(&0));
        let name = String::from_utf8(name[..name_bytes - 1].to_vec()).unwrap();
        let start = (110 + name_bytes).next_multiple_of(4);
        let data = bytes[start..][..data_bytes].to_vec();
        bytes = &bytes[(start + data_bytes).next_multiple_of(4)..];
        if name == "TRAILER!!!" {
            assert!(bytes.is_empty());
            return entries;
        }
        entries.push(Entry { name, mode, data, device });
    }
}
