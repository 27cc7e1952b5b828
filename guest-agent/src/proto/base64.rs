//! Standard base64 with padding, strict: one text per value.
//!
//! Must never accept what the encoder would not write (blanks, missing padding, stray bits).

const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

pub(super) fn encode(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len().div_ceil(3).saturating_mul(4));
    for group in bytes.chunks(3) {
        let at = |i: usize| u32::from(group.get(i).copied().unwrap_or(0));
        let bits = at(0) << 16 | at(1) << 8 | at(2);
        for place in 0..4usize {
            let index = (bits >> (18 - 6 * place)) & 63;
            let letter = ALPHABET.get(index as usize).copied().unwrap_or(b'=');
            text.push(if place > group.len() { '=' } else { char::from(letter) });
        }
    }
    text
}

pub(super) fn decode(text: &str) -> Option<Vec<u8>> {
    let bytes = text.as_bytes();
    if !bytes.len().is_multiple_of(4) {
        return None;
    }
    let body = text.strip_suffix("==").or_else(|| text.strip_suffix('=')).unwrap_or(text).as_bytes();
    let mut out = Vec::with_capacity(bytes.len() / 4 * 3);
    for group in body.chunks(4) {
        let mut bits = 0u32;
        for letter in group {
            bits = bits << 6 | value(*letter)?;
        }
        match *group {
            [_, _, _, _] => out.extend_from_slice(bits.to_be_bytes().get(1..)?),
            [_, _, _] if bits & 0b11 == 0 => out.extend_from_slice((bits << 6).to_be_bytes().get(1..3)?),
            [_, _] if bits & 0b1111 == 0 => out.extend_from_slice((bits << 12).to_be_bytes().get(1..2)?),
            _ => return None,
        }
    }
    Some(out)
}

fn value(letter: u8) -> Option<u32> {
    let base = match letter {
        b'A'..=b'Z' => letter - b'A',
        b'a'..=b'z' => letter - b'a' + 26,
        b'0'..=b'9' => letter - b'0' + 52,
        b'+' => 62,
        b'/' => 63,
        _ => return None,
    };
    Some(u32::from(base))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn rfc_4648_examples() {
        let pairs = [
            ("", ""),
            ("f", "Zg=="),
            ("fo", "Zm8="),
            ("foo", "Zm9v"),
            ("foob", "Zm9vYg=="),
            ("fooba", "Zm9vYmE="),
        ];
        for (plain, text) in pairs {
            assert_eq!(encode(plain.as_bytes()), text);
            assert_eq!(decode(text).unwrap(), plain.as_bytes());
        }
    }

    #[test]
    fn loose_spellings_are_refused() {
        for text in ["Zg", "Zg=", "Zh==", "Zm9=", "Zg==Zg==", "Z g=", "====", "Zm9v\n", "=Zg="] {
            assert_eq!(decode(text), None, "{text}");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_survive(bytes: Vec<u8>) {
            prop_assert_eq!(decode(&encode(&bytes)), Some(bytes));
        }

        #[test]
        fn what_is_read_would_be_written_so(text in "[A-Za-z0-9+/=]{0,12}") {
            if let Some(bytes) = decode(&text) {
                prop_assert_eq!(encode(&bytes), text);
            }
        }
    }
}
