//! Suggested rules load, allow what was refused, and little else; a deny or a ceiling is never got around.

use policy::suggest::{Caution, suggest};
use policy::{Facts, Host, Layer, Ruleset, Scheme, decide};
use proptest::prelude::*;

fn facts(lines: &[String]) -> Vec<Facts<'_>> {
    lines.iter().map(|line| Facts::parse(line).unwrap()).collect()
}

fn toml(existing: &Ruleset, lines: &[&str]) -> String {
    suggest(existing, lines.iter().map(|line| Facts::parse(line).unwrap())).to_toml()
}

#[test]
fn a_rule_says_what_was_asked_for_and_no_more() {
    let text = toml(
        &Ruleset::empty(),
        &[
            "POST https://api.example.com/v1/chat",
            "POST https://api.example.com/v1/threads/thread_abcDEF0123456789xyz/runs",
            "GET https://api.example.com/v1/models",
            "CONNECT api.example.com:443",
            "DNS api.example.com",
            "TCP db.example.com:5432",
            "GET wss://ws.example.com:8443/live",
            "GET http://10.0.0.7/x",
            "CONNECT only.example.com:8443",
            "PUT https://my-bucket.s3.amazonaws.com/a%2Fb",
        ],
    );
    let expected = r#"version = 1

# Look twice: an address, not a name: whoever has it next is allowed too.
[[allow]]
id = "10.0.0.7-1"
cidr = "10.0.0.7/32"
scheme = "http"
methods = ["GET"]
paths = ["/x"]

[[test]]
request = "GET http://10.0.0.7/x"
expect = "allow"

[[allow]]
id = "api.example.com-1"
host = "api.example.com"
methods = ["GET"]
paths = ["/v1/models"]

[[test]]
request = "GET https://api.example.com/v1/models"
expect = "allow"

[[allow]]
id = "api.example.com-2"
host = "api.example.com"
methods = ["POST"]
paths = ["/v1/chat", "/v1/threads/thread_*/runs"]

[[test]]
request = "POST https://api.example.com/v1/chat"
expect = "allow"

[[test]]
request = "POST https://api.example.com/v1/threads/thread_abcDEF0123456789xyz/runs"
expect = "allow"

[[allow]]
id = "db.example.com-1"
host = "db.example.com"
ports = [5432]
tcp = true

[[test]]
request = "TCP db.example.com:5432"
expect = "allow"

# Look twice: the host looks like one where anybody can leave data; what the sandbox knows could leave by it.
# Look twice: any path, since one was asked for that servers read in different ways (`;`, `//`, `%2F`, …) and that no pattern matches.
[[allow]]
id = "my-bucket.s3.amazonaws.com-1"
host = "my-bucket.s3.amazonaws.com"
methods = ["PUT"]
write_capable = true

[[test]]
request = "PUT https://my-bucket.s3.amazonaws.com/a%2Fb"
expect = "allow"

# Look twice: only a tunnel or the look-up of a name was seen; GET and HEAD are a guess that lets it begin, then ask again.
[[allow]]
id = "only.example.com-1"
host = "only.example.com"
ports = [8443]
methods = ["GET", "HEAD"]

[[test]]
request = "CONNECT only.example.com:8443"
expect = "allow"

[[allow]]
id = "ws.example.com-1"
host = "ws.example.com"
ports = [8443]
methods = ["GET"]
paths = ["/live"]
websocket = true

[[test]]
request = "GET wss://ws.example.com:8443/live"
expect = "allow"
"#;
    assert_eq!(text, expected);
    Ruleset::parse(&text, "suggested.toml").unwrap_or_else(|error| panic!("{error}"));
}

#[test]
fn what_is_denied_stays_so_and_the_reason_is_told() {
    let existing = "version = 1\n[[allow]]\nid = \"x.test-1\"\nhost = \"known.test\"\n\
                    [[deny]]\nid = \"no\"\nhost = \"bad.test\"\npaths = [\"/admin/**\"]";
    let ceiling = "version = 1\nceiling = true\n[[allow]]\nid = \"c\"\nhost = \"**.test\"";
    let existing = Ruleset::from_layers(&[(existing, "own"), (ceiling, "org")]).unwrap();
    let asked = [
        "GET https://bad.test/admin/x",
        "GET https://bad.test/else",
        "GET https://far.example/",
        "GET https://known.test/",
        "get https://x.test/",
        "GET https://x.test/",
    ];
    let found = suggest(&existing, asked.map(|line| Facts::parse(line).unwrap()));
    let hosts: Vec<_> = found.rules.iter().map(|rule| (rule.id.as_str(), rule.host.as_str())).collect();
    assert_eq!(hosts, [("bad.test-1", "bad.test"), ("x.test-2", "x.test")]);
    assert_eq!(found.already_allowed, 1);
    let left: Vec<_> = found.left_out.iter().map(|out| (out.request.as_str(), out.why.as_str())).collect();
    assert_eq!(
        left,
        [
            ("GET https://bad.test/admin/x", "denied by rule \"no\" (own:5); a deny wins over any allow"),
            ("GET https://far.example/", "outside of what the ceiling org allows"),
            ("get https://x.test/", "no rule allows this: the method is not an upper-case token"),
        ]
    );
}

