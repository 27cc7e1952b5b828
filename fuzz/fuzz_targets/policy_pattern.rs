//! Any text as one pattern of a rule (host, path, network, ports, query key): it is a rule or an error with a text,
//! and a rule matches as the second opinion of `policy`'s own tests does.

#![no_main]

use std::net::IpAddr;

use libfuzzer_sys::fuzz_target;
use policy::{Facts, Host, Rule, Ruleset, RulesetBuilder, Scheme, decide};

#[allow(dead_code)]
#[path = "../../policy/tests/it/naive.rs"]
mod naive;

use naive::{PlainFacts, PlainRule};

/// The second opinion on globs takes exponential time: by more stars, or longer texts, it would not end.
const STARS_MAX: usize = 4;
const GLOB_SUBJECT_BYTES_MAX: usize = 64;

// The first byte chooses the key, the first line is the pattern, the rest is what it is asked about.
fuzz_target!(|text: &str| {
    let Some((kind, rest)) = text.split_at_checked(1) else { return };
    let (pattern, subject) = rest.split_once('\n').unwrap_or((rest, ""));
    match kind {
        "h" => host(pattern, subject),
        "p" => path(pattern, subject),
        "c" => cidr(pattern, subject),
        "o" => ports(pattern, subject),
        "q" => query(pattern, subject),
        _ => {}
    }
});

fn rules(rules: impl IntoIterator<Item = Rule>) -> Option<Ruleset> {
    match rules.into_iter().try_fold(RulesetBuilder::new(), RulesetBuilder::rule) {
        Ok(builder) => Some(builder.build()),
        Err(error) => {
            let text = error.to_string();
            assert!(!text.is_empty() && !text.contains('\n'), "{text:?}");
            None
        }
    }
}

/// Whether rules and second opinion say the same of canonical facts; of others, nothing is allowed.
fn agree(compiled: &Ruleset, plain: &[PlainRule], facts: &Facts<'_>, plain_facts: &PlainFacts) {
    let allowed = decide(compiled, facts).is_allowed();
    let expected = facts.check().is_ok() && naive::allows(plain, plain_facts);
    assert_eq!(allowed, expected, "{facts} by {plain:?}");
}

fn plain_facts(layer: &'static str, host: &str) -> PlainFacts {
    PlainFacts {
        layer,
        host: host.to_owned(),
        port: Some(443),
        scheme: (layer == "http").then_some("https"),
        method: (layer == "http").then(|| "GET".to_owned()),
        path: (layer == "http").then(|| "/".to_owned()),
        query: None,
        now: None,
    }
}

fn everything() -> (Rule, PlainRule) {
    (Rule::allow().host("**"), PlainRule { hosts: vec!["**".to_owned()], ..PlainRule::default() })
}

fn host(pattern: &str, name: &str) {
    let facts = Facts::connect(Host::Name(name), 443);
    let plain = plain_facts("connect", name);
    let rule = |deny| PlainRule { deny, hosts: vec![pattern.to_owned()], ..PlainRule::default() };
    let Some(allow) = rules([Rule::allow().host(pattern)]) else { return };
    agree(&allow, &[rule(false)], &facts, &plain);
    let (all, plain_all) = everything();
    let deny = rules([all, Rule::deny().host(pattern)]).expect("a host that allows can deny");
    agree(&deny, &[plain_all, rule(true)], &facts, &plain);
}

fn path(pattern: &str, path: &str) {
    let asked = |compiled: &Ruleset, plain: &[PlainRule]| {
        if pattern.matches('*').count() > STARS_MAX || path.len() > GLOB_SUBJECT_BYTES_MAX {
            return;
        }
        let facts = Facts::http(Scheme::Https, Host::Name("a.x"), 443, "GET", path);
        agree(
            compiled,
            plain,
            &facts,
            &PlainFacts { path: Some(path.to_owned()), ..plain_facts("http", "a.x") },
        );
    };
    let hosts = vec!["a.x".to_owned()];
    let rule = |deny| PlainRule {
        deny,
        hosts: hosts.clone(),
        paths: vec![pattern.to_owned()],
        ..PlainRule::default()
    };
    let Some(allow) = rules([Rule::allow().host("a.x").path(pattern)]) else { return };
    asked(&allow, &[rule(false)]);
    let (all, plain_all) = everything();
    let deny = rules([all, Rule::deny().host("a.x").path(pattern)]).expect("a path that allows can deny");
    asked(&deny, &[plain_all, rule(true)]);
}

fn cidr(network: &str, address: &str) {
    let Some(allow) = rules([Rule::allow().cidr(network)]) else { return };
    let Ok(ip) = address.parse::<IpAddr>() else { return };
    // An address alone is itself.
    let whole = if network.contains(':') { "128" } else { "32" };
    let network = if network.contains('/') { network.to_owned() } else { format!("{network}/{whole}") };
    let rule = PlainRule { cidrs: vec![network], ..PlainRule::default() };
    agree(&allow, &[rule], &Facts::connect(Host::Ip(ip), 443), &plain_facts("connect", address));
}

/// By a file: in code, ports are numbers.
fn ports(text: &str, port: &str) {
    let literal: String = text.chars().map(|c| format!("\\U{:08X}", u32::from(c))).collect();
    let file = format!("version = 1\n[[allow]]\nhost = \"a.x\"\nports = \"{literal}\"\n");
    let compiled = match Ruleset::parse(&file, "policy.toml") {
        Ok(rules) => rules,
        Err(error) => return assert!(!error.to_string().is_empty()),
    };
    let Ok(port) = port.parse::<u16>() else { return };
    let among = |range: &str| {
        let (from, to) = range.split_once('-').unwrap_or((range, range));
        let number = |text: &str| text.parse::<u16>().expect("ports that load are numbers");
        number(from) <= port && port <= number(to)
    };
    let expected = port != 0 && (text == "any" || among(text));
    assert_eq!(
        decide(&compiled, &Facts::connect(Host::Name("a.x"), port)).is_allowed(),
        expected,
        "{text:?} {port}"
    );
}

fn query(key: &str, query: &str) {
    let facts = Facts::http(Scheme::Https, Host::Name("a.x"), 443, "GET", "/").with_query(query);
    let plain = PlainFacts { query: Some(query.to_owned()), ..plain_facts("http", "a.x") };
    let rule = |deny| PlainRule {
        deny,
        hosts: vec!["a.x".to_owned()],
        query: Some(vec![key.to_owned()]),
        ..PlainRule::default()
    };
    let Some(allow) = rules([Rule::allow().host("a.x").query_key(key)]) else { return };
    agree(&allow, &[rule(false)], &facts, &plain);
    let (all, plain_all) = everything();
    let deny = rules([all, Rule::deny().host("a.x").query_key(key)]).expect("a key that allows can deny");
    agree(&deny, &[plain_all, rule(true)], &facts, &plain);
}
