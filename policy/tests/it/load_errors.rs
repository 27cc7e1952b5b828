//! What does not load, and what the user is told: place, fault, remedy.

use policy::{PolicyError, Ruleset, limits};

fn error(text: &str) -> PolicyError {
    match Ruleset::parse(text, "policy.toml") {
        Err(error) => error,
        Ok(_) => panic!("loads:\n{text}"),
    }
}

/// Beginning of the message, a part of it that tells the remedy.
fn check(text: &str, begins: &str, contains: &str) {
    let message = error(text).to_string();
    assert!(message.starts_with(begins), "{message}\n-- does not begin with {begins:?}");
    assert!(message.contains(contains), "{message}\n-- does not contain {contains:?}");
}

/// A rule's lines after `version = 1` and its header.
fn check_rule(kind: &str, lines: &str, begins: &str, contains: &str) {
    check(&format!("version = 1\n[[{kind}]]\n{lines}\n"), begins, contains);
}

#[test]
fn a_syntax_error_shows_the_line_and_a_caret() {
    let message = error("version = 1\n[[allow]]\nhost = \"a.x\n").to_string();
    assert!(message.starts_with("policy.toml:3:"), "{message}");
    assert!(message.contains("\n3 | host = \"a.x\n") && message.ends_with('^'), "{message}");
}

#[test]
fn the_file_as_a_whole() {
    check("", "policy.toml:1:1: this file needs `version = 1`", "version = 1");
    check("version = 2", "policy.toml:1:11: ", "reads no other version");
    check("version = \"1\"", "policy.toml:1:11: ", "invalid type");
    check("version = 1\nmode = \"loose\"", "policy.toml:2:8: ", "expected `enforce` or `audit`");
    check("version = 1\nallow_all = true", "policy.toml:2:1: unknown field `allow_all`", "expected one of");
    check("version = 1\n[allow]\nhost = \"a.x\"", "policy.toml:2:1: ", "expected a sequence");
    let large = format!("version = 1\n#{}", " ".repeat(limits::FILE_BYTES_MAX));
    check(&large, "policy.toml: the policy is larger than", "split it");
}

#[test]
fn keys_of_a_rule() {
    check_rule("allow", "host = \"a.x\"\nport = 443", "policy.toml:4:1: unknown field `port`", "`ports`");
    check_rule("allow", "host = 7", "policy.toml:3:8: ", "a string or a list of strings");
    check_rule("allow", "id = \"no host\"", "policy.toml:2:1: rule \"no host\"", "host = \"**\"");
    check_rule("allow", "id = \"a b\"\nhost = \"a.x\"", "policy.toml:3:6: id = \"a b\"", "1 to 64");
    check_rule("allow", "host = []", "policy.toml:3:8: host = \"\": an empty list", "leave the key out");
    check_rule(
        "allow",
        "host = \"10.0.0.1\"",
        "policy.toml:3:8: host = \"10.0.0.1\"",
        "write it under `cidr`",
    );
    check_rule("allow", "host = [\"a.x\", \"*\"]", "policy.toml:3:8: host = \"*\"", "`*.example.com`");
    check_rule("allow", "host = \"A.x\"", "policy.toml:3:8: host = \"A.x\"", "lower-case");
    check_rule("allow", "cidr = \"10.0.0.1/8\"", "policy.toml:3:8: cidr", "clear them");
    check_rule("allow", "host = \"a.x\"\nports = [0]", "policy.toml:4:9: ports = \"0\"", "from 1 to 65535");
    check_rule(
        "allow",
        "host = \"a.x\"\nports = [65536]",
        "policy.toml:4:9: ports = \"65536\"",
        "from 1 to 65535",
    );
    check_rule("allow", "host = \"a.x\"\nports = [\"9-8\"]", "policy.toml:4:9: ports", "a range as");
    check_rule("allow", "host = \"a.x\"\nports = [\"any\", 1]", "policy.toml:4:9: ", "stands alone");
    check_rule("allow", "host = \"a.x\"\nports = true", "policy.toml:4:9: ", "a list of numbers");
    check_rule(
        "allow",
        "host = \"a.x\"\nscheme = \"wss\"",
        "policy.toml:4:10: scheme = \"wss\"",
        "websocket = true",
    );
    check_rule(
        "allow",
        "host = \"a.x\"\nmethods = [\"get\"]",
        "policy.toml:4:11: methods = \"get\"",
        "upper case",
    );
    check_rule(
        "allow",
        "host = \"a.x\"\npaths = [\"v1\"]",
        "policy.toml:4:9: paths = \"v1\"",
        "starts with `/`",
    );
    check_rule("allow", "host = \"a.x\"\npaths = [\"/a**\"]", "policy.toml:4:9: paths", "a whole segment");
    check_rule(
        "allow",
        "host = \"a.x\"\npaths = [\"/a%2Fb\"]",
        "policy.toml:4:9: paths",
        "in different ways",
    );
    check_rule(
        "allow",
        "host = \"a.x\"\ntls = \"none\"",
        "policy.toml:4:7: ",
        "expected `inspect` or `opaque`",
    );
    check_rule("allow", "host = \"a.x\"\ncredential = \"a b\"", "policy.toml:4:14: credential", "1 to 128");
    check_rule("allow", "host = \"a.x\"\nreason = \"a\\nb\"", "policy.toml:4:10: reason", "one line");
}

