//! Records against their published schema: [`World::records`] holds each of every test against it.

use std::sync::OnceLock;

use serde_json::{Map, Value};

use crate::client::{ask, https};
use crate::world::World;

fn schema() -> &'static Value {
    static SCHEMA: OnceLock<Value> = OnceLock::new();
    SCHEMA.get_or_init(|| serde_json::from_str(include_str!("../../../docs/audit.schema.json")).unwrap())
}

/// What the schema uses of JSON Schema: `const`, `enum`, `type`, `minimum`, `maximum`; [`check_record`] knows what its two
/// patterns say.
fn check(name: &str, rule: &Value, value: &Value) {
    if let Some(expected) = rule.get("const") {
        assert_eq!(value, expected, "{name}");
    }
    if let Some(allowed) = rule.get("enum") {
        assert!(allowed.as_array().unwrap().contains(value), "{name}: {value}");
    }
    let kind = match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::String(_) => "string",
        Value::Number(number) if number.is_f64() => "number",
        Value::Number(_) => "integer",
        _ => "other",
    };
    // A whole number is a number, too.
    let is_a = |one: &Value| one == kind || (one == "number" && kind == "integer");
    match rule.get("type") {
        Some(Value::Array(several)) => assert!(several.iter().any(is_a), "{name}: {value}"),
        Some(one) => assert!(is_a(one), "{name}: {value}"),
        None => {}
    }
    if let Some(number) = value.as_f64() {
        assert!(rule.get("minimum").is_none_or(|least| number >= least.as_f64().unwrap()), "{name}: {value}");
        assert!(rule.get("maximum").is_none_or(|most| number <= most.as_f64().unwrap()), "{name}: {value}");
    }
}

pub fn check_record(record: &Map<String, Value>) {
    let schema = schema();
    let properties = schema["properties"].as_object().unwrap();
    for name in schema["required"].as_array().unwrap() {
        assert!(record.contains_key(name.as_str().unwrap()), "{name} is missing");
    }
    for (name, value) in record {
        check(name, properties.get(name).unwrap_or_else(|| panic!("{name} is not in the schema")), value);
    }
    let time = record["time"].as_str().unwrap();
    let digits_as_zeros = time.replace(|sign: char| sign.is_ascii_digit(), "0");
    assert_eq!(digits_as_zeros, "0000-00-00T00:00:00.000Z", "{time}");
    let id = record["decision_id"].as_str().unwrap();
    let is_crockford = |sign: u8| b"0123456789ABCDEFGHJKMNPQRSTVWXYZ".contains(&sign);
    assert!(id.len() == 26 && id.bytes().all(is_crockford), "{id}");
}

#[tokio::test]
async fn a_record_says_what_was_asked_without_its_query() {
    let world = World::start().await;
    let target = world.at("ok.example");
    let mut tls = https(&world, &target).await;
    let request = |path: &str| format!("GET {path} HTTP/1.1\r\nHost: {target}\r\n\r\n");
    assert_eq!(ask(&mut tls, &request("/?token=hidden")).await.status, 200);
    assert_eq!(ask(&mut tls, &request("/")).await.status, 200);
    let mut denied = https(&world, &world.at("denied.example")).await;
    let place = world.at("denied.example");
    assert_eq!(ask(&mut denied, &format!("GET / HTTP/1.1\r\nHost: {place}\r\n\r\n")).await.status, 403);
    let mut bad = world.connect();
    assert_eq!(ask(&mut bad, "GET / HTTP/1.1\r\nHost: x\r\nHost: y\r\n\r\n").await.status, 400);
    let records = world.records(4).await;
    for record in &records {
        assert_eq!(record["sandbox"], "test");
        assert!(!record.to_string().contains("hidden"));
    }
    let metrics = world.proxy.metrics_text();
    for line in ["{layer=\"http\",verdict=\"allow\"} 2", "{error=\"malformed_request\"} 1"] {
        assert!(metrics.contains(line), "{line} in {metrics}");
    }
    let timed = |record: &Value| ["ms_dns", "ms_connect", "ms_tls"].map(|name| record[name].is_number());
    assert_eq!(timed(&records[0]), [true; 3]);
    assert_eq!(timed(&records[1]), [false; 3]);
    let verdicts: Vec<&str> = records.iter().map(|record| record["verdict"].as_str().unwrap()).collect();
    assert_eq!(verdicts, ["allow", "allow", "deny", "deny"]);
}

/// None is taken out: the version would change.
#[test]
fn the_fields_of_version_1_are_frozen() {
    let schema = schema();
    let required: Vec<&str> =
        schema["required"].as_array().unwrap().iter().map(|field| field.as_str().unwrap()).collect();
    assert_eq!(required.join(" "), "v time decision_id layer verdict bytes_up bytes_down ms_total");
    let mut fields: Vec<&str> =
        schema["properties"].as_object().unwrap().keys().map(String::as_str).collect();
    fields.sort_unstable();
    assert_eq!(
        fields.join(" "),
        "bytes_down bytes_up credential decision_id error generation host layer method ms_connect ms_dns \
         ms_first_byte ms_tls ms_total path port reason redactions rule sandbox scheme status time v verdict \
         websocket"
    );
}
