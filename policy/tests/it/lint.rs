//! What `lint` finds, what it must not find, and that a rule it calls useless is.

use policy::lint::{Severity, lint};
use policy::{
    Facts, Registry, RegistryHost, RegistryHosts, Ruleset, RulesetBuilder, Scheme, Verdict, decide,
    decide_address, decide_public_address,
};
use proptest::prelude::*;

const NOW: i64 = 1_800_000_000;

/// `code rule` of each finding, without the one about missing tests.
fn found(layers: &[&str]) -> Vec<String> {
    let texts: Vec<(String, String)> =
        (0..).zip(layers).map(|(n, text)| (format!("version = 1\n{text}"), format!("{n}.toml"))).collect();
    let layers: Vec<(&str, &str)> = texts.iter().map(|(text, name)| (&**text, &**name)).collect();
    let rules = Ruleset::from_layers(&layers).unwrap_or_else(|error| panic!("{error}"));
    let findings = lint(&rules, NOW);
    let told = findings.iter().map(|finding| format!("{} {}", finding.code.as_str(), finding.rule.id));
    told.filter(|line| !line.starts_with("untested")).collect()
}

#[test]
fn each_finding_and_its_neighbour_that_is_none() {
    let none: [&str; 0] = [];
    for (text, expected) in [
        // Names that anybody can have.
        ("[[allow]]\nid = \"a\"\nhost = \"**\"", &["any-host a"][..]),
        ("[[allow]]\nid = \"a\"\nhost = \"*.com\"", &["public-suffix a"]),
        ("[[allow]]\nid = \"a\"\nhost = [\"x.org\", \"**.org\"]", &["public-suffix a"]),
        ("[[allow]]\nid = \"a\"\nhost = \"*.example.com\"", &none),
        ("[[allow]]\nid = \"a\"\nhost = \"*.corp.internal\"", &none),
        ("[[deny]]\nid = \"a\"\nhost = \"**.com\"", &none),
        // Twice the same.
        (
            "[[allow]]\nid = \"a\"\nhost = [\"x.test\", \"y.test\"]\n[[allow]]\nid = \"b\"\nhost = [\"y.test\", \"x.test\"]",
            &["duplicate b"],
        ),
        (
            "[[allow]]\nid = \"a\"\nhost = \"x.test\"\non_opaque = \"pass\"\n[[allow]]\nid = \"b\"\nhost = \"x.test\"",
            &["duplicate b"],
        ),
        (
            "[[allow]]\nid = \"a\"\nhost = \"x.test\"\n[[allow]]\nid = \"b\"\nhost = \"x.test\"\ncredential = \"K\"",
            &["duplicate a"],
        ),
        (
            "[[deny]]\nid = \"a\"\nhost = \"x.test\"\n[[deny]]\nid = \"b\"\nhost = \"x.test\"",
            &["duplicate b"],
        ),
        // More than the same.
        (
            "[[allow]]\nid = \"a\"\nhost = \"**.x.test\"\n[[allow]]\nid = \"b\"\nhost = \"a.x.test\"\npaths = [\"/v1/**\"]",
            &["shadowed b"],
        ),
        (
            "[[allow]]\nid = \"a\"\nhost = \"x.test\"\npaths = [\"/v1/**\"]\n\
             [[allow]]\nid = \"b\"\nhost = \"x.test\"\npaths = [\"/v1/a\", \"/v1/b/*\"]\nmethods = [\"GET\"]",
            &["shadowed b"],
        ),
        (
            "[[allow]]\nid = \"a\"\nhost = \"**.x.test\"\n[[allow]]\nid = \"b\"\nhost = \"a.x.test\"\ncredential = \"K\"",
            &none,
        ),
        (
            "[[allow]]\nid = \"a\"\nhost = \"**.x.test\"\ncredential = \"K\"\n\
             [[allow]]\nid = \"b\"\nhost = \"a.x.test\"\nupstream = \"u\"",
            &["shadowed b"],
        ),
        (
            "[[allow]]\nid = \"a\"\nhost = \"**.x.test\"\n\
             [[allow]]\nid = \"b\"\nhost = \"a.x.test\"\nlimits = { requests_per_s = 1 }",
            &none,
        ),
        (
            "[[allow]]\nid = \"a\"\nhost = \"x.test\"\nexpires = \"2099-01-01T00:00:00Z\"\n\
             [[allow]]\nid = \"b\"\nhost = \"x.test\"\nmethods = [\"GET\"]",
            &none,
        ),
        (
            "[[deny]]\nid = \"a\"\nhost = \"x.test\"\nquery = [\"k\", \"l\"]\n[[deny]]\nid = \"b\"\nhost = \"x.test\"\nquery = [\"k\"]",
            &["shadowed b"],
        ),
        (
            "[[allow]]\nid = \"a\"\nhost = \"x.test\"\nquery = [\"k\"]\n[[allow]]\nid = \"b\"\nhost = \"x.test\"\nquery = []",
            &["shadowed b"],
        ),
        // Nothing left.
        (
            "[[allow]]\nid = \"a\"\nhost = \"a.x.test\"\n[[deny]]\nid = \"b\"\nhost = \"**.x.test\"",
            &["unreachable a"],
        ),
        (
            "[[allow]]\nid = \"a\"\nhost = \"x.test\"\n[[deny]]\nid = \"b\"\nhost = \"x.test\"\nmethods = [\"GET\"]",
            &none,
        ),
        (
            "[[allow]]\nid = \"a\"\nhost = \"x.test\"\nmethods = [\"GET\"]\n[[deny]]\nid = \"b\"\nhost = \"x.test\"\nmethods = [\"GET\"]",
            &["unreachable a"],
        ),
        (
            "[[allow]]\nid = \"a\"\nhost = \"x.test\"\nports = [5432]\ntcp = true\n\
             [[deny]]\nid = \"b\"\nhost = \"x.test\"\npaths = [\"/admin/**\"]",
            &["unreachable a"],
        ),
        (
            "[[allow]]\nid = \"a\"\nhost = \"x.test\"\ncidr = \"10.0.0.0/8\"\n[[deny]]\nid = \"b\"\ncidr = \"10.0.0.0/8\"",
            &none,
        ),
        (
            "[[allow]]\nid = \"a\"\ncidr = \"10.1.0.0/16\"\n[[deny]]\nid = \"b\"\ncidr = \"10.0.0.0/8\"",
            &["unreachable a"],
        ),
        ("[[allow]]\nid = \"a\"\nhost = \"x.test\"\nexpires = \"2020-01-01T00:00:00Z\"", &["expired a"]),
        ("[[allow]]\nid = \"a\"\nhost = \"x.test\"\nexpires = \"2099-01-01T00:00:00Z\"", &none),
        // Keys.
        (
            "[[allow]]\nid = \"a\"\nhost = \"x.test\"\nscheme = [\"https\", \"http\"]\ncredential = \"K\"",
            &["credential-in-clear a"],
        ),
        (
            "[[allow]]\nid = \"a\"\nhost = \"**\"\ncredential = \"K\"",
            &["any-host a", "credential-anywhere a"],
        ),
        ("[[allow]]\nid = \"a\"\nhost = \"*.x.test\"\ncredential = \"K\"", &none),
        // Opaque or not.
        (
            "[[allow]]\nid = \"a\"\nhost = \"x.test\"\ntls = \"opaque\"\n\
             [[allow]]\nid = \"b\"\nhost = \"x.test\"\npaths = [\"/v1/**\"]",
            &["opaque-not-in-force a", "conditions-on-opaque-host b"],
        ),
        (
            "[[allow]]\nid = \"a\"\nhost = \"x.test\"\ntls = \"opaque\"\n\
             [[deny]]\nid = \"b\"\nhost = \"**.test\"\nmethods = [\"DELETE\"]",
            &["opaque-not-in-force a"],
        ),
        (
            "[[allow]]\nid = \"a\"\nhost = \"x.test\"\ntls = \"opaque\"\n\
             [[allow]]\nid = \"b\"\nhost = \"y.test\"\npaths = [\"/v1/**\"]",
            &none,
        ),
        // Addresses.
        ("[[allow]]\nid = \"a\"\ncidr = \"0.0.0.0/0\"", &["special-addresses a"]),
        (
            "[[allow]]\nid = \"a\"\nhost = \"x.test\"\ncidr = [\"10.0.0.0/8\", \"::/0\"]",
            &["special-addresses a"],
        ),
        ("[[allow]]\nid = \"a\"\ncidr = \"169.254.0.0/16\"", &["metadata-address a"]),
        ("[[allow]]\nid = \"a\"\ncidr = \"fd00::/8\"", &["metadata-address a"]),
        ("[[allow]]\nid = \"a\"\ncidr = [\"169.254.169.254\", \"10.0.0.0/8\"]", &none),
        ("[[deny]]\nid = \"a\"\ncidr = \"0.0.0.0/0\"", &none),
        // Labels, those of presets too.
        ("[[allow]]\nid = \"a\"\nhost = \"x.test\"\nwrite_capable = true", &["write-capable a"]),
    ] {
        assert_eq!(found(&[text]), expected, "{text}");
    }
}

