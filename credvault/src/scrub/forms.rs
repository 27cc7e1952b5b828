//! The forms in which a value may come back: raw, percent-encoded (as encoders do, or every byte), JSON-escaped
//! (as writers do, or every character), hexadecimal, base64 at each alignment, UTF-16.
//!
//! A server that echoes a request does one of these. It is a match of bytes and best effort by nature: a
//! server that reverses, encrypts or splits the value gets past it, and so does one that escapes some bytes
//! and not others as no encoder does, or breaks base64 into lines. Must never keep a form in memory that
//! is not cleared.

use zeroize::Zeroizing;

use crate::encode::{Alphabet, base64};

/// Bytes of one form, cleared on drop.
pub(crate) type Form = Zeroizing<Vec<u8>>;

/// All different forms of `value`, raw first.
pub(crate) fn forms(value: &[u8]) -> Vec<Form> {
    let mut all: Vec<Form> = Vec::new();
    let mut add = |form: Form| {
        if !form.is_empty() && !all.contains(&form) {
            all.push(form);
        }
    };
    add(sized(value.len(), |out| out.extend_from_slice(value)));
    for hex in [HEX_UPPER, HEX_LOWER] {
        for keep in [Keep::Unreserved, Keep::Component, Keep::Form, Keep::Nothing] {
            add(percent(value, hex, keep));
        }
    }
    for style in [Json::Minimal, Json::Slash, Json::Html, Json::Everything] {
        for hex in [HEX_LOWER, HEX_UPPER] {
            add(json(value, style, hex, false));
            add(json(value, style, hex, true));
        }
    }
    for hex in [HEX_LOWER, HEX_UPPER] {
        add(sized(value.len().saturating_mul(2), |out| {
            value.iter().for_each(|&byte| out.extend_from_slice(&hex_pair(hex, byte)));
        }));
    }
    for to_bytes in [u16::to_le_bytes, u16::to_be_bytes] {
        add(utf16(value, to_bytes));
    }
    for alphabet in [Alphabet::Standard, Alphabet::UrlSafe] {
        for before in 0..3 {
            add(base64_at(value, before, alphabet));
        }
    }
    all
}

/// A buffer that never grows past its first capacity, so that no copy is left behind.
fn sized(capacity: usize, fill: impl FnOnce(&mut Vec<u8>)) -> Form {
    let mut out = Zeroizing::new(Vec::with_capacity(capacity));
    fill(&mut out);
    debug_assert!(out.len() <= capacity, "a form outgrew its buffer");
    out
}

type HexDigits = fn(u8) -> u8;
const HEX_UPPER: HexDigits = |nibble| if nibble < 10 { b'0' + nibble } else { b'A' + (nibble - 10) };
const HEX_LOWER: HexDigits = |nibble| if nibble < 10 { b'0' + nibble } else { b'a' + (nibble - 10) };

fn hex_pair(hex: HexDigits, byte: u8) -> [u8; 2] {
    [hex(byte >> 4), hex(byte & 0x0f)]
}

/// Which bytes a percent-encoder leaves alone.
#[derive(Clone, Copy)]
enum Keep {
    /// RFC 3986 §2.3, as Python's `quote(safe='')` and Go's `PathEscape` nearly do.
    Unreserved,
    /// JavaScript's `encodeURIComponent`.
    Component,
    /// `application/x-www-form-urlencoded` (WHATWG URL §5.2): space as `+`.
    Form,
    /// Not one.
    Nothing,
}

fn percent(value: &[u8], hex: HexDigits, keep: Keep) -> Form {
    sized(value.len().saturating_mul(3), |out| {
        for &byte in value {
            let plain = match keep {
                Keep::Unreserved => byte.is_ascii_alphanumeric() || b"-._~".contains(&byte),
                Keep::Component => byte.is_ascii_alphanumeric() || b"-._~!'()*".contains(&byte),
                Keep::Form => byte.is_ascii_alphanumeric() || b"-._*".contains(&byte),
                Keep::Nothing => false,
            };
            match (byte, keep) {
                (b' ', Keep::Form) => out.push(b'+'),
                _ if plain => out.push(byte),
                _ => {
                    out.push(b'%');
                    out.extend_from_slice(&hex_pair(hex, byte));
                }
            }
        }
    })
}

/// Which characters a JSON writer escapes beyond what RFC 8259 §7 demands.
#[derive(Clone, Copy, PartialEq)]
enum Json {
    Minimal,
    /// `/` as `\/`, as PHP does.
    Slash,
    /// `<`, `>` and `&` as `\u00XX`, as Go does.
    Html,
    /// Every character as `\uXXXX`.
    Everything,
}

