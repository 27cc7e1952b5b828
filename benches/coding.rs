//! Bytes per second out of each decoder: answers of a model's API, encoded, in chunks of 16 KiB.

use std::io::Write;

use bytes::Bytes;
use divan::counter::BytesCount;
use divan::{Bencher, black_box};
use flate2::Compression;
use flate2::write::GzEncoder;
use netproxy::coding::{Coding, Decoder, Room};
use netproxy::limits::CODING_BYTES_MAX;

fn main() {
    divan::main();
}

const CHUNK_BYTES: usize = 16 * 1024;
const BODY_BYTES: usize = 1024 * 1024;

/// Events whose texts differ: about six times smaller when encoded.
fn body() -> Vec<u8> {
    let words =
        ["the ", "quick ", "brown ", "fox ", "jumps ", "over ", "lazy ", "dog\\u2014", "return ", "None\\n"];
    let (mut body, mut state) = (Vec::new(), 1u32);
    while body.len() < BODY_BYTES {
        let text: String = (0..4)
            .map(|_| {
                state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                words[(state >> 24) as usize % words.len()]
            })
            .collect();
        let _ = writeln!(body, "data: {{\"index\":{},\"delta\":{{\"text\":\"{text}\"}}}}\n", state >> 16);
    }
    body.truncate(BODY_BYTES);
    body
}

fn encoded(coding: Coding, body: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    match coding {
        Coding::Gzip | Coding::Deflate => {
            let mut encoder = GzEncoder::new(&mut out, Compression::default());
            encoder.write_all(body).expect("memory");
            encoder.finish().expect("memory");
        }
        Coding::Brotli => {
            let params = brotli::enc::BrotliEncoderParams { quality: 5, lgwin: 22, ..Default::default() };
            brotli::BrotliCompress(&mut &*body, &mut out, &params).expect("memory");
        }
        Coding::Zstd => {
            out.resize(zstd_safe::compress_bound(body.len()), 0);
            let length = zstd_safe::compress(out.as_mut_slice(), body, 3).expect("memory");
            out.truncate(length);
        }
    }
    out
}

#[divan::bench(args = ["gzip", "br", "zstd"])]
fn decode(bencher: Bencher<'_, '_>, name: &str) {
    let coding = Coding::named(name).expect("a coding");
    let body = body();
    let encoded = Bytes::from(encoded(coding, &body));
    let room = Room::new(CODING_BYTES_MAX);
    bencher.counter(BytesCount::new(body.len())).bench_local(|| {
        let mut decoder = Decoder::new(&[coding], None, &room).expect("room").expect("a coding");
        let (mut at, mut written) = (0, 0);
        while at < encoded.len() {
            let end = (at + CHUNK_BYTES).min(encoded.len());
            decoder.push(black_box(encoded.slice(at..end)));
            at = end;
            while let Some(piece) = decoder.pull().expect("well-formed") {
                written += black_box(piece).len();
            }
        }
        decoder.finish().expect("whole");
        assert_eq!(written, body.len());
    });
}
