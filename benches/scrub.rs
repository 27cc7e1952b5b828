//! Bytes per second through the scrubber: answers of a model's API in chunks of 16 KiB, with four secrets.

use std::sync::Arc;

use credvault::{ScrubSet, Scrubber, Secret};
use divan::counter::BytesCount;
use divan::{Bencher, black_box};

fn main() {
    divan::main();
}

const CHUNK_BYTES: usize = 16 * 1024;
const SECRETS: [&str; 4] = [
    "sk-ant-api03-5HmQ0wWqv7ZkP2nXb8TtRr4YcE6uJd1LfGs9AaKx3ViNzMoBhCyDpSjUlWeIgFq",
    "ghp_Rr8Zk2Qm5Xv7Lw3TnB9cYd1FgHj4KpSaVu6E",
    "glpat-x7Yb2Kd9QwErTyUiOpAs",
    "postgres://app:correct-horse-battery@db.example:5432/app",
];

fn set() -> Arc<ScrubSet> {
    let secrets = SECRETS.map(|text| Secret::new(text.as_bytes().to_vec()));
    ScrubSet::new(secrets.iter().map(|secret| (secret, &b"[redacted]"[..])))
}

/// The same four after sixteen rotations each: every value that was replaced is still searched for.
fn rotated() -> Arc<ScrubSet> {
    let mut random = 1_u32;
    let mut renewed = |text: &str| {
        let mut letter = |byte: u8| {
            random = random.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            if byte.is_ascii_alphanumeric() { b"ABCDEFGHijklmnop"[(random >> 28) as usize] } else { byte }
        };
        let (begin, end) = text.as_bytes().split_at(7);
        Secret::new(begin.iter().copied().chain(end.iter().map(|&byte| letter(byte))).collect())
    };
    let secrets: Vec<Secret> = SECRETS.iter().flat_map(|text| [*text; 17]).map(&mut renewed).collect();
    ScrubSet::new(secrets.iter().map(|secret| (secret, &b"[redacted]"[..])))
}

/// Server-sent events, as they come from a model.
fn events() -> Vec<u8> {
    let event = "event: content_block_delta\ndata: {\"type\":\"content_block_delta\",\"index\":0,\"delta\":\
                 {\"type\":\"text_delta\",\"text\":\" the quick brown fox\\u2014jumps over /usr/lib/x86_64\"}}\n\n";
    event.bytes().cycle().take(CHUNK_BYTES - 1).chain([b'\n']).collect()
}

/// Base64, which is one long word: the worst case for finding ends.
fn base64() -> Vec<u8> {
    let digits = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    (0..CHUNK_BYTES).map(|at| digits[(at * at / 7 + at * 31) % 64]).collect()
}

fn push(bencher: Bencher<'_, '_>, set: Arc<ScrubSet>, chunk: &[u8], redactions: u64) {
    let mut scrubber = Scrubber::new(set);
    scrubber.push(chunk, &mut Vec::new());
    assert_eq!(scrubber.redactions(), redactions);
    let mut out = Vec::with_capacity(2 * CHUNK_BYTES);
    bencher.counter(BytesCount::new(chunk.len())).bench_local(|| {
        out.clear();
        scrubber.push(black_box(chunk), &mut out);
        out.len()
    });
}

/// What the proxy does with a chunk that needs nothing: it is passed on as it is.
#[divan::bench]
fn clean_events_uncopied(bencher: Bencher<'_, '_>) {
    let (scrubber, chunk) = (Scrubber::new(set()), events());
    assert!(scrubber.is_clean(&chunk));
    bencher.counter(BytesCount::new(chunk.len())).bench_local(|| scrubber.is_clean(black_box(&chunk)));
}

#[divan::bench]
fn clean_events(bencher: Bencher<'_, '_>) {
    push(bencher, set(), &events(), 0);
}

#[divan::bench]
fn clean_base64(bencher: Bencher<'_, '_>) {
    push(bencher, set(), &base64(), 0);
}

#[divan::bench]
fn clean_events_after_rotations(bencher: Bencher<'_, '_>) {
    push(bencher, rotated(), &events(), 0);
}

#[divan::bench]
fn clean_base64_after_rotations(bencher: Bencher<'_, '_>) {
    push(bencher, rotated(), &base64(), 0);
}

/// The worst that a guest can have sent back: how seventeen tokens begin alike, again and again.
#[divan::bench]
fn beginnings_after_rotations(bencher: Bencher<'_, '_>) {
    let begin = "eyJhbGciOiJSUzI1NiIsInR5cCI6IkpXVCJ9.eyJpc3MiOiJodHRwczovL2FjY291bnRzLmV4YW1wbGUi";
    let token = |end: char| Secret::new(format!("{begin}{}", end.to_string().repeat(4000)).into_bytes());
    let tokens: Vec<Secret> = ('a'..='q').map(token).collect();
    let set = ScrubSet::new(tokens.iter().map(|token| (token, &b"[redacted]"[..])));
    let text: Vec<u8> = begin.bytes().chain(*b"~").cycle().take(CHUNK_BYTES - 1).chain([b'\n']).collect();
    push(bencher, set, &text, 0);
}

/// What a rotation costs.
#[divan::bench]
fn set_built_after_rotations(bencher: Bencher<'_, '_>) {
    bencher.bench_local(rotated);
}

#[divan::bench]
fn events_with_a_hit(bencher: Bencher<'_, '_>) {
    let mut chunk = events();
    let (at, secret) = (CHUNK_BYTES / 2, SECRETS[1].as_bytes());
    chunk[at..at + secret.len()].copy_from_slice(secret);
    push(bencher, set(), &chunk, 1);
}
