//! Reads the `.modinfo` section of a kernel module: null-separated `key=value` strings.
//! A package as unpacked has no `modules.dep`, so dependencies come from here. Input is not trusted.

/// Offsets and sizes of the 64-bit ELF header and section header (System V gABI).
const ELF_SECTION_TABLE: usize = 0x28;
const ELF_SECTION_BYTES: usize = 0x3a;
const ELF_SECTION_COUNT: usize = 0x3c;
const ELF_NAMES_INDEX: usize = 0x3e;
const SECTION_HEADER_BYTES: usize = 64;
const SECTION_OFFSET: usize = 0x18;
const SECTION_SIZE: usize = 0x20;

/// Names of the modules that must be loaded before this one; `None` when the file is not a module.
pub fn depends(module: &[u8]) -> Option<Vec<String>> {
    let info = section(module, b".modinfo")?;
    let value = info.split(|b| *b == 0).find_map(|entry| entry.strip_prefix(b"depends="))?;
    value.split(|b| *b == b',').filter(|name| !name.is_empty()).map(name).collect()
}

/// A module's name in canonical form: underscores, never dashes; `None` when it holds anything odd.
pub fn name(bytes: &[u8]) -> Option<String> {
    let plain = |b: &u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-');
    if bytes.is_empty() || bytes.len() > 64 || !bytes.iter().all(plain) {
        return None;
    }
    Some(String::from_utf8(bytes.to_vec()).ok()?.replace('-', "_"))
}

fn section<'a>(elf: &'a [u8], wanted: &[u8]) -> Option<&'a [u8]> {
    if !elf.starts_with(b"\x7fELF\x02\x01") {
        return None;
    }
    let table = usize_at(elf, ELF_SECTION_TABLE)?;
    if usize::from(u16_at(elf, ELF_SECTION_BYTES)?) != SECTION_HEADER_BYTES {
        return None;
    }
    let count = usize::from(u16_at(elf, ELF_SECTION_COUNT)?);
    let headers = elf.get(table..table.checked_add(count.checked_mul(SECTION_HEADER_BYTES)?)?)?;
    let header = |index: usize| headers.chunks_exact(SECTION_HEADER_BYTES).nth(index);
    let names = body(elf, header(usize::from(u16_at(elf, ELF_NAMES_INDEX)?))?)?;
    (0..count).filter_map(header).find(|h| name_of(names, h) == Some(wanted)).and_then(|h| body(elf, h))
}

fn body<'a>(elf: &'a [u8], header: &[u8]) -> Option<&'a [u8]> {
    let start = usize_at(header, SECTION_OFFSET)?;
    elf.get(start..start.checked_add(usize_at(header, SECTION_SIZE)?)?)
}

fn name_of<'a>(names: &'a [u8], header: &[u8]) -> Option<&'a [u8]> {
    let at = usize::try_from(u32::from_le_bytes(*header.first_chunk()?)).ok()?;
    names.get(at..)?.split(|b| *b == 0).next()
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    bytes.get(at..)?.first_chunk().map(|b| u16::from_le_bytes(*b))
}

fn usize_at(bytes: &[u8], at: usize) -> Option<usize> {
    let value = bytes.get(at..)?.first_chunk().map(|b| u64::from_le_bytes(*b))?;
    usize::try_from(value).ok()
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use proptest::prelude::*;

    /// The smallest module file that has a `.modinfo`.
    pub(crate) fn module(info: &[u8]) -> Vec<u8> {
        let names = b"\0.modinfo\0.shstrtab\0";
        let mut elf = vec![0; 64];
        elf[..6].copy_from_slice(b"\x7fELF\x02\x01");
        let info_at = elf.len();
        elf.extend_from_slice(info);
        let names_at = elf.len();
        elf.extend_from_slice(names);
        let table = elf.len();
        elf[0x28..0x30].copy_from_slice(&(table as u64).to_le_bytes());
        elf[0x3a..0x3c].copy_from_slice(&64u16.to_le_bytes());
        elf[0x3c..0x3e].copy_from_slice(&3u16.to_le_bytes());
        elf[0x3e..0x40].copy_from_slice(&2u16.to_le_bytes());
        for (name, at, size) in [(0u32, 0, 0), (1, info_at, info.len()), (10, names_at, names.len())] {
            let mut header = [0; 64];
            header[..4].copy_from_slice(&name.to_le_bytes());
            header[0x18..0x20].copy_from_slice(&(at as u64).to_le_bytes());
            header[0x20..0x28].copy_from_slice(&(size as u64).to_le_bytes());
            elf.extend_from_slice(&header);
        }
        elf
    }

    #[test]
    fn dependencies_are_read_in_canonical_form() {
        let cases: [(&[u8], Option<&[&str]>); 5] = [
            (b"license=GPL\0depends=a-b,c_d\0name=x\0", Some(&["a_b", "c_d"])),
            (b"depends=\0", Some(&[])),
            (b"license=GPL\0", None),
            (b"depends=../../etc/passwd\0", None),
            (b"depends=a,,b\0", Some(&["a", "b"])),
        ];
        for (info, expected) in cases {
            let got = depends(&module(info));
            assert_eq!(
                got.as_deref().map(|v| v.iter().map(String::as_str).collect::<Vec<_>>()),
                expected.map(<[&str]>::to_vec)
            );
        }
        assert_eq!(depends(b""), None);
        assert_eq!(depends(&module(b"depends=a\0")[..100]), None);
    }

    proptest! {
        #[test]
        fn any_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
            let _ = depends(&bytes);
        }

        #[test]
        fn any_damage_never_panics(at in 0usize..400, value: u8) {
            let mut bytes = module(b"depends=a,b\0");
            if let Some(byte) = bytes.get_mut(at) {
                *byte = value;
            }
            let _ = depends(&bytes);
        }
    }
}
