//! Content codings by themselves: what is decoded, what is refused, and what it costs.

use std::io::Write as _;

use bytes::Bytes;
use flate2::Compression;
use flate2::write::DeflateEncoder;
use netproxy::coding::{Coding, CodingError, Decoder, Room};
use netproxy::limits::{
    CODING_BYTES_MAX, CODING_MIDDLE_FREE_BYTES, CODING_PIECE_BYTES, CODING_RATIO_FREE_BYTES, CODING_STEPS_MAX,
};
use zstd_safe::CParameter;

use crate::coded::{brotli_encoder, encode, encode_flushed, zstd_flushed};
use crate::http2::memory::{Growth, growth_kib, scene};

fn room() -> Room {
    Room::new(CODING_BYTES_MAX)
}

/// Everything that comes out of these chunks before the first error.
fn decode<'a>(
    codings: &[Coding],
    chunks: impl IntoIterator<Item = &'a [u8]>,
) -> (Vec<u8>, Result<(), CodingError>) {
    let room = room();
    let mut decoder = Decoder::new(codings, None, &room).unwrap().unwrap();
    let mut out = Vec::new();
    let run = || {
        for chunk in chunks {
            decoder.push(Bytes::copy_from_slice(chunk));
            while let Some(piece) = decoder.pull()? {
                assert!(piece.len() <= CODING_PIECE_BYTES);
                out.extend_from_slice(&piece);
            }
        }
        decoder.finish()
    };
    let end = run();
    drop(decoder);
    assert_eq!(room.free(), CODING_BYTES_MAX);
    (out, end)
}

/// Compressible, but not only; longer than a window of DEFLATE.
fn body() -> Vec<u8> {
    let mut state = 1u32;
    let mut noise = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        state >> 24
    };
    let mut body = Vec::new();
    while body.len() < 150_000 {
        let word = format!("data: {{\"delta\": \"{}\"}}\n", noise());
        body.extend_from_slice(word.as_bytes());
        body.extend((0..noise() % 40).map(|_| noise().to_le_bytes()[0]));
    }
    body
}

#[test]
fn each_coding_and_two_of_them_are_decoded_however_they_are_cut() {
    let whole = body();
    let mut all: Vec<Vec<Coding>> = Coding::ALL.iter().map(|one| vec![*one]).collect();
    for first in Coding::ALL {
        all.extend(Coding::ALL.map(|second| vec![first, second]));
    }
    for codings in all {
        let body = if codings.len() == 1 { whole.clone() } else { whole[..10_000].to_vec() };
        let encoded = codings.iter().fold(body.clone(), |bytes, coding| encode(*coding, &bytes));
        for size in [1, 7, 1000, encoded.len()] {
            let (out, end) = decode(&codings, encoded.chunks(size));
            assert!(out == body && end == Ok(()), "{codings:?} in chunks of {size}: {end:?}");
        }
    }
}

/// A body that ends where the room for a piece does ends there all the same.
#[test]
fn a_body_of_any_length_is_whole() {
    let whole = body();
    for length in (1..=16).map(|kib| kib * 1024).chain([31, 32, 64, 128].map(|kib| kib * 1024)) {
        for coding in Coding::ALL {
            let encoded = encode(coding, &whole[..length]);
            for size in [64, encoded.len()] {
                let (out, end) = decode(&[coding], encoded.chunks(size));
                assert!(
                    out == whole[..length] && end == Ok(()),
                    "{coding}, {length} in chunks of {size}: {end:?}"
                );
            }
        }
    }
}

/// What lies between two codings is bounded, too, and no call does all of it.
#[test]
fn what_decodes_to_little_by_way_of_much_is_refused_and_done_in_turns() {
    for member in [b"".as_slice(), b"x"] {
        for outer in Coding::ALL {
            let encoded = encode(outer, &encode(Coding::Gzip, member).repeat(100_000));
            let (out, end) = decode(&[Coding::Gzip, outer], [&encoded[..]]);
            assert_eq!(end, Err(CodingError::TooDense), "{outer}");
            assert!(out.len() <= CODING_MIDDLE_FREE_BYTES as usize, "{outer}");
        }
    }
    // What is only stored in between is as much as comes out.
    let log: Vec<u8> = (0..40_000).flat_map(|n| format!("GET /{n} 200\n").into_bytes()).collect();
    let mut stored = flate2::write::GzEncoder::new(Vec::new(), Compression::none());
    stored.write_all(&log).unwrap();
    let stored = stored.finish().unwrap();
    for outer in Coding::ALL {
        let (out, end) = decode(&[Coding::Gzip, outer], [&encode(outer, &stored.repeat(8))[..]]);
        assert!(out == log.repeat(8) && end == Ok(()), "{outer}: {end:?}");
    }
    let inner = encode(Coding::Gzip, b"x").repeat(5_000);
    let mut decoder = Decoder::new(&[Coding::Gzip, Coding::Gzip], None, &room()).unwrap().unwrap();
    decoder.push(encode(Coding::Gzip, &inner).into());
    let mut pulled = Vec::new();
    while let Some(piece) = decoder.pull().unwrap() {
        assert!(piece.len() <= CODING_STEPS_MAX);
        pulled.extend_from_slice(&piece);
    }
    assert_eq!((pulled, decoder.finish()), (vec![b'x'; 5_000], Ok(())));
}

