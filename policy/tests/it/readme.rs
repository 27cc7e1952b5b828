//! README's policy is what its readers begin with: it loads, has no mistake, and answers as is shown there.

use policy::lint::{Severity, lint};
use policy::{Facts, Ruleset, decide, decide_address};

const README: &str = include_str!("../../../README.md");

fn rules() -> Ruleset {
    let (_, after) = README.split_once("## A policy\n").unwrap();
    let (_, after) = after.split_once("```toml\n").unwrap();
    let (text, _) = after.split_once("```\n").unwrap();
    Ruleset::parse(text, "policy.toml").unwrap_or_else(|error| panic!("{error}"))
}

#[test]
fn its_policy_has_no_mistake_and_no_rule_stands_in_the_way_of_another() {
    let rules = rules();
    let of_weight: Vec<_> =
        lint(&rules, 0).into_iter().filter(|finding| finding.severity > Severity::Note).collect();
    assert!(of_weight.is_empty(), "{of_weight:?}");
    for (rule, line) in [
        ("api", "POST https://api.example.com/v1/x"),
        ("local-registry", "GET https://registry.test:8443/"),
        ("database", "TCP db.example.com:5432"),
    ] {
        let verdict = decide(&rules, &Facts::parse(line).unwrap());
        assert!(verdict.is_allowed() && verdict.rule.is_some_and(|by| by.id == rule), "{line}: {verdict:?}");
    }
}

#[test]
fn what_it_shows_is_what_the_policy_answers() {
    let rules = rules();
    let asked = |line: &str| decide(&rules, &Facts::parse(line).unwrap()).is_allowed();
    assert!(!asked("PUT https://api.example.com/v1/x") && !asked("GET https://db.example.com/"));
    let facts = Facts::parse("GET https://registry.test:8443/").unwrap();
    assert!(decide_address(&rules, &facts, "127.0.0.1".parse().unwrap()).is_allowed());
    let facts = Facts::parse("DELETE https://api.example.com/v1/x").unwrap();
    let shown = decide(&rules, &facts).explain(&facts).to_string();
    assert!(README.contains(&format!("\n{shown}\n")), "README does not show: {shown}");
}
