//! Our own.

use policy::{Facts, Host, Rule, Ruleset, RulesetBuilder, Scheme, decide};

use crate::{COUNT, Question};

pub fn ten_rules() -> Ruleset {
    let api = |n| {
        let rule = Rule::allow().host(format!("api{n}.example.com"));
        rule.method("GET").method("POST").path("/v1/**").credential("KEY")
    };
    let wide = Rule::allow().host("**.example.org").method("GET");
    let deny = Rule::deny().host("**.example.com").path("/**/admin/**");
    build((0..8).map(api).chain([wide, deny]))
}

pub fn many_hosts() -> Ruleset {
    let names = (0..COUNT).fold(Rule::allow(), |rule, n| rule.host(format!("host{n}.example.com")));
    let suffixes = (0..COUNT).fold(Rule::deny(), |rule, n| rule.host(format!("**.blocked{n}.example.net")));
    build([names, suffixes].into_iter())
}

fn build(mut rules: impl Iterator<Item = Rule>) -> Ruleset {
    let builder = rules.try_fold(RulesetBuilder::new(), RulesetBuilder::rule);
    builder.expect("rules that load").build()
}

pub fn allows(rules: &Ruleset, asked: &Question) -> bool {
    let facts = Facts::http(Scheme::Https, Host::Name(asked.host), 443, asked.method, asked.path);
    decide(rules, &facts).is_allowed()
}
