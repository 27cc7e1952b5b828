//! What a person may be asked about, and how far a yes reaches.

use policy::ask::{Grants, Question, Scope, decide_granted};
use policy::limits::GRANTS_MAX;
use policy::{Cause, Effect, Facts, Ruleset, decide, decide_address};

const USER: &str = r#"
version = 1
[[allow]]
id = "api"
host = "api.example.com"
methods = ["GET"]
paths = ["/v1/**"]
[[deny]]
id = "no"
host = "**.no.example.com"
[[deny]]
id = "no-delete"
host = "**"
methods = ["DELETE"]
[[deny]]
id = "no-net"
cidr = "192.0.2.0/24"
"#;
const CEILING: &str = r#"
version = 1
ceiling = true
[[allow]]
id = "bound"
host = "**.example.com"
ports = "any"
scheme = ["http", "https"]
limits = { requests_per_s = 5 }
"#;

fn user() -> Ruleset {
    Ruleset::parse(USER, "user").unwrap()
}

fn bounded() -> Ruleset {
    Ruleset::from_layers(&[(USER, "user"), (CEILING, "org")]).unwrap()
}

fn facts(line: &str) -> Facts<'_> {
    Facts::parse(line).unwrap()
}

#[test]
fn only_a_miss_inside_the_ceilings_is_a_question() {
    for (line, alone, within) in [
        ("POST https://api.example.com/v1/x", true, true),
        ("GET https://other.example.com/", true, true),
        ("GET https://elsewhere.example/", true, false),
        ("CONNECT other.example.com:443", true, true),
        ("DNS other.example.com", true, true),
        ("TCP other.example.com:5432", false, false),
        ("GET https://api.example.com/v1/x", false, false),
        ("GET https://x.no.example.com/", false, false),
        ("DELETE https://other.example.com/", false, false),
        ("GET https://Other.example.com/", false, false),
        ("GET https://93.184.215.14/", true, false),
    ] {
        assert_eq!(Question::about(&user(), &facts(line)).is_some(), alone, "{line} alone");
        assert_eq!(Question::about(&bounded(), &facts(line)).is_some(), within, "{line} within a ceiling");
    }
    // Raw bytes are only asked about where no deny rule hangs on what nobody will see.
    assert!(Question::about(&Ruleset::empty(), &facts("TCP other.example.com:5432")).is_some());
    let audit = Ruleset::parse("version = 1\nmode = \"audit\"\n", "p").unwrap();
    assert!(Question::about(&audit, &facts("GET https://a.example/")).is_none(), "it passes anyway");
}

/// Which of these pass, unasked, once `yes` was said to the first.
fn granted(rules: &Ruleset, asked: &str, scope: Scope, lines: &[&str]) -> Vec<bool> {
    let mut grants = Grants::default();
    grants.add(Question::about(rules, &facts(asked)).unwrap(), scope).unwrap();
    lines.iter().map(|line| grants.decide(rules, &facts(line)).is_allowed()).collect()
}

#[test]
fn a_grant_is_as_narrow_as_the_question() {
    let asked = "POST https://other.example.com/v1/x";
    let lines = [
        asked,
        "POST https://other.example.com/v1/x?key=value",
        "DNS other.example.com",
        "GET https://other.example.com/v1/x",
        "POST https://other.example.com/v1/y",
        "POST https://other.example.com:8443/v1/x",
        "POST http://other.example.com:443/v1/x",
        "GET wss://other.example.com/v1/x",
        "TCP other.example.com:443",
        "POST https://sub.other.example.com/v1/x",
        "DNS sub.other.example.com",
        "DELETE https://other.example.com/v1/x",
    ];
    let (t, f) = (true, false);
    assert_eq!(granted(&user(), asked, Scope::Exactly, &lines), [t, t, t, f, f, f, f, f, f, f, f, f]);
    assert_eq!(granted(&user(), asked, Scope::Host, &lines), [t, t, t, t, t, f, f, f, f, f, f, f]);
    let lines = [
        "TCP db.example.com:5432",
        "TCP db.example.com:5433",
        "GET https://db.example.com:5432/",
        "DNS db.example.com",
    ];
    assert_eq!(granted(&Ruleset::empty(), lines[0], Scope::Host, &lines), [t, f, f, t]);
    let lines = ["DNS a.example", "GET https://a.example/", "TCP a.example:443", "DNS b.example"];
    assert_eq!(granted(&Ruleset::empty(), lines[0], Scope::Host, &lines), [t, f, f, f]);
}

#[test]
fn a_grant_never_stands_against_a_deny_rule_or_a_ceiling() {
    // Granted while there was neither.
    let mut grants = Grants::default();
    for line in
        ["GET https://x.no.example.com/", "DELETE https://a.example.com/", "GET https://elsewhere.example/"]
    {
        grants.add(Question::about(&Ruleset::empty(), &facts(line)).unwrap(), Scope::Host).unwrap();
        assert!(grants.decide(&Ruleset::empty(), &facts(line)).is_allowed());
    }
    for (line, cause) in [
        ("GET https://x.no.example.com/", Cause::Rule),
        ("DELETE https://a.example.com/", Cause::Rule),
        ("GET https://elsewhere.example/", Cause::Ceiling),
    ] {
        for verdict in [grants.decide(&bounded(), &facts(line)), decide_granted(&bounded(), &facts(line))] {
            assert_eq!((verdict.effect, verdict.cause), (Effect::Deny, cause), "{line}");
        }
    }
    // What rules say is what they said without grants.
    let line = facts("GET https://api.example.com/v1/x");
    assert_eq!(grants.decide(&bounded(), &line), decide(&bounded(), &line));
    let bounded = bounded();
    let verdict = grants.decide(&bounded, &facts("GET https://a.example.com/"));
    assert_eq!((verdict.cause, verdict.credential, verdict.rule), (Cause::Granted, None, None));
    assert_eq!(verdict.limits.requests_per_s, Some(5), "limits of ceilings hold");
}

