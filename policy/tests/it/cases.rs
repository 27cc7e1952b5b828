//! `testdata/decisions.toml`, through the functions that enforce.

use std::collections::{HashMap, HashSet};
use std::net::IpAddr;

use policy::{Cause, Facts, Fault, Ruleset, TlsMode, Verdict, decide, decide_address, decide_public_address};
use serde::Deserialize;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Cases {
    policies: HashMap<String, String>,
    case: Vec<Case>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Case {
    name: String,
    policy: String,
    request: String,
    address: Option<IpAddr>,
    public_address: Option<IpAddr>,
    expect: String,
    cause: Option<String>,
    rule: Option<String>,
    miss: Option<String>,
    credential: Option<String>,
    tls: Option<TlsMode>,
    now: Option<i64>,
    upstream: Option<String>,
    on_opaque: Option<String>,
    limits: Option<Limits>,
    source: String,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields)]
struct Limits {
    requests_per_s: Option<u32>,
    request_body_bytes: Option<u64>,
    connections: Option<u32>,
}

fn cause_name(cause: Cause) -> String {
    let json = serde_json::to_value(cause).unwrap();
    json.get("fault").or(json.get("kind")).unwrap().as_str().unwrap().to_owned()
}

/// Complains about the first thing that is not as expected.
fn compare(case: &Case, verdict: &Verdict<'_>) -> Result<(), String> {
    let same = |what: &str, expected: &Option<String>, got: String| match expected {
        Some(expected) if *expected != got => Err(format!("{what}: expected {expected:?}, got {got:?}")),
        _ => Ok(()),
    };
    let rule = verdict.rule.map(|rule| rule.id.to_owned()).unwrap_or_default();
    let miss = verdict.nearest_miss.map(|miss| format!("{}:{}", miss.rule.id, miss.field.key()));
    same("effect", &Some(case.expect.clone()), verdict.effect.to_string())?;
    same("cause", &case.cause, cause_name(verdict.cause))?;
    same("rule", &case.rule, rule)?;
    same("miss", &case.miss, miss.unwrap_or_default())?;
    same("credential", &case.credential, verdict.credential.unwrap_or_default().to_owned())?;
    same("upstream", &case.upstream, verdict.upstream.unwrap_or_default().to_owned())?;
    same("on_opaque", &case.on_opaque, format!("{:?}", verdict.on_opaque).to_lowercase())?;
    let limits = case.limits.as_ref().map(|limits| {
        let numbers = (limits.requests_per_s, limits.request_body_bytes, limits.connections);
        format!("{numbers:?}")
    });
    let got = verdict.limits;
    same("limits", &limits, format!("{:?}", (got.requests_per_s, got.request_body_bytes, got.connections)))?;
    same("tls", &case.tls.map(|tls| format!("{tls:?}")), format!("{:?}", verdict.tls))
}

#[test]
fn every_case_of_the_shared_file() {
    let cases: Cases = toml::from_str(include_str!("../../../testdata/decisions.toml")).unwrap();
    let load = |(name, text): (&String, &String)| (name.clone(), Ruleset::parse(text, name).unwrap());
    let policies: HashMap<String, Ruleset> = cases.policies.iter().map(load).collect();
    let mut names = HashSet::new();
    let mut failures = Vec::new();
    for case in &cases.case {
        assert!(names.insert(&case.name), "two cases are named {:?}", case.name);
        assert!(!case.source.is_empty(), "{:?} has no source", case.name);
        let rules = &policies[&case.policy];
        let facts = Facts::parse(&case.request).unwrap();
        let facts = case.now.map_or(facts, |now| facts.at(now));
        let verdict = match (case.address, case.public_address) {
            (Some(ip), _) => decide_address(rules, &facts, ip),
            (None, Some(ip)) => decide_public_address(rules, &facts, ip),
            (None, None) => decide(rules, &facts),
        };
        if let Err(failure) = compare(case, &verdict) {
            failures.push(format!("{}: {failure}\n    {}", case.name, verdict.explain(&facts)));
        }
    }
    assert!(
        failures.is_empty(),
        "{} of {} cases:\n{}",
        failures.len(),
        cases.case.len(),
        failures.join("\n")
    );
    assert!(cases.case.len() >= 80, "cases were lost");
}

#[test]
fn what_is_explained_names_the_fault_and_shows_no_control_bytes() {
    let facts = Facts::parse("CONNECT a\u{1b}[31m\0.example:443").unwrap();
    assert_eq!(facts.check(), Err(Fault::HostName));
    let rules = Ruleset::empty();
    let text = decide(&rules, &facts).explain(&facts).to_string();
    assert!(text.contains("not a canonical name"), "{text}");
    assert!(!text.chars().any(char::is_control), "{text:?}");
}

#[test]
fn port_zero_is_no_port() {
    let facts = Facts::connect(policy::Host::Name("a.example"), 0);
    assert_eq!(facts.check(), Err(Fault::Port));
}

#[test]
fn ipv4_written_as_ipv6_is_unwrapped_by_the_caller_or_refused() {
    let mapped: IpAddr = "::ffff:127.0.0.1".parse().unwrap();
    let rules =
        Ruleset::parse("version = 1\n[[allow]]\nhost = \"m.test\"\ncidr = \"127.0.0.0/8\"", "p").unwrap();
    let facts = Facts::parse("GET https://m.test/").unwrap();
    assert_eq!(decide_address(&rules, &facts, mapped).cause, Cause::NotCanonical(Fault::HostMapped));
    assert!(decide_address(&rules, &facts, mapped.to_canonical()).is_allowed());
}
