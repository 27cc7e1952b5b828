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
