//! Cases that need the state machine itself; the tables of refused heads are in `testdata/framing.toml`.

use super::*;

fn run(bytes: &[u8], cut: usize) -> Result<Vec<usize>, HeadError> {
    // Feeds `bytes` in pieces of `cut` and gives the offsets at which messages end.
    let mut framer = Framer::new(1024);
    let (mut start, mut have, mut ends) = (0, 0, Vec::new());
    loop {
        match framer.step(&bytes[start..have])? {
            Step::Need if have == bytes.len() => return Ok(ends),
            Step::Need => have = (have + cut).min(bytes.len()),
            Step::Pass(count) => start += count,
            Step::Head { length, framing, .. } => {
                framer.accept_head(framing);
                start += length;
            }
        }
        if framer.at_boundary() && ends.last() != Some(&start) && start > 0 {
            ends.push(start);
        }
    }
}

#[test]
fn messages_end_at_the_same_byte_however_they_arrive() {
    let first = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello".as_slice();
    let second =
        b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3;x=y\r\nabc\r\n0\r\nT: v\r\n\r\n";
    let third = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n";
    let all = [first, second, third].concat();
    let ends = vec![first.len(), first.len() + second.len(), all.len()];
    for cut in 1..all.len() {
        assert_eq!(run(&all, cut), Ok(ends.clone()), "cut {cut}");
    }
}

#[test]
fn a_head_at_the_limit_passes_and_one_byte_more_does_not() {
    let head = |pad: usize| format!("GET / HTTP/1.1\r\nHost: a\r\nX: {}\r\n\r\n", "p".repeat(pad));
    let fits = 1024 - head(0).len();
    assert_eq!(run(head(fits).as_bytes(), 100), Ok(vec![1024]));
    assert_eq!(run(head(fits + 1).as_bytes(), 100), Err(HeadError::TooLarge));
    assert_eq!(run(&[b'G'; 2000], 100), Err(HeadError::TooLarge));
}