/// `ascii_only` writes everything above U+007F as `\uXXXX`, as Python does; bytes that are not UTF-8 stay.
fn json(value: &[u8], style: Json, hex: HexDigits, ascii_only: bool) -> Form {
    // Longest: one byte becomes `\u00XX`. (A two-byte character becomes six bytes, a four-byte one twelve.)
    sized(value.len().saturating_mul(6), |out| {
        for chunk in value.utf8_chunks() {
            for c in chunk.valid().chars() {
                match c {
                    _ if style == Json::Everything => unicode_escape(out, c, hex),
                    '"' | '\\' => out.extend([b'\\', u8::try_from(c).unwrap_or(b'\\')]),
                    '\t' => out.extend_from_slice(b"\\t"),
                    '/' if style == Json::Slash => out.extend_from_slice(b"\\/"),
                    '<' | '>' | '&' if style == Json::Html => unicode_escape(out, c, hex),
                    '\0'..='\x1f' => unicode_escape(out, c, hex),
                    _ if ascii_only && !c.is_ascii() => unicode_escape(out, c, hex),
                    _ => out.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes()),
                }
            }
            out.extend_from_slice(chunk.invalid());
        }
    })
}

fn unicode_escape(out: &mut Vec<u8>, c: char, hex: HexDigits) {
    for unit in c.encode_utf16(&mut [0; 2]) {
        out.extend_from_slice(b"\\u");
        for byte in unit.to_be_bytes() {
            out.extend_from_slice(&hex_pair(hex, byte));
        }
    }
}

/// Empty for what is no text.
fn utf16(value: &[u8], to_bytes: fn(u16) -> [u8; 2]) -> Form {
    let text = str::from_utf8(value).unwrap_or_default();
    sized(value.len().saturating_mul(2), |out| {
        text.encode_utf16().for_each(|unit| out.extend_from_slice(&to_bytes(unit)));
    })
}

/// The digits of a base64 text that `value` alone decides when `before` unknown bytes (modulo 3) come
/// first: `user:secret` in Basic authentication is such a text. Up to six bits at either end are shared
/// with a neighbour and stay out of the form.
fn base64_at(value: &[u8], before: usize, alphabet: Alphabet) -> Form {
    let shifted = sized(value.len().saturating_add(2), |out| {
        out.extend(std::iter::repeat_n(0, before));
        out.extend_from_slice(value);
    });
    let digits = base64(&shifted, alphabet);
    let first = (before * 8).div_ceil(6);
    let end = shifted.len().saturating_mul(8) / 6;
    sized(digits.len(), |out| out.extend_from_slice(digits.get(first..end).unwrap_or_default()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn has(value: &str, form: &str) -> bool {
        forms(value.as_bytes()).iter().any(|f| &f[..] == form.as_bytes())
    }

    #[test]
    fn an_ordinary_key_has_a_dozen_forms() {
        // 1 raw (what percent and JSON encoders write is the same bytes), 2 hex, 3 base64 (both alphabets
        // agree), 2 percent and 2 JSON with nothing left plain, 2 UTF-16.
        assert_eq!(forms(b"ghp_0123456789abcdef").len(), 12);
    }

    #[test]
    fn encoders_of_the_wild_are_covered() {
        let value = r#"p@ss/w"ö &1<"#;
        for form in [
            "p%40ss%2Fw%22%C3%B6%20%261%3C",
            "p%40ss%2fw%22%c3%b6%20%261%3c",
            "p%40ss%2Fw%22%C3%B6+%261%3C",
            r#"p@ss/w\"ö &1<"#,
            r#"p@ss\/w\"ö &1<"#,
            r#"p@ss/w\"\u00f6 &1<"#,
            r#"p@ss/w\"ö \u00261\u003c"#,
        ] {
            assert!(has(value, form), "{form}");
        }
        assert!(has("it's(me)*now", "it's(me)*now"));
        assert!(has("\u{1f511}-key-key", r"\ud83d\udd11-key-key"));
    }

    #[test]
    fn a_value_with_nothing_left_plain_is_covered() {
        for form in ["%73%6b%2d%4b%65%79", "%73%6B%2D%4B%65%79", r"\u0073\u006b\u002d\u004b\u0065\u0079"] {
            assert!(has("sk-Key", form), "{form}");
        }
        assert!(has("sk-Key", r"\u0073\u006B\u002D\u004B\u0065\u0079"));
        assert!(has("sk-Key", "s\0k\0-\0K\0e\0y\0"));
        assert!(has("sk-Key", "\0s\0k\0-\0K\0e\0y"));
        assert!(has("\u{1f511}", r"\ud83d\udd11"));
        assert!(forms(b"\xff-no-text").iter().all(|form| !form.is_empty()));
    }

    #[test]
    fn base64_forms_are_found_at_every_alignment() {
        let secret = b"sk-proj-0123456789";
        let all = forms(secret);
        for before in 0..7 {
            for after in 0..4 {
                let mut text = vec![b'u'; before];
                text.extend_from_slice(secret);
                text.extend(vec![b'!'; after]);
                let encoded = base64(&text, Alphabet::Standard);
                let found = all.iter().any(|form| encoded.windows(form.len()).any(|w| w == &form[..]));
                assert!(found, "{before} before, {after} after");
            }
        }
    }
}
