//! The JSON view of a verdict is read by other programs: its shape is part of the API.

use policy::{Facts, Ruleset, decide};
use serde_json::{Value, json};

const POLICY: &str = r#"
version = 1
[[allow]]
id = "models"
host = "api.example.com"
methods = ["POST"]
credential = "KEY"
reason = "the model's API"
[[deny]]
id = "no"
host = "no.example.com"
"#;

fn verdict(line: &str) -> Value {
    let rules = Ruleset::parse(POLICY, "policy.toml").unwrap();
    serde_json::to_value(decide(&rules, &Facts::parse(line).unwrap())).unwrap()
}

#[test]
fn verdicts_as_json() {
    let limits = json!({"requests_per_s": null, "request_body_bytes": null, "connections": null});
    let models = json!({"id": "models", "effect": "allow", "file": "policy.toml", "line": 3, "layer": "policy.toml", "reason": "the model's API", "write_capable": false});
    assert_eq!(
        verdict("POST https://api.example.com/v1"),
        json!({
            "effect": "allow", "cause": {"kind": "rule"}, "rule": models, "nearest_miss": null,
            "credential": "KEY", "tls": "inspect", "generation": 0, "v": 1, "layer": "policy.toml",
            "upstream": null, "on_opaque": "refuse", "limits": limits, "mode": "enforce", "decision_id": null,
        })
    );
    assert_eq!(
        verdict("GET https://api.example.com/v1"),
        json!({
            "effect": "deny", "cause": {"kind": "no_rule"}, "rule": null,
            "nearest_miss": {"rule": models, "field": "method"},
            "credential": null, "tls": "inspect", "generation": 0, "v": 1, "layer": null,
            "upstream": null, "on_opaque": "refuse", "limits": limits, "mode": "enforce", "decision_id": null,
        })
    );
    assert_eq!(
        verdict("GET https://no.example.com/")["rule"],
        json!({"id": "no", "effect": "deny", "file": "policy.toml", "line": 9, "layer": "policy.toml", "reason": null, "write_capable": false})
    );
    assert_eq!(
        verdict("GET https://API.example.com/")["cause"],
        json!({"kind": "not_canonical", "fault": "host_name"})
    );
}

/// What the schema uses of JSON Schema, by hand: `const`, `enum`, `type`, `minimum`, `required`, `properties`.
fn check(at: &str, schema: &Value, value: &Value) {
    if let Some(expected) = schema.get("const") {
        assert_eq!(value, expected, "{at}");
    }
    if let Some(allowed) = schema.get("enum") {
        assert!(allowed.as_array().unwrap().contains(value), "{at}: {value}");
    }
    let kind = match value {
        Value::Null => "null",
        Value::String(_) => "string",
        Value::Number(number) if number.is_u64() => "integer",
        Value::Object(_) => "object",
        Value::Bool(_) => "boolean",
        _ => "other",
    };
    match schema.get("type") {
        Some(Value::String(one)) => assert_eq!(kind, one, "{at}: {value}"),
        Some(several) => assert!(several.as_array().unwrap().contains(&kind.into()), "{at}: {value}"),
        None => {}
    }
    let Some(object) = value.as_object() else { return };
    let properties = schema["properties"].as_object().unwrap();
    for required in schema["required"].as_array().unwrap() {
        assert!(object.contains_key(required.as_str().unwrap()), "{at}: no {required}");
    }
    for (name, value) in object {
        let schema = properties.get(name).unwrap_or_else(|| panic!("{at}: {name} is not in the schema"));
        check(&format!("{at}.{name}"), schema, value);
    }
}

#[test]
fn verdicts_of_every_kind_are_what_the_schema_says() {
    let schema: Value = serde_json::from_str(include_str!("../../../docs/verdict.schema.json")).unwrap();
    let ceiling =
        "version = 1\nceiling = true\n[[allow]]\nhost = [\"api.example.com\", \"no.example.com\"]\n";
    let more = "version = 1\nmode = \"audit\"\n[[allow]]\nid = \"more\"\nhost = \"more.example.com\"\n";
    let rules = Ruleset::from_layers(&[(POLICY, "policy.toml"), (ceiling, "org"), (more, "more")]).unwrap();
    let mut kinds = std::collections::BTreeSet::new();
    let mut check_one = |verdict: policy::Verdict<'_>| {
        let value = serde_json::to_value(verdict).unwrap();
        check("verdict", &schema, &value);
        kinds.insert(value["cause"]["kind"].as_str().unwrap().to_owned());
        value
    };
    for line in [
        "POST https://api.example.com/v1",
        "GET https://api.example.com/v1",
        "GET https://no.example.com/",
        "GET https://more.example.com/",
        "GET https://API.example.com/",
        "GET https://elsewhere.example/",
        "DNS api.example.com",
        "CONNECT api.example.com:443",
        "TCP api.example.com:22",
    ] {
        check_one(decide(&rules, &Facts::parse(line).unwrap().with_decision_id(u128::MAX)));
    }
    let facts = Facts::parse("POST https://api.example.com/v1").unwrap();
    check_one(policy::decide_address(&rules, &facts, "10.0.0.1".parse().unwrap()));
    check_one(policy::decide_public_address(&rules, &facts, "192.0.2.1".parse().unwrap()));
    let expected = ["ceiling", "no_rule", "not_canonical", "public_address", "rule", "special_address"];
    assert_eq!(kinds.into_iter().collect::<Vec<_>>(), expected);
}

/// As in `docs/verdict.md`: each field that the issue of a policy is about, where a program looks for it.
#[test]
fn a_refusal_tells_rule_place_layer_miss_generation_and_id() {
    let rules = policy::RulesetBuilder::new().source(POLICY, "policy.toml").unwrap().generation(2).build();
    let verdict = |line: &str| {
        let facts = Facts::parse(line).unwrap().with_decision_id(0x0198_8D9B_0000_0000_0000_0000_0000_0001);
        serde_json::to_value(decide(&rules, &facts)).unwrap()
    };
    let missed = verdict("DELETE https://api.example.com/v1/files");
    assert_eq!((&missed["effect"], &missed["cause"]["kind"]), (&json!("deny"), &json!("no_rule")));
    assert_eq!(missed["nearest_miss"]["field"], "method");
    let nearest = &missed["nearest_miss"]["rule"];
    assert_eq!(
        (&nearest["id"], &nearest["file"], &nearest["line"]),
        (&json!("models"), &json!("policy.toml"), &json!(3))
    );
    assert_eq!((&missed["generation"], &missed["mode"]), (&json!(2), &json!("enforce")));
    assert_eq!(missed["decision_id"], "01K26SP0000000000000000001");
    let denied = verdict("GET https://no.example.com/");
    assert_eq!((&denied["rule"]["id"], &denied["rule"]["line"]), (&json!("no"), &json!(9)));
    assert_eq!(denied["layer"], "policy.toml");
}