#[test]
fn addresses_of_what_was_granted() {
    let grants = Grants::default();
    let line = facts("CONNECT other.example.com:443");
    let public = |rules: &Ruleset, ip: &str| {
        grants.decide_public_address(rules, &line, ip.parse().unwrap()).is_allowed()
    };
    assert!(public(&user(), "198.51.100.7"));
    assert!(!public(&user(), "192.0.2.7"), "a deny rule names it");
    assert!(
        !grants
            .decide_public_address(
                &bounded(),
                &facts("CONNECT a.example:443"),
                "198.51.100.7".parse().unwrap()
            )
            .is_allowed()
    );
    // A private address takes a rule.
    assert!(!decide_address(&user(), &line, "10.0.0.1".parse().unwrap()).is_allowed());
}

#[test]
fn a_connection_is_let_in_to_be_asked_about_inside() {
    let grants = Grants::default();
    for (line, allowed) in [
        ("CONNECT other.example.com:443", true),
        ("CONNECT x.no.example.com:443", false),
        ("CONNECT elsewhere.example:443", false),
        ("GET https://other.example.com/", false),
        ("TCP other.example.com:443", false),
        ("DNS other.example.com", false),
    ] {
        let rules = bounded();
        let verdict = grants.decide(&rules, &facts(line));
        assert_eq!(verdict.is_allowed(), allowed, "{line}");
        assert!(!allowed || verdict.tls == policy::TlsMode::Inspect);
        assert!(!decide(&bounded(), &facts(line)).is_allowed(), "{line}, without grants");
    }
    let names = Grants::letting_names_pass();
    assert!(names.decide(&bounded(), &facts("DNS other.example.com")).is_allowed());
    assert!(!names.decide(&bounded(), &facts("DNS x.no.example.com")).is_allowed());
    assert!(!names.decide(&bounded(), &facts("DNS elsewhere.example")).is_allowed());
}

#[test]
fn grants_are_bounded_and_end_with_the_sandbox() {
    let mut grants = Grants::default();
    let names: Vec<String> = (0..=GRANTS_MAX).map(|n| format!("GET https://h{n}.example/")).collect();
    let question = |line: &String| Question::about(&Ruleset::empty(), &facts(line)).unwrap();
    for line in &names[..GRANTS_MAX] {
        grants.add(question(line), Scope::Exactly).unwrap();
        grants.add(question(line), Scope::Exactly).unwrap();
    }
    assert_eq!(grants.len(), GRANTS_MAX);
    assert!(grants.add(question(&names[GRANTS_MAX]), Scope::Exactly).is_err());
    grants.clear();
    assert!(grants.is_empty() && !grants.decide(&Ruleset::empty(), &facts(&names[0])).is_allowed());
}

#[test]
fn a_rule_for_good_says_what_was_asked_and_no_more() {
    for (line, scope, text) in [
        (
            "POST https://a.example/v1/x?q=1",
            Scope::Exactly,
            Some("host = \"a.example\"\nmethods = [\"POST\"]\npaths = [\"/v1/x\"]\n"),
        ),
        ("POST https://a.example/v1/x", Scope::Host, Some("host = \"a.example\"\n")),
        (
            "GET http://a.example:8080/",
            Scope::Exactly,
            Some(
                "host = \"a.example\"\nports = [8080]\nscheme = \"http\"\nmethods = [\"GET\"]\npaths = [\"/\"]\n",
            ),
        ),
        ("GET wss://a.example/s", Scope::Host, Some("host = \"a.example\"\nwebsocket = true\n")),
        ("TCP a.example:22", Scope::Exactly, Some("host = \"a.example\"\nports = [22]\ntcp = true\n")),
        ("DNS a.example", Scope::Exactly, None),
        ("GET https://93.184.215.14/", Scope::Exactly, None),
        ("GET https://a.example/*/x", Scope::Exactly, None),
        ("GET https://a.example/a%2Fb", Scope::Exactly, None),
        ("GET https://a.example/a%2Fb", Scope::Host, Some("host = \"a.example\"\n")),
    ] {
        let question = Question::about(&Ruleset::empty(), &facts(line)).unwrap();
        let written = question.rule_text(scope, "asked-1", "said \"yes\"");
        let expected =
            text.map(|text| format!("[[allow]]\nid = \"asked-1\"\n{text}reason = \"said \\\"yes\\\"\"\n"));
        assert_eq!(written, expected, "{line}");
        if let Some(written) = written {
            let rules = Ruleset::parse(&format!("version = 1\n{written}"), "p").unwrap();
            assert!(decide(&rules, &facts(line)).is_allowed(), "{line}");
        }
    }
}

#[test]
fn a_question_shows_no_secret_and_nothing_that_a_terminal_obeys() {
    let question =
        Question::about(&Ruleset::empty(), &facts("GET https://a.example/x?token=hidden")).unwrap();
    assert_eq!(question.to_string(), "GET https://a.example/x");
    for path in ["/\u{1b}[2J", "/\u{202e}x", "/\u{9b}x"] {
        let line = format!("GET https://a.example{path}");
        if let Some(question) = Question::about(&Ruleset::empty(), &facts(&line)) {
            let shown = question.to_string();
            assert!(shown.bytes().all(|byte| (b' '..=b'~').contains(&byte)), "{shown:?}");
        }
    }
}
