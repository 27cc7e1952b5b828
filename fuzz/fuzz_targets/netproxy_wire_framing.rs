//! Streams of requests: however they are cut, the same bytes pass as the same messages; and a second decoder
//! agrees on where each body ends.

#![no_main]

use fuzz::{Input, chunks};
use libfuzzer_sys::fuzz_target;
use netproxy::wire::framing::{Framer, Step};
use netproxy::wire::head::Framing;

const HEAD_BYTES_MAX: usize = 512;

/// What became of a stream.
#[derive(Debug, Default, PartialEq, Eq)]
struct Outcome {
    /// Offset behind each head, how its body is framed, and the offset behind the body, if it came to that.
    messages: Vec<(usize, Framing, Option<usize>)>,
    /// Bytes that passed.
    passed: usize,
    refused: bool,
}

fuzz_target!(|bytes: &[u8]| {
    let mut input = Input(bytes);
    let cuts = input.piece();
    let whole = run(&[input.0], false);
    let single: Vec<&[u8]> = input.0.chunks(1).collect();
    for (chunks, skip) in [(chunks(input.0, cuts), false), (chunks(input.0, cuts), true), (single, false)] {
        assert_eq!(run(&chunks, skip), whole);
    }
    for (start, framing, end) in &whole.messages {
        let body = &input.0[*start..];
        let expected = match framing {
            Framing::None => Some(0),
            Framing::Length(length) => usize::try_from(*length).ok().filter(|length| *length <= body.len()),
            Framing::Chunked => chunked_bytes(body),
        };
        if let Some(end) = end {
            assert_eq!(expected, Some(end - start), "the body ends elsewhere");
        }
    }
});

/// Feeds the chunks; with `skip`, bytes that need no looking at are not shown.
fn run(chunks: &[&[u8]], skip: bool) -> Outcome {
    let mut framer = Framer::new(HEAD_BYTES_MAX);
    let mut outcome = Outcome::default();
    let mut held: Vec<u8> = Vec::new();
    for chunk in chunks {
        held.extend_from_slice(chunk);
        loop {
            if skip && framer.opaque_bytes() > 0 {
                let count = usize::try_from(framer.opaque_bytes()).unwrap_or(usize::MAX).min(held.len());
                framer.passed(u64::try_from(count).unwrap());
                outcome.pass(&mut held, count, &framer);
                if held.is_empty() {
                    break;
                }
            }
            let head = match framer.step(&held) {
                Ok(Step::Need) => break,
                Ok(Step::Pass(count)) => {
                    assert!(count > 0, "nothing passes and nothing is needed");
                    outcome.pass(&mut held, count, &framer);
                    continue;
                }
                Ok(Step::Head { length, framing, connect }) => (length, framing, connect),
                Err(_) => {
                    outcome.refused = true;
                    return outcome;
                }
            };
            let (length, framing, connect) = head;
            assert!(length <= HEAD_BYTES_MAX && framer.at_boundary());
            assert!(!connect || framing == Framing::None);
            framer.accept_head(framing);
            held.drain(..length);
            outcome.passed += length;
            let empty = framer.at_boundary().then_some(outcome.passed);
            outcome.messages.push((outcome.passed, framing, empty));
        }
    }
    outcome
}

impl Outcome {
    fn pass(&mut self, held: &mut Vec<u8>, count: usize, framer: &Framer) {
        held.drain(..count);
        self.passed += count;
        if framer.at_boundary() {
            let last = self.messages.last_mut().expect("a body belongs to a head");
            assert_eq!(last.2.replace(self.passed), None, "a message ends twice");
        }
    }
}

/// Bytes of a chunked body with its trailers, as plainly as RFC 9112 §7.1 can be read.
fn chunked_bytes(body: &[u8]) -> Option<usize> {
    let line_at = |at: usize| {
        let rest = body.get(at..)?;
        Some(&rest[..rest.windows(2).position(|pair| pair == b"\r\n")?])
    };
    let mut at = 0;
    loop {
        let line = line_at(at)?;
        at += line.len() + 2;
        let digits = std::str::from_utf8(line.split(|byte| *byte == b';').next()?).ok()?;
        let size = usize::from_str_radix(digits, 16).ok()?;
        if size == 0 {
            break;
        }
        at = at.checked_add(size)?;
        if body.get(at..)?.get(..2)? != b"\r\n" {
            return None;
        }
        at += 2;
    }
    loop {
        let line = line_at(at)?;
        at += line.len() + 2;
        if line.is_empty() {
            return Some(at);
        }
    }
}
