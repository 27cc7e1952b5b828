//! Scrubbing: the result does not depend on chunks and is what plain search with every encoder's choices gives, also
//! where the secrets come in two sets, one of them later.

#![no_main]

use std::sync::Arc;

use credvault::{ScrubSet, Scrubber, Secret};
use fuzz::{Input, chunks};
use libfuzzer_sys::fuzz_target;
use oracle::Language;

#[path = "../../credvault/src/scrub/oracle.rs"]
mod oracle;

/// Bytes that no form of a secret has, since secrets here have no control bytes.
const MARKER: &[u8] = b"\x01\x02";

fuzz_target!(|bytes: &[u8]| {
    let mut input = Input(bytes);
    let count = 1 + input.below(3);
    let secrets: Vec<Vec<u8>> = (0..count).map(|_| secret(&mut input)).collect();
    let cuts = input.piece();
    let languages: Vec<Language> = secrets.iter().flat_map(|secret| oracle::languages(secret)).collect();
    let text = text(&mut input, &languages);

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
    assert_eq!(
        whole.0,
        oracle::scrubbed(&text, &languages, MARKER),
        "{} of {secrets:?}",
        text.escape_ascii()
    );
    assert_eq!(whole.0 == text, whole.1 == 0);

    let some = |values: &[Secret]| ScrubSet::new(values.iter().map(|secret| (secret, MARKER)));
    let (own, newer) = values.split_at(count / 2);
    let mut scrubber = Scrubber::new(some(own));
    scrubber.also(&some(newer));
    assert_eq!(scrubber.scrub_value(&text).unwrap_or_else(|| text.clone()), whole.0);
    assert_eq!(pushed(scrubber, &chunks(&text, cuts)), whole, "two sets");
});

fn stream(set: &Arc<ScrubSet>, chunks: &[&[u8]]) -> (Vec<u8>, u64) {
    pushed(Scrubber::new(Arc::clone(set)), chunks)
}

fn pushed(mut scrubber: Scrubber, chunks: &[&[u8]]) -> (Vec<u8>, u64) {
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
fn text(input: &mut Input<'_>, languages: &[Language]) -> Vec<u8> {
    let mut text = Vec::new();
    while !input.is_empty() && text.len() < 2048 {
        let kind = input.below(4);
        let form = languages[input.below(languages.len())].write(|ways| input.below(ways));
        match kind {
            0 => text.extend_from_slice(input.piece()),
            1 => text.extend_from_slice(&form),
            2 => text.extend_from_slice(&form[..input.below(form.len())]),
            _ => text.extend_from_slice(&form[input.below(form.len())..]),
        }
    }
    text
}
