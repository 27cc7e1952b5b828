//! Runs `testdata/redaction.toml` in one piece, byte by byte, and in every split in two.

use std::sync::Arc;

use credvault::{ScrubSet, Scrubber, Secret};

#[derive(serde::Deserialize)]
struct Cases {
    case: Vec<Case>,
}

#[derive(serde::Deserialize)]
struct Case {
    name: String,
    secret: String,
    input: String,
    expect: String,
}

fn run(set: &Arc<ScrubSet>, chunks: &[&[u8]]) -> String {
    let (mut scrubber, mut out) = (Scrubber::new(Arc::clone(set)), Vec::new());
    chunks.iter().for_each(|chunk| scrubber.push(chunk, &mut out));
    scrubber.finish(&mut out);
    String::from_utf8(out).expect("cases are text")
}

#[test]
fn every_case_in_every_chunking() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../testdata/redaction.toml");
    let cases: Cases = toml::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
    assert!(cases.case.len() >= 12);
    for Case { name, secret, input, expect } in cases.case {
        let secret = Secret::new(secret.into_bytes());
        let set = ScrubSet::new([(&secret, &b"[key]"[..])]);
        let input = input.as_bytes();
        assert_eq!(run(&set, &[input]), expect, "{name}, in one piece");
        assert_eq!(run(&set, &input.chunks(1).collect::<Vec<_>>()), expect, "{name}, byte by byte");
        for at in 0..input.len() {
            let (a, b) = input.split_at(at);
            assert_eq!(run(&set, &[a, b]), expect, "{name}, split at {at}");
        }
    }
}