#[test]
fn values_of_what_a_rule_says_beside_yes() {
    for (line, begins, contains) in [
        ("query = [\"a=b\"]", "policy.toml:4:9: query = \"a=b\"", "key"),
        ("query = 7", "policy.toml:4:9: ", "a string or a list of strings"),
        ("upstream = \"a b\"", "policy.toml:4:12: upstream = \"a b\"", "1 to 64"),
        ("on_opaque = \"drop\"", "policy.toml:4:13: ", "expected `refuse` or `pass`"),
        ("limits = { requests = 1 }", "policy.toml:4:12: unknown field `requests`", "`requests_per_s`"),
        ("limits = { connections = 0 }", "policy.toml:4:26: ", "a whole number from 1"),
        ("limits = { connections = -1 }", "policy.toml:4:26: ", ""),
        ("limits = 3", "policy.toml:4:10: ", ""),
        ("expires = \"tomorrow\"", "policy.toml:4:11: expires = \"tomorrow\"", "date, time and offset"),
        ("expires = 2027-01-01T00:00:00", "policy.toml:4:11: expires", "date, time and offset"),
        ("expires = 2027", "policy.toml:4:11: ", "a date-time"),
    ] {
        check_rule("allow", &format!("host = \"a.x\"\n{line}"), begins, contains);
    }
    check_rule("deny", "host = \"a.x\"\nquery = []", "policy.toml:4:9: query = \"\"", "an empty list");
    for line in ["upstream = \"c\"", "on_opaque = \"pass\"", "limits = { connections = 1 }"] {
        check_rule("deny", &format!("host = \"a.x\"\n{line}"), "policy.toml:4:", "leave them out");
    }
    let time = "host = \"a.x\"\nexpires = \"2027-01-01T00:00:00Z\"";
    check_rule("deny", time, "policy.toml:4:11: rule \"deny-1\"", "time alone would allow");
    let opaque = "host = \"a.x\"\ntls = \"opaque\"\n";
    check_rule("allow", &format!("{opaque}query = [\"q\"]"), "policy.toml:4:7: ", "nobody looks inside");
    check_rule("allow", &format!("{opaque}limits = {{ requests_per_s = 1 }}"), "policy.toml:5:10: ", "");
    check_rule("allow", &format!("{opaque}on_opaque = \"pass\""), "policy.toml:5:13: ", "");
}

