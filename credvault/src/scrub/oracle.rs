//! A second opinion on the forms of a secret, for tests and the fuzzer: written down once more and as plainly as
//! possible, with no tables, no streaming, and every way to write a character tried at every place.

use std::collections::BTreeSet;

/// One form: for each character, all the ways to write it.
pub struct Language(Vec<Vec<Vec<u8>>>);

impl Language {
    /// Length of the longest text of this form that `text` begins with.
    pub fn longest(&self, text: &[u8]) -> Option<usize> {
        // Where it may end so far. Not each combination of ways by itself: those that write the same are no end of them.
        let mut ends = BTreeSet::from([0]);
        for ways in &self.0 {
            let after = |end: &usize| {
                let (end, rest) = (*end, &text[*end..]);
                ways.iter().filter(move |way| rest.starts_with(way)).map(move |way| end + way.len())
            };
            ends = ends.iter().flat_map(after).collect();
        }
        ends.last().copied()
    }

    /// A text of this form. `choose` gives a number below the one that it gets.
    pub fn write(&self, mut choose: impl FnMut(usize) -> usize) -> Vec<u8> {
        self.0.iter().flat_map(|ways| ways[choose(ways.len())].clone()).collect()
    }
}

/// `text` with a marker for every group of forms that overlap.
pub fn scrubbed(text: &[u8], languages: &[Language], marker: &[u8]) -> Vec<u8> {
    let mut ranges: Vec<(usize, usize)> = Vec::new();
    for start in 0..text.len() {
        let longest = languages.iter().filter_map(|language| language.longest(&text[start..])).max();
        let Some(end) = longest.map(|length| start + length) else { continue };
        match ranges.last_mut() {
            Some((_, last)) if start < *last => *last = (*last).max(end),
            _ => ranges.push((start, end)),
        }
    }
    let (mut out, mut at) = (Vec::new(), 0);
    for (start, end) in ranges {
        out.extend_from_slice(&text[at..start]);
        out.extend_from_slice(marker);
        at = end;
    }
    out.extend_from_slice(&text[at..]);
    out
}

/// Every form of `secret`.
pub fn languages(secret: &[u8]) -> Vec<Language> {
    let text = str::from_utf8(secret).ok();
    let bytes = |ways: &dyn Fn(u8) -> Vec<Vec<u8>>| Language(secret.iter().map(|&byte| ways(byte)).collect());
    // A byte that is part of no character is written as it is.
    let chars = |ways: &dyn Fn(char) -> Vec<Vec<u8>>| {
        let pieces = secret.utf8_chunks().flat_map(|chunk| {
            let valid = chunk.valid().chars().map(ways);
            valid.chain(chunk.invalid().iter().map(|&byte| vec![vec![byte]])).collect::<Vec<_>>()
        });
        Language(pieces.collect())
    };
    let mut all = vec![
        bytes(&|byte| vec![vec![byte]]),
        bytes(&percent),
        chars(&json),
        chars(&html),
        bytes(&|byte| vec![format!("{byte:02x}").into_bytes()]),
        bytes(&|byte| vec![format!("{byte:02X}").into_bytes()]),
        bytes(&|byte| vec![format!("%{byte:02x}").into_bytes()]),
        bytes(&|byte| vec![format!("%{byte:02X}").into_bytes()]),
        chars(&|c| vec![unicode(c, false)]),
        chars(&|c| vec![unicode(c, true)]),
    ];
    if let Some(text) = text {
        for to_bytes in [u16::to_le_bytes, u16::to_be_bytes] {
            all.push(Language(text.encode_utf16().map(|unit| vec![to_bytes(unit).to_vec()]).collect()));
        }
    }
    for last in [b"+/", b"-_"] {
        all.extend((0..3).map(|before| base64(secret, before, last)));
    }
    all
}

fn both(write: impl Fn(bool) -> String) -> Vec<Vec<u8>> {
    vec![write(false).into_bytes(), write(true).into_bytes()]
}

fn percent(byte: u8) -> Vec<Vec<u8>> {
    if byte.is_ascii_alphanumeric() {
        return vec![vec![byte]];
    }
    let mut ways = both(|upper| if upper { format!("%{byte:02X}") } else { format!("%{byte:02x}") });
    match byte {
        b'%' => {}
        b' ' => ways.extend([b" ".to_vec(), b"+".to_vec()]),
        _ => ways.push(vec![byte]),
    }
    ways
}

fn unicode(c: char, upper: bool) -> Vec<u8> {
    let units = c.encode_utf16(&mut [0; 2]).to_vec();
    let write = |unit: u16| if upper { format!("\\u{unit:04X}") } else { format!("\\u{unit:04x}") };
    units.into_iter().map(write).collect::<String>().into_bytes()
}

fn json(c: char) -> Vec<Vec<u8>> {
    if c.is_ascii_alphanumeric() {
        return vec![vec![c as u8]];
    }
    let mut ways = vec![unicode(c, false), unicode(c, true)];
    match c {
        '\\' => {}
        _ => ways.push(c.to_string().into_bytes()),
    }
    match c {
        '"' | '\\' | '/' | '\'' => ways.push(format!("\\{c}").into_bytes()),
        '\t' => ways.push(b"\\t".to_vec()),
        '\n' => ways.push(b"\\n".to_vec()),
        '\r' => ways.push(b"\\r".to_vec()),
        '\u{8}' => ways.push(b"\\b".to_vec()),
        '\u{c}' => ways.push(b"\\f".to_vec()),
        _ => {}
    }
    ways
}

fn html(c: char) -> Vec<Vec<u8>> {
    if c.is_ascii_alphanumeric() {
        return vec![vec![c as u8]];
    }
    let number = c as u32;
    let mut ways = both(|upper| if upper { format!("&#x{number:X};") } else { format!("&#x{number:x};") });
    ways.push(format!("&#{number};").into_bytes());
    ways.push(format!("&#{number:03};").into_bytes());
    match c {
        '&' => ways.push(b"&amp;".to_vec()),
        '<' => ways.push(b"&lt;".to_vec()),
        '>' => ways.push(b"&gt;".to_vec()),
        '"' => ways.push(b"&quot;".to_vec()),
        '\'' => ways.push(b"&apos;".to_vec()),
        _ => {}
    }
    if c != '&' {
        ways.push(c.to_string().into_bytes());
    }
    ways
}

/// The digits that `secret` alone decides when `before` other bytes come first.
fn base64(secret: &[u8], before: usize, last: &[u8; 2]) -> Language {
    let digits = [&b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"[..], last].concat();
    let bits: Vec<bool> =
        secret.iter().flat_map(|byte| (0..8).rev().map(move |bit| byte >> bit & 1 == 1)).collect();
    let skipped = (6 - before * 8 % 6) % 6;
    let value = |six: &[bool]| six.iter().fold(0, |value, bit| value << 1 | usize::from(*bit));
    Language(bits[skipped..].chunks_exact(6).map(|six| vec![vec![digits[value(six)]]]).collect())
}
