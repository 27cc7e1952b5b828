//! Bodies that are signed piece by piece: what comes out does not depend on how the stream was cut, holds the same data
//! in the same sizes, is as long as what went in, and signed once more is itself.

#![no_main]

use credvault::limits::{AWS_CHUNK_BYTES_MAX, AWS_CHUNK_HEAD_BYTES_MAX};
use credvault::{ChunkError, ChunkResigner, SigV4};
use fuzz::{Input, chunks};
use libfuzzer_sys::fuzz_target;

const SECRET: &[u8] = b"wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY";
const SEED: &str = "4f232c4386841ef735655705268965c44a0e4690baa4adea153f7db9fa80a0a9";
const CREDENTIAL: &str = "AKIAIOSFODNN7EXAMPLE/20130524/us-east-1/s3/aws4_request";
const NAME: &[u8] = b";chunk-signature=";

fuzz_target!(|bytes: &[u8]| {
    let mut input = Input(bytes);
    let cuts = input.piece();
    let text = if input.below(4) == 0 { input.0.to_vec() } else { stream(&mut input) };
    let shown = text.escape_ascii();

    let (result, out) = resigned(&[&text]);
    for pieces in [chunks(&text, cuts), text.chunks(1 + text.len() / 64).collect()] {
        assert_eq!(resigned(&pieces), (result, out.clone()), "{shown} as {pieces:?}");
    }
    let (expected, sent) = read(&text);
    assert_eq!(result, expected, "{shown}");
    // Whatever came before a fault was whole.
    let (again, signed) = read(&out);
    let is_whole = matches!(again, Ok(()) | Err(ChunkError::Truncated));
    assert!(is_whole && (result.is_err() || again.is_ok()), "{shown}");
    let unsigned =
        |all: &[Chunk<'_>]| all.iter().map(|(size, _, data)| (size.to_vec(), data.to_vec())).collect();
    let [sent_data, signed_data]: [Vec<_>; 2] = [unsigned(&sent), unsigned(&signed)];
    assert_eq!(sent_data, signed_data, "{shown}");
    // No signature of the client's is left, and none is made twice: each covers the one before.
    for (place, (_, signature, _)) in signed.iter().enumerate() {
        let mut others = sent.iter().chain(&signed[..place]).map(|(_, other, _)| other);
        assert!(others.all(|other| other != signature) || out == text, "{shown}");
    }
    if result.is_ok() {
        assert_eq!(out.len(), text.len(), "{shown}");
        assert_eq!(resigned(&[&out]), (Ok(()), out.clone()), "{shown}");
    }
});

fn resigned(pieces: &[&[u8]]) -> (Result<(), ChunkError>, Vec<u8>) {
    let sig = SigV4::new(Some(CREDENTIAL), Some("host"), "20130524T000000Z").expect("a published example");
    let (mut resigner, mut out) = (ChunkResigner::new(&sig, SECRET, SEED), Vec::new());
    let pushed = pieces.iter().try_for_each(|piece| resigner.push(piece, &mut out));
    (pushed.and_then(|()| resigner.finish()), out)
}

/// Size as it is written, signature, data.
type Chunk<'t> = (&'t [u8], &'t [u8], &'t [u8]);

/// The form, written down a second time: over the whole text, and by splitting it.
fn read(text: &[u8]) -> (Result<(), ChunkError>, Vec<Chunk<'_>>) {
    let (mut rest, mut all) = (text, Vec::<Chunk<'_>>::new());
    loop {
        let ended = all.last().is_some_and(|(_, _, data)| data.is_empty());
        if rest.is_empty() || ended {
            let result = match (rest.is_empty(), ended) {
                (true, true) => Ok(()),
                (true, false) => Err(ChunkError::Truncated),
                _ => Err(ChunkError::Form),
            };
            return (result, all);
        }
        match chunk(rest) {
            Ok((chunk, after)) => {
                all.push(chunk);
                rest = after;
            }
            Err(error) => return (Err(error), all),
        }
    }
}

fn chunk(text: &[u8]) -> Result<(Chunk<'_>, &[u8]), ChunkError> {
    let Some(end) = text.windows(2).take(AWS_CHUNK_HEAD_BYTES_MAX + 1).position(|pair| pair == b"\r\n")
    else {
        let is_long = text.len() > AWS_CHUNK_HEAD_BYTES_MAX + 1;
        return Err(if is_long { ChunkError::Form } else { ChunkError::Truncated });
    };
    let (line, rest) = (&text[..end], &text[end + 2..]);
    let equals = line.len().checked_sub(64).ok_or(ChunkError::Form)?;
    let (before, signature) = line.split_at(equals);
    let size = before.strip_suffix(NAME).ok_or(ChunkError::Form)?;
    if size.is_empty() || !size.iter().chain(signature).all(u8::is_ascii_hexdigit) {
        return Err(ChunkError::Form);
    }
    let value = size.iter().fold(0u128, |sum, digit| {
        let digit = char::from(*digit).to_digit(16).expect("a hexadecimal digit");
        sum.saturating_mul(16).saturating_add(u128::from(digit))
    });
    let count = usize::try_from(value).ok().filter(|count| *count <= AWS_CHUNK_BYTES_MAX);
    let count = count.ok_or(ChunkError::TooLarge)?;
    let (data, rest) = rest.split_at_checked(count).ok_or(ChunkError::Truncated)?;
    let line_end = rest.get(..2).ok_or(ChunkError::Truncated)?;
    if line_end != b"\r\n" {
        return Err(ChunkError::Form);
    }
    Ok(((size, signature, data), &rest[2..]))
}

/// Mostly right.
fn stream(input: &mut Input<'_>) -> Vec<u8> {
    let mut text = Vec::new();
    while !input.is_empty() && text.len() < 4096 {
        let kind = input.u8();
        let data = input.piece();
        let size = format!("{:x}", data.len() ^ usize::from(kind == 1));
        let zeros = "0".repeat(match kind {
            2 => input.below(128),
            _ => usize::from(kind & 3),
        });
        text.extend_from_slice(zeros.as_bytes());
        text.extend_from_slice(if kind & 4 == 0 { size } else { size.to_uppercase() }.as_bytes());
        text.extend_from_slice(if kind == 3 { input.piece() } else { NAME });
        text.extend_from_slice("0123456789abcdef".repeat(4).as_bytes());
        text.extend_from_slice(if kind == 8 { input.piece() } else { b"\r\n" });
        text.extend_from_slice(data);
        text.extend_from_slice(if kind == 9 { input.piece() } else { b"\r\n" });
    }
    text
}
