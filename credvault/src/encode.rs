//! Base64 (RFC 4648), written here so that every buffer that holds a secret is sized once and cleared.
//!
//! Must never leave a copy of its input in memory it does not clear.

use zeroize::Zeroizing;

/// The two alphabets of RFC 4648 (§4 and §5).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Alphabet {
    Standard,
    UrlSafe,
}

impl Alphabet {
    pub(crate) fn digit(self, six_bits: u8) -> u8 {
        match (six_bits & 0x3f, self) {
            (n @ 0..=25, _) => b'A' + n,
            (n @ 26..=51, _) => b'a' + (n - 26),
            (n @ 52..=61, _) => b'0' + (n - 52),
            (62, Self::Standard) => b'+',
            (62, Self::UrlSafe) => b'-',
            (_, Self::Standard) => b'/',
            (_, Self::UrlSafe) => b'_',
        }
    }
}

/// Encodes without padding.
pub(crate) fn base64(input: &[u8], alphabet: Alphabet) -> Zeroizing<Vec<u8>> {
    let mut out = Zeroizing::new(Vec::with_capacity(input.len().div_ceil(3).saturating_mul(4)));
    for group in input.chunks(3) {
        let [a, b, c] = [group.first(), group.get(1), group.get(2)].map(|byte| byte.copied().unwrap_or(0));
        let digits = [a >> 2, (a << 4) | (b >> 4), (b << 2) | (c >> 6), c];
        out.extend(digits.iter().take(group.len() + 1).map(|&six_bits| alphabet.digit(six_bits)));
    }
    out
}

/// Encodes with padding, as Basic authentication wants it (RFC 7617 §2).
pub(crate) fn base64_padded(input: &[u8]) -> Zeroizing<Vec<u8>> {
    let mut out = base64(input, Alphabet::Standard);
    // The capacity was rounded up to whole groups, so this does not move the bytes.
    while !out.len().is_multiple_of(4) {
        out.push(b'=');
    }
    out
}

/// Decodes the standard alphabet, padded or not. `None` for anything else: another byte, padding inside,
/// an impossible length. Unused bits of the last digit are ignored, as servers do.
pub(crate) fn base64_decode(input: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
    let digits = match input {
        [rest @ .., b'=', b'='] | [rest @ .., b'='] => rest,
        rest => rest,
    };
    if digits.len() % 4 == 1 {
        return None;
    }
    let mut out = Zeroizing::new(Vec::with_capacity(digits.len().div_ceil(4).saturating_mul(3)));
    for group in digits.chunks(4) {
        let mut bits: u32 = 0;
        for index in 0..4 {
            bits = (bits << 6) | u32::from(group.get(index).map_or(Some(0), |&digit| value(digit))?);
        }
        let [_, a, b, c] = bits.to_be_bytes();
        out.extend([a, b, c].iter().take(group.len() - 1));
    }
    Some(out)
}

fn value(digit: u8) -> Option<u8> {
    match digit {
        b'A'..=b'Z' => Some(digit - b'A'),
        b'a'..=b'z' => Some(digit - b'a' + 26),
        b'0'..=b'9' => Some(digit - b'0' + 52),
        b'+' => Some(62),
        b'/' => Some(63),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rfc_4648_section_10_vectors() {
        for (plain, encoded) in [
            ("", ""),
            ("f", "Zg=="),
            ("fo", "Zm8="),
            ("foo", "Zm9v"),
            ("foob", "Zm9vYg=="),
            ("fooba", "Zm9vYmE="),
            ("foobar", "Zm9vYmFy"),
        ] {
            assert_eq!(&base64_padded(plain.as_bytes())[..], encoded.as_bytes());
            assert_eq!(&base64_decode(encoded.as_bytes()).unwrap()[..], plain.as_bytes());
            assert_eq!(
                &base64_decode(encoded.trim_end_matches('=').as_bytes()).unwrap()[..],
                plain.as_bytes()
            );
        }
    }

    #[test]
    fn the_alphabets_differ_in_two_digits() {
        assert_eq!(&base64(&[0xfb, 0xff], Alphabet::Standard)[..], b"+/8");
        assert_eq!(&base64(&[0xfb, 0xff], Alphabet::UrlSafe)[..], b"-_8");
    }

    #[test]
    fn what_is_not_base64_is_refused() {
        for bad in ["A", "AAAAA", "A===", "AA=A", "AA A", "-_8", "é"] {
            assert!(base64_decode(bad.as_bytes()).is_none(), "{bad}");
        }
    }

    #[test]
    fn every_byte_comes_back() {
        let all: Vec<u8> = (0..=255).collect();
        assert_eq!(&base64_decode(&base64_padded(&all)).unwrap()[..], &all[..]);
    }
}
