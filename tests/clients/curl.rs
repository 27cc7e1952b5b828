//! curl: the client that agents reach for first.

use std::process::Command;

use crate::check::{Call, HELLO, three_calls, three_calls_in};
use crate::tools::{find, need};
use crate::upstream::{Kind, Over};
use crate::world::{ALLOWED, DENIED, More, World, shown};

fn curl(world: &World, call: &Call, options: &[&str]) -> Command {
    let mut command = world.client("curl".as_ref());
    // Would retry whatever curl takes for transient, and show the body of an error.
    command.args(["-sS", "--fail-with-body", "--retry", "3"]).args(options).arg(&call.url);
    if let Some(authorization) = &call.authorization {
        command.arg("-H").arg(format!("Authorization: {authorization}"));
    }
    command
}

#[test]
fn curl_with_http1() {
    let Some(_) = need("curl_with_http1", "curl", find("curl")) else { return };
    three_calls("no rule allows it", |world, call| curl(world, call, &["--http1.1"]));
}

/// Through SOCKS5, the name resolved by the proxy. The upstream's port is none of the web's: a refusal is a reply.
#[test]
fn curl_by_socks() {
    let Some(_) = need("curl_by_socks", "curl", find("curl")) else { return };
    three_calls("(2)", |world, call| curl(world, call, &["--socks5-hostname", world.place()]));
}

#[test]
fn a_closed_path_of_an_open_host_is_refused_once_and_named() {
    let Some(_) = need("a_closed_path…", "curl", find("curl")) else { return };
    let mut world = World::start();
    let call = |path: &str| Call { url: world.url(ALLOWED, path), authorization: None };
    let text = shown(&curl(&world, &call("/closed/x?token=abc"), &[]).output().unwrap());
    assert!(text.contains("\"rule\":\"closed\"") && text.contains("\"path\":\"/closed/x\""), "{text}");
    assert!(shown(&curl(&world, &call("/hello"), &[]).output().unwrap()).contains(HELLO));
    let log = world.stop();
    assert_eq!(log.denials(ALLOWED).len(), 1);
    assert!(!log.denials(ALLOWED)[0].to_string().contains("abc"), "the query is in the log");
}

#[test]
fn a_large_upload_arrives_whole() {
    let Some(_) = need("a_large_upload…", "curl", find("curl")) else { return };
    let world = World::start();
    let file = world.home().join("large");
    std::fs::write(&file, vec![b'x'; 8 << 20]).unwrap();
    let call = Call { url: world.url(ALLOWED, "/size"), authorization: None };
    for options in [&["-T", "large"][..], &["-T", "large", "-H", "Transfer-Encoding: chunked"]] {
        assert_eq!(shown(&curl(&world, &call, options).output().unwrap()), (8 << 20).to_string());
    }
}

/// Spoken on both sides of the proxy, and not only asked for.
#[test]
fn curl_with_http2() {
    let Some(_) = need("curl_with_http2", "curl", find("curl")) else { return };
    let world = World::with_more(&More { upstream: Kind::Http2, ..More::default() });
    let options = ["--http2", "-w", "\nin HTTP/%{http_version}"];
    let (said, seen) = three_calls_in(world, "no rule allows it", |world, call| curl(world, call, &options));
    assert!(said.iter().all(|text| text.contains("\nin HTTP/2")), "{said:?}");
    assert_eq!(seen.iter().map(|seen| seen.over).collect::<Vec<_>>(), [Over::Http2, Over::Http2]);
}

#[test]
fn a_large_upload_arrives_whole_over_http2() {
    let Some(_) = need("a_large_upload…http2", "curl", find("curl")) else { return };
    let world = World::with_more(&More { upstream: Kind::Http2, ..More::default() });
    std::fs::write(world.home().join("large"), vec![b'x'; 8 << 20]).unwrap();
    let call = Call { url: world.url(ALLOWED, "/size"), authorization: None };
    let output = curl(&world, &call, &["--http2", "-T", "large"]).output().unwrap();
    assert_eq!(shown(&output), (8 << 20).to_string());
    assert_eq!(world.seen(ALLOWED)[0].over, Over::Http2);
}

#[test]
fn curl_in_the_clear() {
    let Some(_) = need("curl_in_the_clear", "curl", find("curl")) else { return };
    let options = ["-w", "\nstatus %{http_code}"];
    let (said, seen) =
        three_calls_in(World::plain(), "no rule allows it", |world, call| curl(world, call, &options));
    assert!(said[1].contains("\nstatus 403"), "{said:?}");
    assert_eq!(seen.iter().map(|seen| seen.over).collect::<Vec<_>>(), [Over::Plain, Over::Plain]);
}

/// On the web's own port the refusal is an answer inside of TLS, so that its reason is shown.
#[test]
fn curl_by_socks_is_told_why_on_the_port_of_https() {
    let Some(_) = need("curl_by_socks_is_told…", "curl", find("curl")) else { return };
    let mut world = World::start();
    let call = Call { url: format!("https://{DENIED}/hello"), authorization: None };
    let output = curl(&world, &call, &["--socks5-hostname", world.place()]).output().unwrap();
    let text = shown(&output);
    assert!(!output.status.success() && text.contains("403") && text.contains("no rule allows it"), "{text}");
    assert_eq!(world.stop().denials(DENIED).len(), 1);
}
