//! What an upstream gives back is searched, or refused.

use netproxy::HostName;
use netproxy::hooks::*;

use crate::client::*;
use crate::hooks::{PLACEHOLDER, Rules, SECRET, Scrubber};
use crate::upstream::header;
use crate::world::World;

async fn get(world: &World, path: &str) -> Answer {
    let target = world.at("ok.example");
    let mut tls = https(world, &target).await;
    let request = format!(
        "GET {path} HTTP/1.1\r\nHost: {target}\r\nAuthorization: {PLACEHOLDER}\r\nAccept-Encoding: gzip, br\r\nRange: bytes=0-1\r\n\r\n"
    );
    ask(&mut tls, &request).await
}

#[tokio::test]
async fn an_echoed_secret_comes_back_as_its_placeholder() {
    let world = World::redacting().await;
    let answer = get(&world, "/echo").await;
    let text = answer.text();
    assert!(text.contains(&format!("authorization: {PLACEHOLDER}")), "{text}");
    assert!(!text.contains(SECRET));
    // Asked for in a way that can be searched.
    assert_eq!(header(&text, "accept-encoding").as_deref(), Some("gzip, br"));
    assert_eq!(header(&text, "range"), None);
    assert_eq!(world.records(1).await[0]["redactions"], 1);
    let answer = get(&world, "/echo-header").await;
    assert_eq!(answer.header("x-got").as_deref(), Some(PLACEHOLDER));
}

#[tokio::test]
async fn a_header_named_after_a_secret_is_left_out() {
    let world = World::redacting().await;
    let answer = get(&world, "/echo-name").await;
    assert_eq!(answer.header("x-other").as_deref(), Some("2"));
    assert_eq!(answer.header(&format!("x-{SECRET}")), None);
    assert_eq!(world.records(1).await[0]["redactions"], 2);
}

#[tokio::test]
async fn an_encoded_answer_that_cannot_be_searched_is_refused() {
    let world = World::redacting().await;
    let answer = get(&world, "/compress").await;
    assert_eq!((answer.status, &answer.json()["error"]), (502, &"response_not_redactable".into()));
    assert!(answer.header("proxy-status").unwrap().contains("error=http_response_transform_error"));
}

#[tokio::test]
async fn an_encoded_answer_passes_where_the_rule_says_so_and_its_headers_are_searched() {
    struct Passing(Rules);
    impl Authorize for Passing {
        fn connect(&self, facts: &ConnectFacts<'_>) -> Verdict {
            self.0.connect(facts)
        }
        fn request(&self, _: &RequestFacts<'_>) -> Verdict {
            Allow::by("opaque-ok").with_on_opaque(OnOpaque::Pass).into()
        }
        fn dns_name(&self, name: &HostName) -> Verdict {
            self.0.dns_name(name)
        }
        fn address(&self, facts: &AddressFacts<'_>) -> bool {
            self.0.address(facts)
        }
    }
    let rules = |ports| Passing(Rules { ports });
    let world = World::build_ruled(|names| names, rules, |builder| builder.redact(Scrubber)).await;
    let answer = get(&world, "/compress-echo").await;
    assert_eq!((answer.status, answer.body.as_slice()), (200, b"\x1f\x9dnot really".as_slice()));
    assert_eq!(answer.header("x-got").as_deref(), Some(PLACEHOLDER));
    let record = &world.records(1).await[0];
    assert_eq!((&record["verdict"], &record["redactions"]), (&"allow".into(), &1.into()));
    assert!(record["reason"].as_str().unwrap().contains("could not be searched"));
}

#[tokio::test]
async fn a_forged_proxy_status_is_removed() {
    let world = World::start().await;
    assert_eq!(get(&world, "/forged").await.header("proxy-status").as_deref(), Some("cdn"));
}
