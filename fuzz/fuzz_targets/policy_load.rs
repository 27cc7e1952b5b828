//! Policy files: any text is a rule set or an error with a text; without an allow rule everything is denied;
//! and one deny rule more never allows.

#![no_main]

use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use policy::{Effect, Facts, Host, Layer, PolicyError, Ruleset, Scheme, decide};

const DENY: &str = "version = 1\n[[deny]]\nid = \"added-by-the-fuzzer\"\nhost = \"**.example.com\"\n";

/// It loads by itself, or nothing is held by it.
static DENY_ALONE: LazyLock<Result<Ruleset, PolicyError>> =
    LazyLock::new(|| Ruleset::parse(DENY, "more.toml"));

fuzz_target!(|text: &str| {
    assert!(DENY_ALONE.is_ok(), "what is added does not load: {:?}", *DENY_ALONE);
    let rules = match Ruleset::parse(text, "policy.toml") {
        Ok(rules) => rules,
        Err(error) => {
            assert!(!error.to_string().is_empty());
            return;
        }
    };
    let allows_nothing = rules.rules().all(|rule| rule.effect == Effect::Deny);
    let stricter = Ruleset::from_layers(&[(text, "policy.toml"), (DENY, "more.toml")]);
    for facts in questions() {
        let verdict = decide(&rules, &facts);
        assert_eq!(verdict, decide(&rules, &facts));
        assert!(!verdict.explain(&facts).to_string().contains('\n'));
        if allows_nothing {
            assert!(!verdict.is_allowed(), "allowed by no rule");
        }
        assert_eq!(verdict.is_allowed(), verdict.rule.is_some_and(|rule| rule.effect == Effect::Allow));
        assert!(verdict.credential.is_none() || (verdict.is_allowed() && facts.layer() == Layer::Http));
        if let Ok(stricter) = &stricter {
            assert!(verdict.is_allowed() || !decide(stricter, &facts).is_allowed());
        }
    }
});

fn questions() -> impl Iterator<Item = Facts<'static>> {
    let names = ["a.example.com", "example.com", "b"].map(Host::Name);
    let addresses = ["10.0.0.1", "::1"].map(|ip| Host::Ip(ip.parse().unwrap()));
    names.into_iter().chain(addresses).flat_map(|host| {
        let name = if let Host::Name(name) = host { name } else { "c.example" };
        [
            Facts::dns(name),
            Facts::connect(host, 443),
            Facts::tcp(host, 5432),
            Facts::http(Scheme::Https, host, 443, "GET", "/a/b"),
            Facts::http(Scheme::Http, host, 80, "POST", "/"),
            Facts::http(Scheme::Wss, host, 443, "GET", "/a//b"),
        ]
    })
}
