//! The little of a DNS message (RFC 1035, RFC 6891) that carrying it needs. Pure.
//!
//! Must never trust a count or an offset in a message.

use crate::limits::DNS_UDP_BYTES_DEFAULT;

const HEADER_BYTES: usize = 12;
const FLAG_ANSWER: u8 = 0x80;
const FLAG_TRUNCATED: u8 = 0x02;
const RCODE_SERVER_FAILURE: u8 = 2;
const TYPE_OPT: [u8; 2] = [0, 41];
/// Questions and records looked at; more are of no sender we serve.
const RECORDS_MAX: u16 = 64;

/// Whether this is a question: a whole header, without the answer bit.
pub(super) fn is_question(message: &[u8]) -> bool {
    message.len() >= HEADER_BYTES && message.get(2).is_some_and(|flags| flags & FLAG_ANSWER == 0)
}

/// Whether `answer` has the id of `question` and is an answer.
pub(super) fn answers(answer: &[u8], question: &[u8]) -> bool {
    answer.len() >= HEADER_BYTES
        && answer.get(..2) == question.get(..2)
        && answer.get(2).is_some_and(|flags| flags & FLAG_ANSWER != 0)
}

/// The largest answer over UDP that the sender of `question` takes: its EDNS size, or 512.
pub(super) fn udp_bytes_max(question: &[u8]) -> usize {
    edns_bytes(question).map_or(DNS_UDP_BYTES_DEFAULT, |bytes| usize::from(bytes).max(DNS_UDP_BYTES_DEFAULT))
}

/// Cuts an answer that is too long down to its question, and says so: the client asks again over TCP.
pub(super) fn fit(answer: Vec<u8>, max: usize) -> Vec<u8> {
    if answer.len() <= max {
        return answer;
    }
    let mut short = with_question_only(&answer);
    if let Some(flags) = short.get_mut(2) {
        *flags |= FLAG_TRUNCATED;
    }
    short
}

/// The answer to `question` that says that none could be had.
pub(super) fn server_failure(question: &[u8]) -> Vec<u8> {
    let mut answer = with_question_only(question);
    if let Some([flags, codes]) = answer.get_mut(2..4).and_then(|s| <&mut [u8; 2]>::try_from(s).ok()) {
        *flags = (*flags & 0x79) | FLAG_ANSWER;
        // Recursion available: it is, at other times.
        *codes = 0x80 | RCODE_SERVER_FAILURE;
    }
    answer
}

/// Header and question section of a message; only the header if the questions are malformed.
fn with_question_only(message: &[u8]) -> Vec<u8> {
    let mut short = message.get(..HEADER_BYTES).unwrap_or_default().to_vec();
    let questions = count(message, 4);
    let kept = match skip_questions(message, questions) {
        Some(end) => {
            short.extend_from_slice(message.get(HEADER_BYTES..end).unwrap_or_default());
            questions
        }
        None => 0,
    };
    let [high, low] = kept.to_be_bytes();
    if let Some(counts) = short.get_mut(4..HEADER_BYTES) {
        counts.copy_from_slice(&[high, low, 0, 0, 0, 0, 0, 0]);
    }
    short
}

fn edns_bytes(message: &[u8]) -> Option<u16> {
    let mut at = skip_questions(message, count(message, 4))?;
    let records = count(message, 6).checked_add(count(message, 8))?.checked_add(count(message, 10))?;
    for _ in 0..records.min(RECORDS_MAX) {
        at = skip_name(message, at)?;
        let fixed = message.get(at..at.checked_add(10)?)?;
        let &[t0, t1, c0, c1, _, _, _, _, l0, l1] = <&[u8; 10]>::try_from(fixed).ok()?;
        if [t0, t1] == TYPE_OPT {
            return Some(u16::from_be_bytes([c0, c1]));
        }
        at = at.checked_add(10)?.checked_add(usize::from(u16::from_be_bytes([l0, l1])))?;
    }
    None
}

fn count(message: &[u8], at: usize) -> u16 {
    match message.get(at..at.saturating_add(2)) {
        Some(&[high, low]) => u16::from_be_bytes([high, low]),
        _ => 0,
    }
}

fn skip_questions(message: &[u8], questions: u16) -> Option<usize> {
    if questions > RECORDS_MAX {
        return None;
    }
    let mut at = HEADER_BYTES;
    for _ in 0..questions {
        at = skip_name(message, at)?.checked_add(4)?;
    }
    (at <= message.len()).then_some(at)
}

/// A name ends with a root label or with a pointer, which is not followed.
fn skip_name(message: &[u8], mut at: usize) -> Option<usize> {
    loop {
        match *message.get(at)? {
            0 => return at.checked_add(1),
            length @ 1..=63 => at = at.checked_add(1)?.checked_add(usize::from(length))?,
            0xc0.. => return at.checked_add(2),
            _ => return None,
        }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use proptest::prelude::*;

    /// A question for `example.com A`, with an EDNS size if given.
    pub(in super::super) fn question(id: u16, edns: Option<u16>) -> Vec<u8> {
        let mut message = id.to_be_bytes().to_vec();
        message.extend([1, 0, 0, 1, 0, 0, 0, 0, 0, edns.is_some().into()]);
        message.extend(b"\x07example\x03com\0\0\x01\0\x01");
        if let Some(bytes) = edns {
            message.extend([0, 0, 41]);
            message.extend(bytes.to_be_bytes());
            message.extend([0; 6]);
        }
        message
    }

    #[test]
    fn the_edns_size_counts_if_it_is_larger_than_512() {
        assert_eq!(udp_bytes_max(&question(1, None)), 512);
        assert_eq!(udp_bytes_max(&question(1, Some(1232))), 1232);
        assert_eq!(udp_bytes_max(&question(1, Some(10))), 512);
        assert_eq!(udp_bytes_max(b"short"), 512);
    }

    #[test]
    fn a_long_answer_is_cut_to_its_question_and_marked() {
        let mut answer = question(7, None);
        answer[2] |= FLAG_ANSWER;
        answer[7] = 40;
        let end = answer.len();
        answer.extend(vec![9; 600]);
        assert_eq!(fit(answer.clone(), 4096), answer);
        let short = fit(answer.clone(), 512);
        assert_eq!(short.len(), end);
        assert_eq!(short[2], answer[2] | FLAG_TRUNCATED);
        assert_eq!(short[4..12], [0, 1, 0, 0, 0, 0, 0, 0]);
    }

    #[test]
    fn a_failure_repeats_id_and_question() {
        let asked = question(0x1234, Some(1232));
        let failed = server_failure(&asked);
        assert!(answers(&failed, &asked));
        assert_eq!((failed[2], failed[3]), (0x81, 0x82));
        assert_eq!(failed[4..12], [0, 1, 0, 0, 0, 0, 0, 0]);
        assert_eq!(failed.len(), question(1, None).len());
    }

    proptest! {
        #[test]
        fn hostile_messages_never_panic_and_never_grow(message: Vec<u8>, max in 0usize..2000) {
            let _ = (is_question(&message), udp_bytes_max(&message));
            prop_assert!(fit(message.clone(), max).len() <= message.len());
            prop_assert!(server_failure(&message).len() <= message.len());
        }

        #[test]
        fn hostile_records_never_panic(counts: [u8; 8], tail: Vec<u8>) {
            let message = [&[0, 1, 1, 0], &counts[..], &tail[..]].concat();
            let _ = (udp_bytes_max(&message), server_failure(&message), fit(message.clone(), 12));
        }
    }
}