/// A cut pattern would let the sandbox choose how much a rule allows.
#[test]
fn a_path_too_long_for_a_pattern_is_left_out_and_so_is_the_way_there() {
    let long = format!("PUT https://long.test/{}", "a".repeat(300));
    let both = format!("GET wss://both.test:8443/{}", "a".repeat(300));
    let lines = [&long, "CONNECT long.test:443", "DNS long.test", &both, "GET https://both.test:8443/x"];
    let found = suggest(&Ruleset::empty(), lines.map(|line| Facts::parse(line).unwrap()));
    let rules: Vec<_> = found.rules.iter().map(|rule| (rule.host.as_str(), rule.paths.as_slice())).collect();
    assert_eq!(rules, [("both.test", &["/x".to_owned()][..])]);
    let left: Vec<_> = found.left_out.iter().map(|out| out.request.as_str()).collect();
    assert_eq!(left, ["CONNECT long.test:443", "DNS long.test", &both, &long]);
    assert!(found.left_out[2].why.contains("too long for a pattern"), "{:?}", found.left_out);
}

/// A log does not hold queries: what a rule about queries might say is not held against the request.
#[test]
fn a_query_that_nobody_knows_is_taken_to_be_none() {
    let existing = Ruleset::parse("version = 1\n[[deny]]\nhost = \"a.test\"\nquery = [\"k\"]", "p").unwrap();
    let asked = Facts::http(Scheme::Https, Host::Name("a.test"), 443, "GET", "/x");
    let found = suggest(&existing, [asked]);
    assert_eq!((found.rules.len(), found.left_out.len()), (1, 0));
}

#[test]
fn nothing_refused_is_an_empty_policy() {
    assert_eq!(toml(&Ruleset::empty(), &[]), "version = 1\n");
}

fn line() -> impl Strategy<Value = String> {
    let host = prop::sample::select(vec![
        "a.test",
        "b.a.test",
        "xn--bcher-kva.example",
        "s3.example",
        "10.0.0.1",
        "[2001:db8::1]",
        "UPPER.test",
    ]);
    let port = prop::sample::select(vec!["", ":443", ":80", ":8443"]);
    let scheme = prop::sample::select(vec!["https", "http", "wss", "ws"]);
    let method = prop::sample::select(vec!["GET", "POST", "DELETE", "M-SEARCH", "get"]);
    let segment = prop_oneof![
        4 => "[a-z0-9*|{.~-]{0,6}",
        1 => "[0-9]{1,4}",
        1 => "[a-zA-Z0-9]{20,30}",
        1 => Just("%2F".to_owned()),
        1 => Just("a;b".to_owned()),
        1 => Just("**".to_owned()),
        1 => "[a-z]{120}",
    ];
    let path = prop::collection::vec(segment, 0..5).prop_map(|parts| format!("/{}", parts.join("/")));
    (prop::sample::select(vec![0, 0, 0, 0, 0, 0, 1, 2, 3]), method, scheme, host, port, path).prop_map(
        |(kind, method, scheme, host, port, path)| match kind {
            0 => format!("{method} {scheme}://{host}{port}{path}"),
            1 => format!("CONNECT {host}{}", if port.is_empty() { ":443" } else { port }),
            2 => format!("TCP {host}{}", if port.is_empty() { ":5432" } else { port }),
            _ => format!("DNS {host}"),
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, failure_persistence: None, ..ProptestConfig::default() })]

    /// Its own tests are run as it loads. Each refused attempt is then allowed, or it is said why it cannot be; and
    /// under the policy there was, with the new file beside it, the denies still hold.
    #[test]
    fn what_is_suggested_allows_what_was_refused(
        lines in prop::collection::vec(line(), 0..14),
        existing in prop::sample::select(vec![
            "",
            "[[deny]]\nid = \"no\"\nhost = \"**.test\"\npaths = [\"/a/**\"]",
            "[[deny]]\nid = \"no\"\ncidr = \"10.0.0.0/8\"",
            "[[deny]]\nid = \"no\"\nhost = \"**\"\nmethods = [\"DELETE\"]",
            "ceiling = true\n[[allow]]\nid = \"c\"\nhost = \"**.test\"\nports = \"any\"",
        ]),
    ) {
        let existing_text = format!("version = 1\n{existing}");
        let existing = Ruleset::parse(&existing_text, "existing").unwrap();
        let asked = facts(&lines);
        let found = suggest(&existing, asked.iter().copied());
        let text = found.to_toml();
        let alone = Ruleset::parse(&text, "suggested").map_err(|error| TestCaseError::fail(format!("{error}\n{text}")))?;
        let beside = Ruleset::from_layers(&[(&existing_text, "existing"), (&text, "suggested")]).unwrap();
        for facts in &asked {
            let left_out = found.left_out.iter().any(|out| out.request == facts.to_string());
            let allowed = decide(&beside, facts).is_allowed();
            prop_assert!(allowed || left_out, "{} by\n{}", facts, text);
            // The pattern of another one may happen to match a path that has none of its own.
            let has_none = facts.path().is_some_and(|path| {
                path.len() > policy::limits::PATH_PATTERN_BYTES_MAX || path.contains(|sign| "\"<>[]^`{|}*".contains(sign))
            });
            prop_assert!(!(allowed && left_out) || has_none, "{} by\n{}", facts, text);
            prop_assert!(left_out || decide(&alone, facts).is_allowed(), "{} by\n{}", facts, text);
        }
        // No host and no method that nobody asked for.
        for rule in &found.rules {
            let at = |facts: &&Facts<'_>| facts.host().to_string() == rule.host;
            let asked: Vec<&Facts<'_>> = asked.iter().filter(at).collect();
            prop_assert!(!asked.is_empty() && !rule.host.contains('*'));
            for method in &rule.methods {
                let guess = rule.cautions.contains(&Caution::RequestsUnseen);
                let seen = asked.iter().any(|facts| facts.layer() == Layer::Http && facts.method() == Some(method));
                prop_assert!(guess || seen, "{} in\n{}", method, text);
            }
        }
    }
}
