//! Byte classes of RFC 9110, as tables.

const TOKEN: u8 = 1;
const TARGET: u8 = 2;

static CLASSES: [u8; 256] = classes();

const fn classes() -> [u8; 256] {
    let mut table = [0u8; 256];
    let mut index = 0usize;
    let mut byte = 0u8;
    loop {
        let mut class = 0;
        if byte.is_ascii_alphanumeric()
            || matches!(
                byte,
                b'!' | b'#'
                    | b'$'
                    | b'%'
                    | b'&'
                    | b'\''
                    | b'*'
                    | b'+'
                    | b'-'
                    | b'.'
                    | b'^'
                    | b'_'
                    | b'`'
                    | b'|'
                    | b'~'
            )
        {
            class |= TOKEN;
        }
        // Stricter than browsers, as RFC 3986: printable ASCII without the characters no URI may have. Of
        // those, `|` `^` `{` `}` `` ` `` and brackets are let through: real clients send them in queries.
        if byte > b' ' && byte < 0x7f && !matches!(byte, b'"' | b'<' | b'>' | b'\\' | b'#') {
            class |= TARGET;
        }
        set(&mut table, index, class);
        if byte == u8::MAX {
            return table;
        }
        byte += 1;
        index += 1;
    }
}

#[allow(clippy::indexing_slicing)] // Evaluated by the compiler only: a bad index would not build.
const fn set(table: &mut [u8; 256], index: usize, class: u8) {
    table[index] = class;
}

fn is(byte: u8, class: u8) -> bool {
    CLASSES.get(usize::from(byte)).is_some_and(|classes| classes & class != 0)
}

/// RFC 9110 §5.6.2 `token`, not empty.
pub fn is_token(text: &[u8]) -> bool {
    !text.is_empty() && text.iter().all(|byte| is(*byte, TOKEN))
}

/// The token at the front, and what comes after it; `None` where there is none.
pub fn split_token(text: &[u8]) -> Option<(&[u8], &[u8])> {
    let end = text.iter().position(|byte| !is(*byte, TOKEN)).unwrap_or(text.len());
    if end == 0 { None } else { text.split_at_checked(end) }
}

/// RFC 9110 §5.5 field value: visible bytes, obs-text, space and tab.
pub fn is_field_value(text: &[u8]) -> bool {
    // All are looked at, which is done many at a time.
    text.iter().fold(true, |good, &byte| good & ((byte >= b' ') | (byte == b'\t')) & (byte != 0x7f))
}

/// Bytes that a request target may hold.
pub fn is_target(text: &[u8]) -> bool {
    !text.is_empty() && text.iter().all(|byte| is(*byte, TARGET))
}

/// Removes optional white space (space and tab) at both ends.
pub fn trim_ows(mut text: &[u8]) -> &[u8] {
    while let [b' ' | b'\t', rest @ ..] = text {
        text = rest;
    }
    while let [rest @ .., b' ' | b'\t'] = text {
        text = rest;
    }
    text
}

/// Plain decimal, 1 to 18 digits. Not `str::parse`, which takes a sign.
pub fn parse_decimal(text: &[u8]) -> Option<u64> {
    if text.is_empty() || text.len() > 18 {
        return None;
    }
    text.iter().try_fold(0u64, |value, byte| {
        let digit = byte.is_ascii_digit().then(|| byte.wrapping_sub(b'0'))?;
        value.checked_mul(10)?.checked_add(u64::from(digit))
    })
}