#[test]
fn what_was_flushed_comes_out_before_the_next_chunk_is_here() {
    let events: Vec<Vec<u8>> =
        (0..40).map(|n| format!("data: event {n} {}\n\n", "x".repeat(n * n)).into_bytes()).collect();
    let pieces: Vec<&[u8]> = events.iter().map(Vec::as_slice).collect();
    for coding in Coding::ALL {
        let chunks = encode_flushed(coding, &pieces);
        let mut decoder = Decoder::new(&[coding], None, &room()).unwrap().unwrap();
        for (chunk, event) in chunks.iter().zip(&events) {
            decoder.push(Bytes::copy_from_slice(chunk));
            let mut out = Vec::new();
            while let Some(piece) = decoder.pull().unwrap() {
                out.extend_from_slice(&piece);
            }
            assert_eq!(&out, event, "{coding}");
        }
    }
}

#[test]
fn a_body_that_is_cut_short_is_never_taken_for_whole() {
    let body = b"the quick brown fox jumps over the lazy dog, the quick brown fox".as_slice();
    for coding in Coding::ALL {
        let encoded = encode(coding, body);
        for length in 1..encoded.len() {
            let (out, end) = decode(&[coding], [&encoded[..length]]);
            assert_eq!(end, Err(CodingError::Truncated(coding)), "{coding} cut at {length}");
            assert!(body.starts_with(&out));
        }
        assert_eq!(decode(&[coding], [b"".as_slice()]), (Vec::new(), Ok(())));
        let twice = encode(Coding::Gzip, &encoded[..encoded.len() - 1]);
        assert_eq!(
            decode(&[coding, Coding::Gzip], [twice.as_slice()]).1,
            Err(CodingError::Truncated(coding))
        );
    }
}

#[test]
fn other_bytes_after_the_end_are_refused() {
    for coding in Coding::ALL {
        for more in [b"\0".as_slice(), b"GIF89a", b"\x1f", b"\x28\xb5\x2f"] {
            let encoded = [encode(coding, b"whole"), more.to_vec()].concat();
            for size in [1, encoded.len()] {
                let (out, end) = decode(&[coding], encoded.chunks(size));
                assert!(end.is_err() && b"whole".starts_with(&out), "{coding} with {more:?}: {end:?}");
            }
        }
        // A second body after the first one is allowed by gzip and zstd only.
        let twice = [encode(coding, b"one "), encode(coding, b"two")].concat();
        let expected = match coding {
            Coding::Gzip | Coding::Zstd => Ok(()),
            _ => Err(CodingError::Trailing(coding)),
        };
        for size in [1, 5, twice.len()] {
            let (out, end) = decode(&[coding], twice.chunks(size));
            assert_eq!(end, expected, "{coding}");
            assert!(end.is_err() || out == b"one two");
        }
    }
}

#[test]
fn no_changed_bit_goes_unnoticed_where_there_is_a_checksum() {
    let body = b"a secret is not to be found in here, nor is it here";
    for coding in [Coding::Gzip, Coding::Deflate, Coding::Zstd] {
        let encoded = encode(coding, body);
        let mut noticed = 0;
        for bit in 0..encoded.len() * 8 {
            let mut changed = encoded.clone();
            changed[bit / 8] ^= 1 << (bit % 8);
            let (out, end) = decode(&[coding], [changed.as_slice()]);
            // Bits without a meaning to us: time and system in the head of gzip.
            assert!(end.is_err() || out == body, "{coding}: bit {bit}");
            noticed += usize::from(end.is_err());
        }
        assert!(noticed > body.len() * 4, "{coding}");
    }
}

#[test]
fn bodies_that_grow_without_measure_are_refused() {
    let zeros = vec![0; 64 * 1024 * 1024];
    for coding in [Coding::Brotli, Coding::Zstd] {
        let (out, end) = decode(&[coding], [encode(coding, &zeros).as_slice()]);
        assert_eq!(end, Err(CodingError::TooDense), "{coding}");
        let most = usize::try_from(CODING_RATIO_FREE_BYTES).unwrap() + CODING_PIECE_BYTES;
        assert!(out.len() <= most, "{coding} gave {}", out.len());
    }
    let once = encode(Coding::Gzip, &zeros);
    assert_eq!(decode(&[Coding::Gzip], [once.as_slice()]).1, Ok(()), "as dense as DEFLATE can be");
    let twice = encode(Coding::Gzip, &once);
    assert_eq!(decode(&[Coding::Gzip, Coding::Gzip], [twice.as_slice()]).1, Err(CodingError::TooDense));
}