#[test]
fn what_a_ceiling_leaves_nothing_of() {
    let ceiling = "ceiling = true\n[[allow]]\nid = \"c\"\nhost = \"**.corp.test\"\npaths = [\"/v1/**\"]";
    for (text, expected) in [
        ("[[allow]]\nid = \"a\"\nhost = \"x.test\"", &["beyond-ceiling a"][..]),
        ("[[allow]]\nid = \"a\"\nhost = \"x.corp.test\"\npaths = [\"/v2/**\"]", &["beyond-ceiling a"]),
        ("[[allow]]\nid = \"a\"\nhost = \"x.corp.test\"\npaths = [\"/*/x\"]", &[]),
        ("[[allow]]\nid = \"a\"\nhost = \"**.test\"", &[]),
        ("[[allow]]\nid = \"a\"\nhost = \"x.corp.test\"\nports = [8443]", &["beyond-ceiling a"]),
    ] {
        assert_eq!(found(&[ceiling, text]), expected, "{text}");
    }
    // The ceiling itself may be as wide as it likes.
    assert_eq!(
        found(&["ceiling = true\n[[allow]]\nid = \"c\"\nhost = \"**\"\ncidr = \"0.0.0.0/0\""]),
        [""; 0]
    );
}

#[cfg(feature = "public-suffix")]
#[test]
fn the_public_suffix_list_is_known() {
    for (host, expected) in [
        ("*.co.uk", &["public-suffix a"][..]),
        ("**.github.io", &["public-suffix a"]),
        ("*.s3.amazonaws.com", &["public-suffix a"]),
        ("*.example.co.uk", &[]),
        ("*.test", &[]),
    ] {
        assert_eq!(found(&[&format!("[[allow]]\nid = \"a\"\nhost = \"{host}\"")]), expected, "{host}");
    }
}

