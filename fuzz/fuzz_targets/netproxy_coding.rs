//! Encoded bodies: however they are cut, the same comes out; what was encoded comes out as it was; gzip as another
//! reader of it sees it; pieces and memory stay within their limits.

#![no_main]

use std::io::{Read, Write};

use bytes::Bytes;
use flate2::Compression;
use flate2::bufread::MultiGzDecoder;
use flate2::write::{GzEncoder, ZlibEncoder};
use fuzz::{Input, chunks};
use libfuzzer_sys::fuzz_target;
use netproxy::coding::{Coding, CodingError, Decoder, Room};
use netproxy::limits::{CODING_BYTES_MAX, CODING_PIECE_BYTES, CODING_RATIO_FREE_BYTES, CODING_RATIO_MAX};

fuzz_target!(|bytes: &[u8]| {
    let mut input = Input(bytes);
    let how = input.u8();
    let cuts = input.piece();
    let body = input.0;
    let coding = Coding::ALL[usize::from(how) % 4];
    let codings: &[Coding] = match how >> 2 & 3 {
        0 => &[coding],
        1 => &[coding, Coding::Gzip],
        2 => &[Coding::Deflate, coding],
        _ => return round_trip(how, body, cuts),
    };
    let (whole, end) = decode(codings, &[body]);
    for cut in [chunks(body, cuts), body.chunks(1).collect()] {
        let (out, cut_end) = decode(codings, &cut);
        assert_eq!(end.is_ok(), cut_end.is_ok(), "{codings:?}: a cut changes {end:?} to {cut_end:?}");
        assert!(end.is_err() || out == whole, "{codings:?}: a cut changes what comes out");
    }
    if codings == [Coding::Gzip] && end.is_ok() && !body.is_empty() {
        let mut other = Vec::new();
        MultiGzDecoder::new(body).read_to_end(&mut other).expect("another reader takes it too");
        assert_eq!(whole, other);
    }
});

fn round_trip(how: u8, body: &[u8], cuts: &[u8]) {
    // Longer than a piece, too.
    let body = body.repeat(1 + usize::from(how >> 4) * 4);
    let coding = Coding::ALL[usize::from(how) % 4];
    let encoded = encode(coding, &body);
    let (out, end) = decode(&[coding], &chunks(&encoded, cuts));
    assert_eq!((out.as_slice(), end), (body.as_slice(), Ok(())), "{coding}");
    let twice = encode(Coding::Deflate, &encoded);
    let (out, end) = decode(&[coding, Coding::Deflate], &chunks(&twice, cuts));
    assert_eq!((out.as_slice(), end), (body.as_slice(), Ok(())), "{coding}, deflate");
}

fn encode(coding: Coding, body: &[u8]) -> Vec<u8> {
    let mut encoded = Vec::new();
    match coding {
        Coding::Gzip => GzEncoder::new(&mut encoded, Compression::fast()).write_all(body),
        Coding::Deflate => ZlibEncoder::new(&mut encoded, Compression::fast()).write_all(body),
        Coding::Brotli => brotli::CompressorWriter::new(&mut encoded, 4096, 2, 18).write_all(body),
        Coding::Zstd => {
            encoded.reserve(zstd_safe::compress_bound(body.len()));
            zstd_safe::compress(&mut encoded, body, 1).expect("memory");
            Ok(())
        }
    }
    .expect("memory");
    encoded
}

fn decode(codings: &[Coding], chunks: &[&[u8]]) -> (Vec<u8>, Result<(), CodingError>) {
    let room = Room::new(CODING_BYTES_MAX);
    let mut decoder = Decoder::new(codings, None, &room).expect("room").expect("codings");
    let (mut out, mut read) = (Vec::new(), 0);
    let mut end = Ok(());
    'all: for chunk in chunks {
        decoder.push(Bytes::copy_from_slice(chunk));
        read += chunk.len() as u64;
        loop {
            match decoder.pull() {
                Ok(None) => break,
                Ok(Some(piece)) => {
                    assert!(piece.len() <= CODING_PIECE_BYTES);
                    out.extend_from_slice(&piece);
                    assert!(out.len() as u64 <= (read * CODING_RATIO_MAX).max(CODING_RATIO_FREE_BYTES));
                }
                Err(error) => {
                    end = Err(error);
                    break 'all;
                }
            }
        }
    }
    let end = end.and_then(|()| decoder.finish());
    drop(decoder);
    assert_eq!(room.free(), CODING_BYTES_MAX);
    (out, end)
}
