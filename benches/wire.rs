//! Parsers of `netproxy`: what each request costs before anybody is asked.

use divan::counter::BytesCount;
use divan::{Bencher, black_box};
use netproxy::Authority;
use netproxy::dns::Query;
use netproxy::wire::path::CanonicalPath;
use netproxy::wire::{client_hello, head};

fn main() {
    divan::main();
}

const HEAD: &[u8] = b"POST /v1/messages?beta=true HTTP/1.1\r\nHost: api.example.com\r\nUser-Agent: sdk-python/0.60.0\r\n\
    Accept: application/json\r\nAccept-Encoding: gzip, deflate\r\nConnection: keep-alive\r\nContent-Type: application/json\r\n\
    Content-Length: 5321\r\nX-Request-Id: 6f1c0d52-9c0f-4b0e-8a8e-1c2d3e4f5a6b\r\n\
    Authorization: Bearer sk-ant-api03-5HmQ0wWqv7ZkP2nXb8TtRr4YcE6uJd1LfGs9AaKx3ViNzMoBhCyDpSjUlWeIgFq\r\n\r\n";

#[divan::bench(args = ["api.example.com:443", "[2001:db8::1]:8443", "API.Example.com", "b\u{fc}cher.example:443"])]
fn authority(bencher: Bencher<'_, '_>, text: &str) {
    assert!(Authority::parse(text, Some(443)).is_ok());
    bencher.bench(|| Authority::parse(black_box(text), Some(443)));
}

#[divan::bench(args = ["/v1/messages", "/repos/a%2Fb/contents/src/main.rs"])]
fn path(bencher: Bencher<'_, '_>, text: &str) {
    assert!(CanonicalPath::parse(text).is_ok());
    bencher.bench(|| CanonicalPath::parse(black_box(text)));
}

#[divan::bench]
fn request_head(bencher: Bencher<'_, '_>) {
    assert!(head::parse(HEAD).is_ok());
    bencher.counter(BytesCount::new(HEAD.len())).bench(|| head::parse(black_box(HEAD)).is_ok());
}

/// 512 bytes with one name, as TLS libraries without post-quantum keys send it.
#[divan::bench]
fn tls_hello(bencher: Bencher<'_, '_>) {
    let name = b"api.example.com";
    let length = |count: usize| u16::try_from(count).expect("short").to_be_bytes();
    let entry = [&[0][..], &length(name.len()), name].concat();
    let list = [&length(entry.len())[..], &entry].concat();
    let server_name = [&[0, 0][..], &length(list.len()), &list].concat();
    let padding = [&[0, 21][..], &length(400), &[0; 400]].concat();
    let extensions = [server_name, padding].concat();
    let body =
        [&[3, 3][..], &[7; 32], &[0, 0, 2, 0x13, 1, 1, 0], &length(extensions.len()), &extensions].concat();
    let message = [&[1, 0][..], &length(body.len()), &body].concat();
    let record = [&[22, 3, 1][..], &length(message.len()), &message].concat();
    assert!(
        matches!(client_hello::peek(&record), client_hello::Peek::Hello(hello) if hello.server_name.is_some())
    );
    bencher.bench(|| client_hello::peek(black_box(&record)));
}

/// A query for an address, read and answered.
#[divan::bench]
fn dns(bencher: Bencher<'_, '_>) {
    let query =
        b"\x12\x34\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00\x03api\x07example\x03com\x00\x00\x01\x00\x01";
    let address = [std::net::Ipv4Addr::LOCALHOST.into()];
    let answer = |bytes: &[u8]| Query::parse(bytes).and_then(|query| query.answer(&address, 30));
    assert!(answer(query).is_some());
    bencher.bench(|| answer(black_box(query)));
}