#[test]
fn rules_that_no_test_is_decided_by() {
    let text =
        "version = 1\n[[allow]]\nid = \"a\"\nhost = \"a.test\"\n[[allow]]\nid = \"b\"\nhost = \"b.test\"\n";
    let tests = "[[test]]\nrequest = \"GET https://a.test/\"\nexpect = \"allow\"\n";
    let rules = Ruleset::parse(&format!("{text}{tests}"), "p.toml").unwrap();
    let findings = lint(&rules, NOW);
    assert_eq!(findings.len(), 1);
    assert_eq!((findings[0].rule.id, findings[0].severity), ("b", Severity::Note));
    assert_eq!(
        findings[0].to_string(),
        "p.toml:5: note: rule \"b\" decides none of the file's tests; write a [[test]] with a request that it allows \
         [untested]",
    );
    let rules = Ruleset::parse(text, "p.toml").unwrap();
    assert_eq!(lint(&rules, NOW).len(), 1, "once for a file without tests");
}

#[test]
fn a_finding_as_json_is_stable() {
    let text = "version = 1\n[[allow]]\nid = \"a\"\nhost = \"x.test\"\n[[allow]]\nid = \"b\"\nhost = \"x.test\"\n\
                [[test]]\nrequest = \"GET https://x.test/\"\nexpect = \"allow\"";
    let rules = Ruleset::parse(text, "p.toml").unwrap();
    let rule = |id: &str, line: u32| serde_json::json!({ "id": id, "effect": "allow", "file": "p.toml", "line": line, "layer": "p.toml", "reason": null, "write_capable": false });
    let expected = serde_json::json!({
        "code": "duplicate", "severity": "warning", "rule": rule("b", 5), "other": rule("a", 2),
        "text": "says the same as rule \"a\" (p.toml:2); remove one of them",
    });
    let findings = serde_json::to_value(lint(&rules, NOW)).unwrap();
    assert_eq!(findings[0], expected);
    assert_eq!(findings[1]["code"], "untested");
}

/// Ready-made rules are an example to others.
#[test]
fn presets_have_nothing_to_warn_of() {
    struct Mirror;
    impl RegistryHosts for Mirror {
        fn hosts(&self, _: Registry) -> Result<Vec<RegistryHost>, String> {
            let host = "packages.example.com".to_owned();
            Ok(vec![RegistryHost { scheme: Scheme::Https, host, port: 443 }])
        }
    }
    for name in policy::presets::names() {
        let text = format!("version = 1\nuse = [\"{name}\"]");
        let rules = RulesetBuilder::new().registry_hosts(Mirror).source(&text, "p.toml").unwrap().build();
        let findings = lint(&rules, NOW);
        assert!(findings.iter().all(|finding| finding.severity == Severity::Note), "{findings:#?}");
        assert!(findings.iter().all(|finding| finding.code != policy::lint::Code::Untested), "{findings:#?}");
    }
}

