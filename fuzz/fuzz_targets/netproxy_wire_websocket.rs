//! Frames of a WebSocket server: however they are cut, the same passes; what passes is well-formed, and no message
//! in it has the secret.

#![no_main]

use std::cell::RefCell;
use std::rc::Rc;

use fuzz::{chunks, contains};
use libfuzzer_sys::fuzz_target;
use netproxy::wire::websocket::{MessageFilter, ServerFrames, WebSocketError};

const SECRET: &[u8] = b"key";

/// Takes the secret out, and holds back what could be its start.
#[derive(Default)]
struct Scrub(Vec<u8>);

impl MessageFilter for Scrub {
    fn piece(&mut self, piece: &[u8]) -> Vec<u8> {
        self.0.extend_from_slice(piece);
        let mut passes = Vec::new();
        while let Some(at) = self.0.windows(SECRET.len()).position(|window| window == SECRET) {
            passes.extend(self.0.drain(..at));
            passes.extend_from_slice(b"<gone>");
            self.0.drain(..SECRET.len());
        }
        let keep = (1..SECRET.len()).rev().find(|n| self.0.ends_with(&SECRET[..*n])).unwrap_or(0);
        passes.extend(self.0.drain(..self.0.len() - keep));
        passes
    }
    fn end(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.0)
    }
}

/// Keeps whole messages, in the order in which they end.
struct Keep(Vec<u8>, Rc<RefCell<Vec<Vec<u8>>>>);

impl MessageFilter for Keep {
    fn piece(&mut self, piece: &[u8]) -> Vec<u8> {
        self.0.extend_from_slice(piece);
        piece.to_vec()
    }
    fn end(&mut self) -> Vec<u8> {
        self.1.borrow_mut().push(std::mem::take(&mut self.0));
        Vec::new()
    }
}

fn scrubbed(pieces: &[&[u8]]) -> (Vec<u8>, Result<(), WebSocketError>) {
    let (mut frames, mut out) = (ServerFrames::new(Scrub::default(), Scrub::default()), Vec::new());
    let end = pieces.iter().try_for_each(|piece| frames.push(piece, &mut out));
    (out, end)
}

fn messages(wire: &[u8]) -> Result<Vec<Vec<u8>>, WebSocketError> {
    let kept = Rc::new(RefCell::new(Vec::new()));
    let keep = || Keep(Vec::new(), Rc::clone(&kept));
    let mut frames = ServerFrames::new(keep(), keep());
    frames.push(wire, &mut Vec::new())?;
    drop(frames);
    Ok(Rc::try_unwrap(kept).unwrap_or_default().into_inner())
}

fuzz_target!(|input: (&[u8], &[u8])| {
    let (cuts, wire) = input;
    let (whole, end) = scrubbed(&[wire]);
    let (cut, cut_end) = scrubbed(&chunks(wire, cuts));
    assert_eq!(end, cut_end, "a cut changes what is refused");
    let messages_whole = messages(&whole).expect("what passes is well-formed");
    assert_eq!(
        messages_whole,
        messages(&cut).expect("what passes is well-formed"),
        "a cut changes what passes"
    );
    for message in &messages_whole {
        assert!(!contains(message, SECRET), "the secret has passed");
    }
});
