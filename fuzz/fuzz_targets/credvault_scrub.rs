//! Scrubbing: the result does not depend on chunks, holds no form of a secret, and loses nothing else.

#![no_main]

use std::sync::Arc;

use credvault::{ScrubSet, Scrubber, Secret};
use fuzz::{Input, chunks, contains};
use libfuzzer_sys::fuzz_target;

/// Bytes that no form of a secret has, since secrets here have no control bytes.
const MARKER: &[u8] = b"\x01\x02";

fuzz_target!(|bytes: &[u8]| {
    let mut input = Input(bytes);
    let count = 1 + input.below(3);
    let secrets: Vec<Vec<u8>> = (0..count).map(|_| secret(&mut input)).collect();
    let cuts = input.piece();
    let forms: Vec<Vec<u8>> = secrets.iter().flat_map(|secret| forms(secret)).collect();
    let text = text(&mut input, &forms);

    let values: Vec<Secret> = secrets.iter().cloned().map(Secret::new).collect();
    let set = ScrubSet::new(values.iter().map(|secret| (secret, MARKER)));
    let whole = stream(&set, &[&text]);
    for chunks in [chunks(&text, cuts), text.chunks(1 + text.len() / 256).collect()] {
        assert_eq!(
            stream(&set, &chunks),
            whole,
            "{} scrubbed as {chunks:?} of {secrets:?}",
            text.escape_ascii()
        );
    }
    assert_eq!(set.scrub_value(&text).unwrap_or_else(|| text.clone()), whole.0);
    for form in &forms {
        assert!(!contains(&whole.0, form), "a form came through: {form:?}");
    }
    let found = forms.iter().any(|form| contains(&text, form));
    assert!(!found || whole.1 > 0);
    if whole.1 == 0 {
        assert_eq!(whole.0, text, "clean text was changed");
    }
});

fn stream(set: &Arc<ScrubSet>, chunks: &[&[u8]]) -> (Vec<u8>, u64) {
    let mut scrubber = Scrubber::new(Arc::clone(set));
    let mut out = Vec::new();
    for chunk in chunks {
        let clean = scrubber.is_clean(chunk);
        let before = out.len();
        scrubber.push(chunk, &mut out);
        assert!(!clean || (&out[before..] == *chunk && scrubber.held_bytes() == 0));
    }
    scrubber.finish(&mut out);
    assert_eq!(scrubber.held_bytes(), 0);
    (out, scrubber.redactions())
}

/// 8 to 39 bytes, of few letters or of all.
fn secret(input: &mut Input<'_>) -> Vec<u8> {
    let shape = input.u8();
    let count = 8 + usize::from(shape >> 3);
    let byte = |input: &mut Input<'_>| match shape & 3 {
        0 => b"ab"[input.below(2)],
        1 => b"sk-_/+=\"\\% .~&A9"[input.below(16)],
        _ => input.u8().max(b' '),
    };
    (0..count).map(|_| byte(input)).collect()
}

/// Noise, whole forms and pieces of forms.
fn text(input: &mut Input<'_>, forms: &[Vec<u8>]) -> Vec<u8> {
    let mut text = Vec::new();
    while !input.is_empty() && text.len() < 2048 {
        let kind = input.below(4);
        let form = &forms[input.below(forms.len())];
        match kind {
            0 => text.extend_from_slice(input.piece()),
            1 => text.extend_from_slice(form),
            2 => text.extend_from_slice(&form[..input.below(form.len())]),
            _ => text.extend_from_slice(&form[input.below(form.len())..]),
        }
    }
    text
}

/// Forms in which a value comes back, written down a second time and as plainly as possible.
fn forms(secret: &[u8]) -> Vec<Vec<u8>> {
    let hex = |upper: bool| -> Vec<u8> {
        let text: String = secret.iter().map(|byte| format!("{byte:02x}")).collect();
        if upper { text.to_ascii_uppercase().into_bytes() } else { text.into_bytes() }
    };
    let percent: String = secret
        .iter()
        .map(|&byte| match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
                char::from(byte).to_string()
            }
            _ => format!("%{byte:02X}"),
        })
        .collect();
    let mut all = vec![secret.to_vec(), hex(false), hex(true), percent.into_bytes()];
    for alphabet in [b"+/", b"-_"] {
        all.extend((0..3).map(|before| base64(secret, before, alphabet)));
    }
    all
}

/// The digits that `secret` alone decides when `before` other bytes come first.
fn base64(secret: &[u8], before: usize, last: &[u8; 2]) -> Vec<u8> {
    let digits = [&b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"[..], last].concat();
    let bits: Vec<bool> =
        secret.iter().flat_map(|byte| (0..8).rev().map(move |bit| byte >> bit & 1 == 1)).collect();
    let skipped = (6 - before * 8 % 6) % 6;
    let value = |six: &[bool]| six.iter().fold(0, |value, bit| value << 1 | usize::from(*bit));
    bits[skipped..].chunks_exact(6).map(|six| digits[value(six)]).collect()
}