/// Tests are kept with what came of them, and a program that asks for it sees those that fail.
#[test]
fn tests_that_fail_are_shown_or_keep_the_policy_from_loading() {
    let text = "version = 1\n[[allow]]\nid = \"a\"\nhost = \"a.test\"\n\
                [[test]]\nrequest = \"GET https://a.test/\"\nexpect = \"allow\"\nrule = \"a\"\n\
                [[test]]\nrequest = \"GET https://b.test/\"\nexpect = \"allow\"\n";
    assert!(Ruleset::parse(text, "p.toml").is_err());
    let rules = RulesetBuilder::new().even_if_tests_fail().source(text, "p.toml").unwrap().build();
    let told: Vec<_> =
        rules.tests().iter().map(|run| (run.line, run.passed(), run.rule.as_deref())).collect();
    assert_eq!(told, [(5, true, Some("a")), (9, false, None)]);
    assert!(rules.tests()[1].failure.as_deref().unwrap().contains("no rule allows it"));
}

const HOSTS: [&str; 6] = ["a.test", "b.a.test", "*.a.test", "**.a.test", "**.test", "**"];
const CIDRS: [&str; 4] = ["10.0.0.0/8", "10.1.0.0/16", "10.1.2.3/32", "0.0.0.0/0"];
const PATHS: [&str; 7] = ["/**", "/a", "/a/**", "/a/*", "/*", "/A/b", "/**/b"];

/// The keys of a rule, in TOML; some are refused by the loader.
fn rule() -> impl Strategy<Value = String> {
    fn some<const N: usize>(key: &'static str, from: [&'static str; N]) -> impl Strategy<Value = String> {
        let list = prop::sample::subsequence(from.to_vec(), 1..=N.min(2));
        prop::option::of(list).prop_map(move |list| match list {
            Some(list) => format!("{key} = {list:?}\n"),
            None => String::new(),
        })
    }
    let flag = |text: &'static str, weight: f64| {
        prop::bool::weighted(weight).prop_map(move |on| if on { text } else { "" })
    };
    let condition = (some("methods", ["GET", "PUT"]), some("paths", PATHS), some("query", ["k", "l"]));
    let line = (some("scheme", ["https", "http"]), some("ports", ["443", "80", "1-500"]));
    let more = (
        flag("tcp = true\n", 0.1),
        flag("websocket = true\n", 0.1),
        flag("credential = \"K\"\n", 0.2),
        flag("tls = \"opaque\"\n", 0.2),
        flag("expires = \"2030-01-01T00:00:00Z\"\n", 0.1),
        flag("expires = \"2020-01-01T00:00:00Z\"\n", 0.05),
    );
    let target = (some("host", HOSTS), prop::bool::weighted(0.3), some("cidr", CIDRS));
    (prop::bool::weighted(0.3), target, condition, line, more).prop_map(
        |(deny, target, condition, line, more)| {
            let kind = if deny { "deny" } else { "allow" };
            let cidr = if target.1 { target.2 } else { String::new() };
            let more = [more.0, more.1, more.2, more.3, more.4, more.5].concat();
            let (methods, paths, query) = condition;
            format!("[[{kind}]]\n{}{cidr}{methods}{paths}{query}{}{}{more}", target.0, line.0, line.1)
        },
    )
}

/// Loads what can be loaded of it; a layer more may be a ceiling.
fn load(rules: &[String], bounds: &[String]) -> (Vec<String>, Vec<String>) {
    let named = |rules: &[String], head: &str, prefix: &str| -> Vec<String> {
        let named = (0..)
            .zip(rules)
            .map(|(n, rule)| rule.replacen("]]\n", &format!("]]\nid = \"{prefix}{n}\"\n"), 1));
        named.filter(|rule| Ruleset::parse(&format!("version = 1\n{head}{rule}"), "one").is_ok()).collect()
    };
    (named(rules, "", "r"), named(bounds, "ceiling = true\n", "c"))
}

fn build(rules: &[String], bounds: &[String]) -> Ruleset {
    let own = format!("version = 1\n{}", rules.concat());
    let ceiling = format!("version = 1\nceiling = true\n{}", bounds.concat());
    let layers = [(&*own, "own"), (&*ceiling, "ceiling")];
    let used = if bounds.is_empty() { &layers[..1] } else { &layers[..] };
    Ruleset::from_layers(used).unwrap()
}