#[test]
fn bytes_that_mean_nothing_are_not_read_for_ever() {
    let empty_members = encode(Coding::Gzip, b"").repeat(60_000);
    assert_eq!(decode(&[Coding::Gzip], empty_members.chunks(4096)).1, Err(CodingError::Barren));
    let name = [b"\x1f\x8b\x08\x08\0\0\0\0\0\0".as_slice(), &b"n".repeat(2 * 1024 * 1024)].concat();
    assert_eq!(decode(&[Coding::Gzip], name.chunks(4096)).1, Err(CodingError::Barren));
    let skipped = [b"\x50\x2a\x4d\x18\xff\xff\xff\x7f".as_slice(), &[7; 2 * 1024 * 1024]].concat();
    assert_eq!(decode(&[Coding::Zstd], skipped.chunks(4096)).1, Err(CodingError::Barren));
}

#[test]
fn windows_are_as_large_as_http_allows_and_no_larger() {
    let body = body();
    for (log, ok) in [(10, true), (23, true), (24, false), (27, false)] {
        let encoded = zstd_flushed(&[CParameter::WindowLog(log)], &[&body]).concat();
        let expected = if ok { Ok(()) } else { Err(CodingError::WindowTooLarge(Coding::Zstd)) };
        assert_eq!(decode(&[Coding::Zstd], encoded.chunks(4096)).1, expected, "{log} bits");
    }
    for bits in 10..=24 {
        let mut encoder = brotli_encoder(bits);
        encoder.write_all(&body).unwrap();
        let (out, end) = decode(&[Coding::Brotli], encoder.into_inner().chunks(4096));
        assert!(end == Ok(()) && out == body, "{bits} bits");
    }
    // 0b0010001: a "large window" follows.
    assert_eq!(
        decode(&[Coding::Brotli], [b"\x11\x1e".as_slice()]).1,
        Err(CodingError::WindowTooLarge(Coding::Brotli))
    );
}

#[test]
fn zstd_frames_that_are_skipped_or_follow_are_read() {
    let skip = b"\x5a\x2a\x4d\x18\x03\0\0\0abc".as_slice();
    let one = encode(Coding::Zstd, b"one ");
    let two = zstd_flushed(&[CParameter::WindowLog(20)], &[b"two"]).concat();
    let whole = [skip, &one, skip, &two, skip].concat();
    for size in [1, 3, whole.len()] {
        assert_eq!(decode(&[Coding::Zstd], whole.chunks(size)), (b"one two".to_vec(), Ok(())));
    }
    let dictionary = b"\x28\xb5\x2f\xfd\x21\x07\x03\x19\0\0abc";
    assert!(decode(&[Coding::Zstd], [dictionary.as_slice()]).1.is_err());
}

#[test]
fn deflate_is_read_with_and_without_its_wrapping() {
    let mut bare = DeflateEncoder::new(Vec::new(), Compression::default());
    bare.write_all(b"hello hello hello").unwrap();
    let bare = bare.finish().unwrap();
    let stored = b"\x01\x05\0\xfa\xffhello".to_vec();
    for (encoded, expected) in [(bare, "hello hello hello"), (stored, "hello")] {
        for size in [1, 2, 3, encoded.len()] {
            let (out, end) = decode(&[Coding::Deflate], encoded.chunks(size));
            assert_eq!((out.as_slice(), end), (expected.as_bytes(), Ok(())), "{expected} by {size}");
        }
    }
    // The smallest whole body: two bytes.
    assert_eq!(decode(&[Coding::Deflate], [b"\x03\0".as_slice()]), (Vec::new(), Ok(())));
    let mut with_dictionary = encode(Coding::Deflate, b"hello");
    with_dictionary[1] = 0xbb;
    assert!(decode(&[Coding::Deflate], [with_dictionary.as_slice()]).1.is_err());
}

