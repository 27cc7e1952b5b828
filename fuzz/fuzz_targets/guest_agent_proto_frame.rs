//! Frames of the agent's protocol: both readers agree, what is read is written as the same bytes, and no
//! length is believed.

#![no_main]

use guest_agent::proto::frame::{self, Split};
use guest_agent::proto::io::{self, StreamError};
use guest_agent::proto::{Hello, clean_text};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let mut rest = bytes;
    let mut stream = bytes;
    let mut payload = Vec::new();
    loop {
        let received = io::receive(&mut stream, &mut payload);
        assert!(payload.capacity() <= 2 * bytes.len().max(128 * 1024), "memory for a claimed length");
        match frame::split(rest) {
            Ok(Split::Frame { kind, payload: found, used }) => {
                assert!(found.len() <= kind.payload_bytes_max());
                assert_eq!(received.expect("a frame").expect("a frame"), kind);
                assert_eq!(payload, found);
                let mut again = Vec::new();
                frame::append(&mut again, kind, found).expect("what was read fits");
                assert_eq!(again, rest[..used]);
                rest = &rest[used..];
            }
            Ok(Split::Need(more)) => {
                assert!(more > 0);
                match received {
                    Ok(None) => assert!(rest.is_empty()),
                    Err(StreamError::Closed) => assert!(!rest.is_empty()),
                    other => panic!("{other:?}"),
                }
                break;
            }
            Err(_) => {
                assert!(matches!(received, Err(StreamError::Wire(_))));
                break;
            }
        }
    }
    if let Ok(agreed) = io::receive_hello(&mut &bytes[..]) {
        assert!((Hello::OURS.oldest..=Hello::OURS.newest).contains(&agreed));
    }
    let shown = clean_text(&String::from_utf8_lossy(bytes));
    assert!(!shown.contains(char::is_control));
});
