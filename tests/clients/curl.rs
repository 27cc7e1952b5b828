//! curl: the client that agents reach for first.

use std::process::Command;

use crate::check::{Call, HELLO, three_calls};
use crate::tools::{find, need};
use crate::world::{ALLOWED, World, shown};

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

#[test]
fn curl_with_http2() {
    let Some(_) = need("curl_with_http2", "curl", find("curl")) else { return };
    three_calls("no rule allows it", |world, call| curl(world, call, &["--http2"]));
}