#[test]
fn keys_that_do_not_go_together() {
    for (kind, lines, begins, contains) in [
        ("allow", "host = \"a.x\"\ntcp = true", "policy.toml:4:7: rule \"allow-1\"", "needs `ports`"),
        ("allow", "host = \"a.x\"\ntcp = true\nports = \"any\"", "policy.toml:4:7: ", "named ports only"),
        (
            "allow",
            "host = \"a.x\"\ntcp = true\nports = [1]\nmethods = [\"GET\"]",
            "policy.toml:4:7: ",
            "two rules",
        ),
        (
            "allow",
            "host = \"a.x\"\ntls = \"opaque\"\npaths = [\"/\"]",
            "policy.toml:4:7: ",
            "tls = \"inspect\"",
        ),
        (
            "allow",
            "host = \"a.x\"\ntls = \"opaque\"\ncredential = \"K\"",
            "policy.toml:4:7: ",
            "nobody looks inside",
        ),
        (
            "allow",
            "host = \"a.x\"\ntls = \"opaque\"\nscheme = \"http\"",
            "policy.toml:4:7: ",
            "scheme = \"https\"",
        ),
        (
            "allow",
            "host = \"a.x\"\nmethods = [\"POST\"]\nwebsocket = true",
            "policy.toml:4:11: ",
            "begins with a GET",
        ),
        (
            "allow",
            "host = \"a.x\"\ntcp = true\nports = [1]\nwebsocket = true",
            "policy.toml:6:13: ",
            "needs a `scheme`",
        ),
        ("deny", "host = \"a.x\"\ncredential = \"K\"", "policy.toml:4:14: rule \"deny-1\"", "leave them out"),
        ("deny", "host = \"a.x\"\ntls = \"inspect\"", "policy.toml:4:7: ", "leave them out"),
    ] {
        check_rule(kind, lines, begins, contains);
    }
}

#[test]
fn two_rules_of_one_name() {
    let text = "version = 1\n[[allow]]\nid = \"a\"\nhost = \"a.x\"\n[[deny]]\nid = \"a\"\nhost = \"b.x\"\n";
    check(text, "policy.toml:6:6: a rule named \"a\" is already at policy.toml:2", "its own id");
}

#[test]
fn a_policy_whose_tests_fail() {
    let policy = "version = 1\n[[allow]]\nid = \"a\"\nhost = \"a.x\"\n[[test]]\n";
    let test =
        |lines: &str, begins: &str, contains: &str| check(&format!("{policy}{lines}\n"), begins, contains);
    test(
        "request = \"GET https://b.x/\"\nexpect = \"allow\"",
        "policy.toml:5:1: the test expects allow, but the policy says: denied: GET https://b.x/: no rule allows it",
        "Correct the rules or the test",
    );
    test(
        "request = \"GET https://a.x/\"\nexpect = \"deny\"",
        "policy.toml:5:1: the test expects deny",
        "rule \"a\"",
    );
    test(
        "request = \"GET https://a.x/\"\nexpect = \"allow\"\nrule = \"b\"",
        "policy.toml:5:1: ",
        "allow by rule \"b\"",
    );
    test(
        "request = \"https://a.x/\"\nexpect = \"deny\"",
        "policy.toml:6:11: request = ",
        "write a method and a URL",
    );
    test(
        "request = \"get https://A.x/%7eme?q=1\"\nexpect = \"allow\"",
        "policy.toml:5:1: the test expects allow, but the policy says: denied: ",
        "not a canonical name (lower-case A-labels without a trailing dot); write \"GET https://a.x/~me?q=1\"",
    );
    test("request = \"CONNECT a.x\"\nexpect = \"deny\"", "policy.toml:6:11: ", "write the port");
    test("request = \"GET ftp://a.x/\"\nexpect = \"deny\"", "policy.toml:6:11: ", "must start with https://");
    test("request = \"GET https://a.x:+1/\"\nexpect = \"deny\"", "policy.toml:6:11: ", "from 1 to 65535");
    test("request = \"GET https://::1/\"\nexpect = \"deny\"", "policy.toml:6:11: ", "in brackets");
    test(
        "request = \"GET https://a.x/\"\nexpect = \"maybe\"",
        "policy.toml:7:10: ",
        "expected `allow` or `deny`",
    );
    test("request = \"GET https://a.x/\"", "policy.toml:5:1: missing field `expect`", "");
}

#[test]
fn passing_tests_load() {
    let text = "version = 1\n[[allow]]\nid = \"a\"\nhost = \"a.x\"\n[[test]]\nrequest = \"GET https://a.x/\"\nexpect = \"allow\"\nrule = \"a\"\n[[test]]\nrequest = \"GET https://A.x/\"\nexpect = \"deny\"\n";
    assert!(Ruleset::parse(text, "p").is_ok());
}

#[test]
fn a_rule_too_many() {
    let mut builder = policy::RulesetBuilder::new();
    for _ in 0..limits::RULES_MAX {
        builder = builder.rule(policy::Rule::deny().host("a.x")).unwrap();
    }
    let error = builder.rule(policy::Rule::deny().host("a.x")).unwrap_err();
    assert!(matches!(error, PolicyError::TooManyRules { .. }), "{error}");
}
