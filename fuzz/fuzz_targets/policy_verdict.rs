//! Verdicts on rules and facts of any text: as JSON they parse, have exactly the documented fields and nothing that ends
//! a line; for people they are one line that no terminal obeys.

#![no_main]

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::LazyLock;

use fuzz::Input;
use libfuzzer_sys::fuzz_target;
use policy::{
    Facts, Host, Rule, RuleLimits, Ruleset, RulesetBuilder, Scheme, decide, decide_address,
    decide_public_address,
};
use serde_json::Value;

static SCHEMA: LazyLock<Value> = LazyLock::new(|| {
    serde_json::from_str(include_str!("../../docs/verdict.schema.json")).expect("the schema parses")
});

const ADDRESSES: [&str; 5] = ["127.0.0.1", "10.0.0.1", "192.0.2.1", "::1", "2001:db8::1"];

fuzz_target!(|bytes: &[u8]| {
    let mut input = Input(bytes);
    let Some(rules) = rules(&mut input) else { return };
    let texts: Vec<String> = (0..3).map(|_| text(&mut input)).collect();
    let ip: IpAddr = input.one(&ADDRESSES).parse().unwrap();
    let port = input.u16();
    let id = u128::from(input.u64()) << 64 | u128::from(input.u64());
    let host = if input.u8() & 1 == 0 { Host::Ip(ip) } else { Host::Name(&texts[0]) };
    let scheme = input.one(&[Scheme::Https, Scheme::Http, Scheme::Wss, Scheme::Tcp]);
    let request = Facts::http(scheme, host, port, &texts[1], &texts[2]);
    for facts in [
        Facts::dns(&texts[0]),
        Facts::connect(host, port),
        Facts::tcp(host, port),
        request,
        request.with_query(&texts[0]).at(i64::from(input.u32())).with_decision_id(id),
    ] {
        for verdict in [
            decide(&rules, &facts),
            decide_address(&rules, &facts, ip),
            decide_public_address(&rules, &facts, ip),
        ] {
            let json = serde_json::to_string(&verdict).expect("a verdict can be written");
            assert!(!json.chars().any(char::is_control), "{json:?}");
            let value: Value = serde_json::from_str(&json).expect("what was written can be read");
            check("verdict", &SCHEMA, &value);
            assert_eq!(value["effect"] == "allow", verdict.is_allowed());
            let said = value["rule"]["id"].as_str();
            assert_eq!(said, verdict.rule.map(|rule| rule.id), "an id is what it was");
            let reason = value["rule"]["reason"].as_str();
            assert_eq!(reason, verdict.rule.and_then(|rule| rule.reason), "a reason is what it was");
            let line = verdict.explain(&facts).to_string();
            assert!(!line.chars().any(char::is_control), "{line:?}");
        }
    }
});

/// Each object has all fields that its schema requires and none that it does not know.
fn check(at: &str, schema: &Value, value: &Value) {
    let Some(object) = value.as_object() else { return };
    let fields = schema["properties"].as_object().unwrap_or_else(|| panic!("{at} is no object"));
    let names: BTreeSet<&String> = object.keys().collect();
    for required in schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str) {
        assert!(object.contains_key(required), "{at} has no {required}");
    }
    for name in names {
        let of = fields.get(name).unwrap_or_else(|| panic!("{at}.{name} is not documented"));
        check(&format!("{at}.{name}"), of, &object[name]);
    }
}

fn text(input: &mut Input<'_>) -> String {
    String::from_utf8_lossy(input.piece()).into_owned()
}

/// A few rules with whatever of these texts they take. A file's name is its user's: it has no line ends.
fn rules(input: &mut Input<'_>) -> Option<Ruleset> {
    let mut builder = RulesetBuilder::new();
    for _ in 0..=input.below(3) {
        let flags = input.u8();
        let mut rule = if flags & 1 == 0 { Rule::allow() } else { Rule::deny() };
        rule = if flags & 2 == 0 { rule.host("**") } else { rule.host(text(input)) };
        rule = if flags & 4 == 0 { rule } else { rule.id(text(input)) };
        rule = if flags & 8 == 0 { rule } else { rule.reason(text(input)) };
        rule = if flags & 16 == 0 { rule } else { rule.path(text(input)) };
        rule = if flags & 32 == 0 { rule } else { rule.method(text(input)) };
        rule = if flags & 64 == 0 { rule } else { rule.cidr("10.0.0.0/8").any_port() };
        if flags & 128 != 0 {
            let name: String = text(input).chars().filter(|c| !c.is_control()).collect();
            rule = rule.origin(name);
            if flags & 1 == 0 {
                let limits = RuleLimits { requests_per_s: Some(5), ..RuleLimits::default() };
                rule = rule.credential(text(input)).upstream(text(input)).limits(limits).write_capable();
            }
        }
        match builder.rule(rule) {
            Ok(more) => builder = more,
            Err(error) => {
                assert!(!error.to_string().is_empty());
                return None;
            }
        }
    }
    Some(builder.build())
}
