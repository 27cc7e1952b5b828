//! Layers that only record, beside layers that enforce.

use policy::{Cause, Facts, Mode, Ruleset, decide, decide_address, decide_public_address};

const TEAM: &str = r#"
version = 1
[[allow]]
id = "team"
host = "**.example.com"
[[deny]]
id = "team-deny"
host = "paste.example.com"
"#;
const USER: &str = r#"
version = 1
[[allow]]
id = "user"
host = "api.example.net"
methods = ["GET"]
credential = "KEY"
[[deny]]
id = "user-deny"
host = "api.example.com"
[[deny]]
id = "user-net"
cidr = "192.0.2.0/24"
"#;
const CEILING: &str = r#"
version = 1
ceiling = true
[[allow]]
id = "bound"
host = ["**.example.com", "**.example.net"]
ports = "any"
scheme = ["http", "https"]
"#;

fn audit(text: &str) -> String {
    text.replace("version = 1\n", "version = 1\nmode = \"audit\"\n")
}

/// How it ends: `allow`, `deny` or `would`, and by which rule or why.
fn outcome(layers: &[&str], line: &str) -> String {
    let named: Vec<_> = layers.iter().zip(["a", "b", "c"]).map(|(text, name)| (*text, name)).collect();
    let rules = Ruleset::from_layers(&named).unwrap();
    let facts = Facts::parse(line).unwrap();
    let verdict = decide(&rules, &facts);
    let word = match (verdict.is_allowed(), verdict.would_deny()) {
        (true, false) => "allow",
        (false, true) => "would",
        (false, false) => "deny",
        (true, true) => panic!("both: {verdict:?}"),
    };
    assert_eq!(verdict.may_pass(), word != "deny");
    assert!(word == "allow" || verdict.credential.is_none());
    assert_eq!(
        verdict.explain(&facts).to_string().starts_with("only recorded, would be denied: "),
        word == "would"
    );
    match (verdict.rule, verdict.cause) {
        (Some(rule), _) => format!("{word} {}", rule.id),
        (None, Cause::NoRule) => format!("{word} -"),
        (None, Cause::Ceiling) => format!("{word} ceiling {}", verdict.layer.unwrap()),
        (None, cause) => format!("{word} {cause:?}"),
    }
}

#[test]
fn alone_it_refuses_nothing_that_it_judges() {
    let user = audit(USER);
    for (line, expected) in [
        ("GET https://api.example.net/", "allow user"),
        ("POST https://api.example.net/", "would -"),
        ("GET https://api.example.com/", "would user-deny"),
        ("GET https://elsewhere.example/", "would -"),
        ("TCP elsewhere.example:22", "would -"),
        ("DNS elsewhere.example", "would -"),
        ("CONNECT elsewhere.example:443", "would -"),
        ("GET https://Elsewhere.example/", "deny NotCanonical(HostName)"),
    ] {
        assert_eq!(outcome(&[&user], line), expected, "{line}");
    }
}

#[test]
fn a_layer_that_enforces_refuses_beside_one_that_records() {
    let (user, team) = (audit(USER), audit(TEAM));
    for (layers, line, expected) in [
        // The user's file records, the team's enforces: its deny, and that nobody allows.
        ([&user, TEAM], "GET https://paste.example.com/", "deny team-deny"),
        ([&user, TEAM], "GET https://elsewhere.example/", "deny -"),
        ([&user, TEAM], "GET https://api.example.com/", "would user-deny"),
        ([&user, TEAM], "GET https://api.example.net/", "allow user"),
        ([TEAM, &user], "GET https://api.example.com/", "would user-deny"),
        // The other way round.
        ([USER, &team], "GET https://paste.example.com/", "would team-deny"),
        ([USER, &team], "GET https://api.example.com/", "deny user-deny"),
        ([USER, &team], "POST https://api.example.net/", "deny -"),
        // Refused by both: what is carried out is the answer.
        ([&user, &team], "GET https://api.example.com/", "would user-deny"),
    ] {
        assert_eq!(outcome(&layers, line), expected, "{line}");
    }
}

#[test]
fn a_ceiling_that_enforces_bounds_what_only_passes() {
    let (user, ceiling) = (audit(USER), audit(CEILING));
    for (layers, line, expected) in [
        ([&user, CEILING], "GET https://elsewhere.example/", "deny ceiling b"),
        ([&user, CEILING], "GET https://other.example.net/", "would -"),
        ([&user, CEILING], "GET https://api.example.com/", "would user-deny"),
        ([&user, CEILING], "TCP other.example.net:22", "deny ceiling b"),
        ([TEAM, &ceiling], "GET https://x.example.com/", "allow team"),
        ([USER, &ceiling], "GET https://elsewhere.example/", "deny -"),
        ([&user, &ceiling], "GET https://elsewhere.example/", "would -"),
    ] {
        assert_eq!(outcome(&layers, line), expected, "{line}");
    }
    let wide = "version = 1\n[[allow]]\nid = \"wide\"\nhost = \"**\"\n";
    assert_eq!(outcome(&[wide, &ceiling], "GET https://elsewhere.example/"), "would ceiling b");
    assert_eq!(outcome(&[wide, CEILING], "GET https://elsewhere.example/"), "deny ceiling b");
}

#[test]
fn raw_bytes_that_an_enforced_rule_might_deny_do_not_pass() {
    let deny = "version = 1\nceiling = true\n[[allow]]\nid = \"any\"\nhost = \"**\"\nports = [22]\ntcp = true\n\
                [[deny]]\nid = \"unsure\"\nhost = \"x.example\"\nmethods = [\"POST\"]\n";
    assert_eq!(outcome(&[&audit(USER), deny], "TCP x.example:22"), "deny unsure");
    assert_eq!(outcome(&[&audit(USER), deny], "TCP y.example:22"), "would -");
}

#[test]
fn addresses_are_never_rehearsed() {
    let rules = Ruleset::parse(&audit(USER), "a").unwrap();
    assert_eq!(rules.mode(), Mode::Audit);
    assert_eq!(rules.audit_layers().collect::<Vec<_>>(), ["a"]);
    let public = "198.51.100.7".parse().unwrap();
    let named = "192.0.2.7".parse().unwrap();
    let private = "10.0.0.1".parse().unwrap();
    for line in
        ["GET https://api.example.net/", "GET https://elsewhere.example/", "CONNECT elsewhere.example:443"]
    {
        let facts = Facts::parse(line).unwrap();
        assert!(decide_public_address(&rules, &facts, public).may_pass(), "{line}");
        let verdict = decide_public_address(&rules, &facts, named);
        assert_eq!((verdict.may_pass(), verdict.rule.unwrap().id), (false, "user-net"), "{line}");
        let verdict = decide_address(&rules, &facts, private);
        assert!(!verdict.may_pass(), "{line}: {verdict:?}");
    }
}

#[test]
fn everything_enforced_is_as_without_modes() {
    let rules = Ruleset::from_layers(&[(USER, "a"), (TEAM, "b")]).unwrap();
    assert_eq!(rules.audit_layers().len(), 0);
    assert_eq!(outcome(&[USER, TEAM], "GET https://elsewhere.example/"), "deny -");
    assert_eq!(outcome(&[USER, TEAM], "GET https://api.example.com/"), "deny user-deny");
}
