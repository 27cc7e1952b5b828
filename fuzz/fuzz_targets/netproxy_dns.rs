//! DNS queries: each answer is one, carries the query's id and question and nothing else of it, and is small.

#![no_main]

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use hickory_proto::op::{Message, MessageType, ResponseCode};
use libfuzzer_sys::fuzz_target;
use netproxy::dns::{Asked, Query};
use netproxy::limits::{ADDRESSES_MAX, DNS_QUERY_BYTES_MAX, HOOK_TEXT_BYTES_MAX};
use netproxy::{Host, HostName};

/// What we say we can send and take (RFC 6891 §6.2.3): larger UDP answers are lost on some ways.
const ANSWER_BYTES_MAX: usize = 1232;

fuzz_target!(|bytes: &[u8]| {
    if bytes.len() > DNS_QUERY_BYTES_MAX {
        return;
    }
    let Some(query) = Query::parse(bytes) else { return };
    if let Asked::Addresses(name) | Asked::Nothing(name) | Asked::Type(Some(name)) = query.asked() {
        assert_eq!(Host::parse(name.as_str()), Ok(Host::Name(name.clone())));
    }
    assert!(query.record_type().is_ascii());
    let v4 = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1));
    let v6 = IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1));
    for address in [v4, v6] {
        if let Some(answer) = query.answer(&[address; ADDRESSES_MAX], 30) {
            let message = check(bytes, &query, &answer, ResponseCode::NoError);
            assert!(message.answers.len() == ADDRESSES_MAX || message.answers.is_empty());
            assert!(
                message
                    .answers
                    .iter()
                    .all(|record| record.ttl == 30 && record.name == message.queries[0].name)
            );
        }
    }
    let answers = [
        (query.answer(&[], 0), ResponseCode::NoError),
        (query.blocked(&"x".repeat(HOOK_TEXT_BYTES_MAX)), ResponseCode::NXDomain),
        (query.not_served(&"x".repeat(HOOK_TEXT_BYTES_MAX)), ResponseCode::NoError),
        (query.no_such_name(), ResponseCode::NXDomain),
        (query.server_failure(), ResponseCode::ServFail),
    ];
    for (answer, code) in answers {
        if let Some(answer) = answer {
            assert!(check(bytes, &query, &answer, code).answers.is_empty());
        } else {
            assert_eq!(query.asked(), &Asked::Malformed, "a good query without an answer");
        }
    }
    assert!((512..=ANSWER_BYTES_MAX).contains(&query.udp_bytes_max()));
    if let Some(answer) = query.truncated() {
        let message = check(bytes, &query, &answer, ResponseCode::NoError);
        assert!(message.metadata.truncation && message.answers.is_empty());
        assert!(answer.len() <= query.udp_bytes_max(), "\"ask over TCP\" does not fit itself");
    }
    if let Some(answer) = query.format_error() {
        let code = Message::from_vec(&answer).expect("an answer that can be read").metadata.response_code;
        // 16 is BADVERS, which is read back as its namesake of TSIG.
        assert!([ResponseCode::FormErr, ResponseCode::NotImp, ResponseCode::BADSIG].contains(&code));
    }
});

fn check(bytes: &[u8], query: &Query, answer: &[u8], code: ResponseCode) -> Message {
    assert_eq!(answer[..2], bytes[..2], "another id");
    assert!(answer.len() <= ANSWER_BYTES_MAX, "{} bytes", answer.len());
    assert!(Query::parse(answer).is_none(), "an answer that is a query");
    let message = Message::from_vec(answer).expect("an answer that can be read");
    assert_eq!(message.metadata.message_type, MessageType::Response);
    assert_eq!(message.metadata.response_code, code);
    assert!(message.authorities.is_empty() && message.additionals.is_empty());
    if let Asked::Addresses(name) | Asked::Nothing(name) = query.asked() {
        let [question] = message.queries.as_slice() else { panic!("the question is not repeated") };
        assert!(same_name(&question.name().to_ascii(), name));
        assert_eq!(question.query_type().to_string(), query.record_type());
    }
    message
}

fn same_name(text: &str, name: &HostName) -> bool {
    text.trim_end_matches('.').eq_ignore_ascii_case(name.as_str())
}