/// All that somebody who carries a verdict out looks at.
fn carried_out(verdict: &Verdict<'_>) -> String {
    if !verdict.is_allowed() {
        return "deny".to_owned();
    }
    format!("{:?} {:?} {:?} {:?}", verdict.credential, verdict.tls, verdict.on_opaque, verdict.limits)
}

fn questions() -> Vec<String> {
    let mut lines = Vec::new();
    for host in ["a.test", "b.a.test", "c.b.a.test", "x.org", "10.1.2.3", "10.2.0.1"] {
        for port in [443, 80, 600] {
            lines.push(format!("TCP {host}:{port}"));
            for (method, scheme) in [("GET", "https"), ("PUT", "https"), ("GET", "http"), ("GET", "wss")] {
                for path in
                    ["/", "/a", "/a/", "/a/b", "/A/b", "/a/b/b", "/a;b", "/a?k=1", "/a?k=1&l=2", "/a?m=1"]
                {
                    lines.push(format!("{method} {scheme}://{host}:{port}{path}"));
                }
            }
        }
    }
    lines
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 192, failure_persistence: None, ..ProptestConfig::default() })]

    /// Nothing that passes or is refused, nor how it passes, hangs on a rule that is called useless.
    #[test]
    fn a_rule_that_is_called_useless_is(
        rules in prop::collection::vec(rule(), 2..6),
        bounds in prop_oneof![Just(Vec::new()), prop::collection::vec(rule(), 1..3)],
    ) {
        let (rules, bounds) = load(&rules, &bounds);
        let all = build(&rules, &bounds);
        let useless = ["duplicate", "shadowed", "unreachable", "beyond-ceiling", "expired"];
        let Some(finding) =
            lint(&all, NOW).into_iter().find(|finding| useless.contains(&finding.code.as_str())) else { return Ok(()) };
        let id = format!("id = \"{}\"\n", finding.rule.id);
        let without = |rules: &[String]| -> Vec<String> {
            rules.iter().filter(|rule| !rule.contains(&id)).cloned().collect()
        };
        let fewer = build(&without(&rules), &if bounds.is_empty() { Vec::new() } else {
            let left = without(&bounds);
            prop_assume!(!left.is_empty());
            left
        });
        for line in questions() {
            let facts = Facts::parse(&line).unwrap().at(NOW);
            let ip = match facts.host() {
                policy::Host::Ip(ip) => ip,
                policy::Host::Name(_) => [10, 1, 2, 3].into(),
            };
            for judge in [
                |rules, facts, _| carried_out(&decide(rules, facts)),
                |rules, facts, ip| carried_out(&decide_address(rules, facts, ip)),
                |rules, facts, ip| carried_out(&decide_public_address(rules, facts, ip)),
            ] as [fn(&Ruleset, &Facts<'_>, std::net::IpAddr) -> String; 3] {
                let (before, after) = (judge(&all, &facts, ip), judge(&fewer, &facts, ip));
                prop_assert_eq!(before, after, "{} without {}", line, finding);
            }
        }
    }
}

/// What a person waits for ends: where it cannot compare everything, it says so, in a note.
#[test]
fn many_rules_about_one_host_are_not_all_compared_and_that_is_said() {
    let rules = |count: usize, more: &str| {
        let rule =
            |n: usize| format!("[[allow]]\nhost = \"**.example.com\"\npaths = [\"/a{n}/*b*/**\"]\n{more}\n");
        let text = (0..count).map(rule).fold("version = 1\n".to_owned(), |text, rule| text + &rule);
        Ruleset::parse(&text, "policy.toml").unwrap_or_else(|error| panic!("{error}"))
    };
    let codes = |rules: &Ruleset| {
        let findings = lint(rules, NOW);
        let told = findings.iter().filter(|finding| finding.code.as_str() == "not-compared");
        told.map(|finding| (finding.severity, finding.rule.id.to_owned())).collect::<Vec<_>>()
    };
    let few = rules(50, "");
    assert_eq!(codes(&few), []);
    // Quadratic, these would be a hundred million comparisons.
    let many = rules(10_000, "");
    let told = codes(&many);
    assert!(matches!(told.as_slice(), [(Severity::Note, _)]), "{told:?}");
    let opaque = |n: usize| format!("[[allow]]\nhost = \"**.h{n}.test\"\ntls = \"opaque\"\n");
    let text = (0..10_000).map(opaque).fold("version = 1\n".to_owned(), |text, rule| text + &rule);
    let told = codes(&Ruleset::parse(&text, "policy.toml").unwrap());
    assert!(matches!(told.as_slice(), [(Severity::Note, _)]), "{told:?}");
}