#[test]
fn the_head_of_gzip_is_read_to_the_letter() {
    let body = encode(Coding::Gzip, b"hello")[10..].to_vec();
    let head = |flags: u8, more: &[u8]| {
        let mut head = [b"\x1f\x8b\x08".as_slice(), &[flags], b"\0\0\0\0\0\x03", more].concat();
        if flags & 2 != 0 {
            let mut crc = flate2::Crc::new();
            crc.update(&head);
            head.extend_from_slice(&crc.sum().to_le_bytes()[..2]);
        }
        head
    };
    let full = head(0x1f, b"\x04\0abcdname\0comment\0");
    for whole in [full.clone(), head(0x04, b"\0\0"), head(0x10, b"\0"), head(0x02, b""), head(0x01, b"")] {
        let whole = [whole, body.clone()].concat();
        let twice = whole.repeat(2);
        for size in [1, whole.len()] {
            assert_eq!(decode(&[Coding::Gzip], twice.chunks(size)), (b"hellohello".to_vec(), Ok(())));
        }
    }
    let mut wrong_crc = full.clone();
    *wrong_crc.last_mut().unwrap() ^= 1;
    for wrong in [wrong_crc, head(0x20, b""), b"\x1f\x8b\x07\0\0\0\0\0\0\x03".to_vec(), b"PK".to_vec()] {
        let whole = [wrong, body.clone()].concat();
        assert_eq!(decode(&[Coding::Gzip], [whole.as_slice()]).1, Err(CodingError::Malformed(Coding::Gzip)));
    }
}

#[test]
fn memory_is_taken_before_it_is_used_and_what_is_not_needed_is_given_back() {
    for (coding, encoded) in [
        (Coding::Brotli, {
            let mut encoder = brotli_encoder(16);
            encoder.write_all(&body()).unwrap();
            encoder.into_inner()
        }),
        (Coding::Zstd, zstd_flushed(&[CParameter::WindowLog(16)], &[&body()]).concat()),
    ] {
        let room = Room::new(coding.bytes_max());
        let mut decoder = Decoder::new(&[coding], None, &room).unwrap().unwrap();
        assert_eq!(room.free(), 0);
        assert_eq!(Decoder::new(&[Coding::Gzip], None, &room).err(), Some(CodingError::NoRoom));
        decoder.push(encoded.into());
        assert!((0..2).all(|_| !decoder.pull().unwrap().unwrap().is_empty()));
        let left = coding.bytes_max() - room.free();
        assert!((64 * 1024..6 * 1024 * 1024).contains(&left), "{coding}: {left}");
        drop(decoder);
        assert_eq!(room.free(), coding.bytes_max());
    }
    // A second frame may need another window: that is taken anew, or refused.
    let frames = [encode(Coding::Zstd, b"one"), encode(Coding::Zstd, b"two")];
    let room = Room::new(Coding::Zstd.bytes_max());
    let mut decoder = Decoder::new(&[Coding::Zstd], None, &room).unwrap().unwrap();
    decoder.push(Bytes::from(frames[0].clone()));
    assert_eq!(decoder.pull().unwrap().unwrap(), "one");
    assert_eq!(decoder.pull().unwrap(), None);
    let other = room.take(room.free()).unwrap();
    assert_eq!(decoder.finish(), Ok(()));
    decoder.push(Bytes::from(frames[1].clone()));
    assert_eq!(decoder.pull(), Err(CodingError::NoRoom));
    drop(other);
}

#[test]
fn the_worst_that_decoders_use_at_once_is_what_was_set_aside() {
    if let Some(scene) = scene() {
        return hold_as_many_as_may_be(Coding::named(&scene).unwrap());
    }
    for coding in [Coding::Brotli, Coding::Zstd, Coding::Gzip] {
        let test = "coding::the_worst_that_decoders_use_at_once_is_what_was_set_aside";
        let grown = usize::try_from(growth_kib(test, coding.as_str())).unwrap() * 1024;
        // At least a third of it, or nothing was tested; the rest is the body itself.
        let most = CODING_BYTES_MAX + 8 * 1024 * 1024;
        assert!((CODING_BYTES_MAX / 3..most).contains(&grown), "{coding}: {grown} bytes");
    }
}

/// Decoders in the middle of bodies that fill the largest windows.
fn hold_as_many_as_may_be(coding: Coding) {
    let small = body();
    let large = small.repeat(18 * 1024 * 1024 / small.len());
    let encoded = match coding {
        Coding::Brotli => {
            let mut encoder = brotli_encoder(24);
            encoder.write_all(&large).unwrap();
            encoder.into_inner()
        }
        Coding::Zstd => zstd_flushed(&[CParameter::WindowLog(23)], &[&large]).concat(),
        _ => encode(coding, &small),
    };
    drop((small, large));
    let encoded = Bytes::from(encoded);
    let (growth, room) = (Growth::start(), room());
    let mut held = Vec::new();
    let error = loop {
        let mut decoder = match Decoder::new(&[coding], None, &room) {
            Ok(decoder) => decoder.unwrap(),
            Err(error) => break error,
        };
        decoder.push(encoded.slice(..encoded.len() - 1));
        while decoder.pull().unwrap().is_some() {}
        held.push(decoder);
    };
    assert_eq!(error, CodingError::NoRoom);
    growth.print();
    println!("{} decoders", held.len());
}
