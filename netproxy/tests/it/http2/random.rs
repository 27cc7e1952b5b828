//! Frames at random, well-formed ones among them: the upstream never sees a request that was not asked about.

use std::collections::HashSet;
use std::sync::{Arc, Mutex};

use netproxy::HostName;
use netproxy::hooks::*;
use tokio::io::AsyncWriteExt;

use super::frames::*;
use super::{H2, client, upstream};
use crate::hooks::Rules;
use crate::world::{NAMES, World};

/// Notes what was allowed.
struct Noting(Rules, Arc<Mutex<HashSet<String>>>);

impl Authorize for Noting {
    fn connect(&self, facts: &ConnectFacts<'_>) -> Verdict {
        self.0.connect(facts)
    }
    fn request(&self, facts: &RequestFacts<'_>) -> Verdict {
        let verdict = self.0.request(facts);
        if let Verdict::Allow(_) = verdict {
            self.1.lock().unwrap().insert(format!("{} {}", facts.method, facts.path));
        }
        verdict
    }
    fn dns_name(&self, name: &HostName) -> Verdict {
        self.0.dns_name(name)
    }
    fn address(&self, facts: &AddressFacts<'_>) -> bool {
        self.0.address(facts)
    }
}

/// xorshift64: the same numbers in every run.
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, end: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 % u64::try_from(end).unwrap()).unwrap()
    }

    fn one<'a>(&mut self, of: &[&'a str]) -> &'a str {
        of[self.below(of.len())]
    }

    fn byte(&mut self) -> u8 {
        u8::try_from(self.below(256)).unwrap()
    }
}

fn head(numbers: &mut Numbers, target: &str) -> Vec<u8> {
    let paths = ["/", "/a", "/b?x", "/private/x", "/%70rivate", "/a/../private", "//private", "*", "/upload"];
    let methods = ["GET", "POST", "DELETE", "CONNECT", "get", "G ET"];
    let authorities = [target, "evil.example", "ok.example", ""];
    let extras = ["x-a", "host", "content-length", "te", "connection", ":path", "cookie", "Upper"];
    let mut list = vec![
        (":method", methods[numbers.below(3)]),
        (":scheme", "https"),
        (":authority", target),
        (":path", numbers.one(&paths)),
    ];
    match numbers.below(6) {
        0 => list[0].1 = numbers.one(&methods),
        1 => list[2].1 = numbers.one(&authorities),
        2 => drop(list.remove(numbers.below(4))),
        3 => list.swap(0, 3),
        _ => {}
    }
    for _ in 0..numbers.below(3) {
        list.push((numbers.one(&extras), numbers.one(&["1", "trailers", "a b", target, "/private"])));
    }
    fields(&list)
}

fn random_frame(numbers: &mut Numbers, target: &str) -> Vec<u8> {
    let stream = u32::try_from(numbers.below(8)).unwrap();
    let flags = numbers.byte() & [0xff, 5, 4, 1][numbers.below(4)];
    match numbers.below(8) {
        0..=3 => frame(HEADERS, END_HEADERS | flags & 1, stream * 2 + 1, &head(numbers, target)),
        4 => frame(CONTINUATION, flags, stream, &head(numbers, target)),
        5 => frame(DATA, flags & 1, stream, &vec![b'd'; numbers.below(50)]),
        6 => {
            let mut whole = frame(HEADERS, END_HEADERS | 1, stream * 2 + 1, &head(numbers, target));
            // Its length stays: else the last request would be swallowed, and waited for.
            let at = 3 + numbers.below(whole.len() - 3);
            whole[at] = numbers.byte();
            whole
        }
        _ => {
            let payload: Vec<u8> = (0..numbers.below(20)).map(|_| numbers.byte()).collect();
            frame(numbers.byte() % 12, flags, stream, &payload)
        }
    }
}

/// The stream of a good request after the others.
const LAST: u32 = 101;

#[tokio::test]
async fn the_upstream_sees_only_what_was_asked_about() {
    let allowed: Arc<Mutex<HashSet<String>>> = Arc::default();
    let tls = upstream::start(NAMES, &[H2]).await;
    let noting = Arc::clone(&allowed);
    let rules = |ports| Noting(Rules { ports }, noting);
    let world = World::build_over(tls, |names| names, rules, |builder| builder).await;
    let target = world.at("ok.example");
    let mut numbers = Numbers(0x9e37_79b9_7f4a_7c15);
    for _ in 0..600 {
        let mut tls = client::tls(&world, &target).await;
        let mut bytes = [PREFACE, &frame(SETTINGS, 0, 0, &[])].concat();
        for _ in 0..=numbers.below(6) {
            bytes.extend(random_frame(&mut numbers, &target));
        }
        let last = [(":method", "GET"), (":scheme", "https"), (":authority", &target), (":path", "/last")];
        bytes.extend(frame(HEADERS, END_HEADERS | 1, LAST, &fields(&last)));
        // It may have been closed in the middle.
        let _ = tls.write_all(&bytes).await;
        let _ = tls.flush().await;
        while let Some(got) = read_frame(&mut tls).await {
            if got.kind == GOAWAY || got.stream == LAST && matches!(got.kind, HEADERS | RST_STREAM) {
                break;
            }
        }
    }
    let (allowed, seen) = (allowed.lock().unwrap(), world.tls.seen.lock().unwrap());
    assert!(seen.len() > 30, "most of it was refused: {}", seen.len());
    for head in seen.iter() {
        let mut parts = head.split(' ');
        let (method, uri) = (parts.next().unwrap(), parts.next().unwrap());
        let path = uri.strip_prefix(&format!("https://{target}")).expect("the one authority");
        let path = path.split('?').next().unwrap();
        assert!(allowed.contains(&format!("{method} {path}")), "never asked: {head}");
        assert!(!path.starts_with("/private"), "{head}");
    }
}
