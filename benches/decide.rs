//! One decision: few rules, and as many hosts as a large block list has.

use divan::{Bencher, black_box};
use policy::{Effect, Facts, Rule, Ruleset, RulesetBuilder, Scheme, decide};

fn main() {
    divan::main();
}

/// What an agent's policy looks like: names, wildcards, methods, paths, a credential, a deny rule.
fn ten_rules() -> Ruleset {
    let rules = (0..8).map(|n| {
        Rule::allow()
            .host(format!("api{n}.example.com"))
            .method("GET")
            .method("POST")
            .path("/v1/**")
            .credential("KEY")
    });
    let wide = Rule::allow().host("**.example.org").method("GET");
    let deny = Rule::deny().host("**.example.com").path("/**/admin/**");
    build(rules.chain([wide, deny]))
}

/// One rule with 5,000 names and one with 5,000 suffixes.
fn ten_thousand_hosts() -> Ruleset {
    let names = (0..5_000).fold(Rule::allow(), |rule, n| rule.host(format!("host{n}.example.com")));
    let suffixes = (0..5_000).fold(Rule::deny(), |rule, n| rule.host(format!("**.blocked{n}.example.net")));
    build([names, suffixes].into_iter())
}

fn build(mut rules: impl Iterator<Item = Rule>) -> Ruleset {
    let builder = rules.try_fold(RulesetBuilder::new(), RulesetBuilder::rule);
    builder.expect("rules that load").build()
}

fn question(host: &'static str) -> Facts<'static> {
    Facts::http(Scheme::Https, policy::Host::Name(host), 443, "POST", "/v1/messages/batches")
}

fn bench(bencher: Bencher<'_, '_>, rules: &Ruleset, host: &'static str, expected: Effect) {
    assert_eq!(decide(rules, &question(host)).effect, expected);
    bencher.bench(|| decide(black_box(rules), black_box(&question(host))).effect);
}

#[divan::bench]
fn allowed_by_one_of_ten_rules(bencher: Bencher<'_, '_>) {
    bench(bencher, &ten_rules(), "api7.example.com", Effect::Allow);
}

#[divan::bench]
fn denied_by_ten_rules(bencher: Bencher<'_, '_>) {
    bench(bencher, &ten_rules(), "a.b.c.example.io", Effect::Deny);
}

#[divan::bench]
fn allowed_among_ten_thousand_hosts(bencher: Bencher<'_, '_>) {
    bench(bencher, &ten_thousand_hosts(), "host4999.example.com", Effect::Allow);
}

#[divan::bench]
fn denied_among_ten_thousand_hosts(bencher: Bencher<'_, '_>) {
    bench(bencher, &ten_thousand_hosts(), "a.b.blocked4999.example.net", Effect::Deny);
}

/// A file of 10,000 rules as a person would write them.
fn ten_thousand_rules() -> String {
    let rule = |n: u32| {
        format!(
            "[[allow]]\nid = \"rule-{n}\"\nhost = [\"api{n}.example.com\", \"**.site{n}.example.org\"]\n\
             methods = [\"GET\", \"POST\"]\npaths = [\"/v1/**\"]\n"
        )
    };
    (0..10_000).map(rule).fold("version = 1\n".to_owned(), |text, rule| text + &rule)
}

#[divan::bench]
fn load_ten_thousand_rules(bencher: Bencher<'_, '_>) {
    let text = ten_thousand_rules();
    let rules = Ruleset::parse(&text, "policy.toml").expect("rules that load");
    assert_eq!(rules.rules().len(), 10_000);
    // What is given back is dropped outside of the time.
    bencher.bench(|| Ruleset::parse(black_box(&text), "policy.toml"));
}
