//! A JSON Schema of the policy file, so that editors complete, explain and check it. Made from the tables that the
//! loader reads by. It is laxer than the loader (which knows what a host pattern is, and what goes together in one
//! rule), never stricter.

use std::fmt;

use crate::load::keys::{FILE, Key, Kind, LIMITS, RULE, TEST};
use crate::verdict::Effect;

/// The schema as JSON text, ending in a line break. Draft 7, the one that editors of TOML read.
///
/// ```
/// let schema: serde_json::Value = serde_json::from_str(&policy::schema())?;
/// assert_eq!(schema["properties"]["version"]["const"], 1);
/// # Ok::<(), serde_json::Error>(())
/// ```
#[must_use]
pub fn schema() -> String {
    let mut top = vec![
        ("$schema", text("http://json-schema.org/draft-07/schema#")),
        ("$id", text("urn:agent-sandbox:policy:1")),
        ("title", text("Policy, version 1")),
        ("description", text("Which requests may leave a sandbox. What no rule allows is refused.")),
    ];
    top.extend(table(FILE, &["version"]));
    let definitions = vec![
        ("allow", rule(Effect::Allow)),
        ("deny", rule(Effect::Deny)),
        ("limits", Json::Object(table(LIMITS, &[]))),
        ("test", Json::Object(table(TEST, &["request", "expect"]))),
    ];
    top.push(("definitions", Json::Object(definitions)));
    format!("{}\n", Indented(&Json::Object(top), 0))
}

type Members = Vec<(&'static str, Json)>;

#[derive(Debug, Clone)]
enum Json {
    Flag(bool),
    Number(usize),
    Text(String),
    List(Vec<Json>),
    Object(Members),
}

fn text(text: impl Into<String>) -> Json {
    Json::Text(text.into())
}

/// A table with these keys and no others.
fn table<'k>(keys: impl IntoIterator<Item = &'k Key>, required: &[&str]) -> Members {
    let properties = keys.into_iter().map(|key| {
        let mut members = vec![("description", text(key.about))];
        members.extend(value(key.kind));
        (key.name, Json::Object(members))
    });
    let mut members = vec![
        ("type", text("object")),
        ("additionalProperties", Json::Flag(false)),
        ("properties", Json::Object(properties.collect())),
    ];
    if !required.is_empty() {
        members.push(("required", Json::List(required.iter().map(|name| text(*name)).collect())));
    }
    members
}

fn rule(effect: Effect) -> Json {
    let keys = RULE.iter().filter(|key| effect == Effect::Allow || !key.grants);
    let mut members = table(keys, &[]);
    let one = |name: &str| Json::Object(vec![("required", Json::List(vec![text(name)]))]);
    members.push(("anyOf", Json::List(["host", "cidr", "registry"].map(one).into())));
    Json::Object(members)
}

fn value(kind: Kind) -> Members {
    let strings = |word: Members| one_or_list(word, true);
    let any_text = || vec![("type", text("string")), ("minLength", Json::Number(1))];
    match kind {
        Kind::Version => vec![("const", Json::Number(1))],
        Kind::Words(words) => one_of(&words()),
        Kind::WordList(words) => strings(one_of(&words())),
        Kind::Flag => vec![("type", text("boolean"))],
        Kind::Text(usize::MAX) => any_text(),
        Kind::Text(bytes_max) => {
            [any_text(), vec![("maxLength", Json::Number(bytes_max))]].into_iter().flatten().collect()
        }
        Kind::Texts => strings(any_text()),
        Kind::TextsOrNone => one_or_list(any_text(), false),
        Kind::Ports => {
            let number = vec![
                ("type", text("integer")),
                ("minimum", Json::Number(1)),
                ("maximum", Json::Number(usize::from(u16::MAX))),
            ];
            let either = vec![("anyOf", Json::List(vec![Json::Object(number), Json::Object(any_text())]))];
            one_or_list(either, true)
        }
        Kind::Time => vec![("type", text("string")), ("format", text("date-time"))],
        Kind::Count => vec![("type", text("integer")), ("minimum", Json::Number(1))],
        Kind::Limits => reference("limits"),
        Kind::Rules(effect) => list(reference(effect.as_str()), false),
        Kind::Tests => list(reference("test"), false),
    }
}

fn one_of(words: &[&str]) -> Members {
    vec![("enum", Json::List(words.iter().map(|word| text(*word)).collect()))]
}

fn reference(name: &str) -> Members {
    vec![("$ref", text(format!("#/definitions/{name}")))]
}

fn list(of: Members, not_empty: bool) -> Members {
    let mut members = vec![("type", text("array")), ("items", Json::Object(of))];
    if not_empty {
        members.push(("minItems", Json::Number(1)));
    }
    members
}

fn one_or_list(of: Members, not_empty: bool) -> Members {
    vec![("anyOf", Json::List(vec![Json::Object(of.clone()), Json::Object(list(of, not_empty))]))]
}

/// A value as JSON, so many levels within others.
struct Indented<'j>(&'j Json, usize);

impl fmt::Display for Indented<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(json, level) = self;
        let inner = level.saturating_add(1);
        let line =
            |f: &mut fmt::Formatter<'_>, level: usize| write!(f, "\n{:1$}", "", level.saturating_mul(2));
        match json {
            Json::Flag(flag) => write!(f, "{flag}"),
            Json::Number(number) => write!(f, "{number}"),
            Json::Text(text) => quoted(f, text),
            Json::List(items) => {
                f.write_str("[")?;
                for (number, item) in items.iter().enumerate() {
                    f.write_str(if number == 0 { "" } else { "," })?;
                    line(f, inner)?;
                    Indented(item, inner).fmt(f)?;
                }
                line(f, *level)?;
                f.write_str("]")
            }
            Json::Object(members) => {
                f.write_str("{")?;
                for (number, (name, value)) in members.iter().enumerate() {
                    f.write_str(if number == 0 { "" } else { "," })?;
                    line(f, inner)?;
                    quoted(f, name)?;
                    f.write_str(": ")?;
                    Indented(value, inner).fmt(f)?;
                }
                line(f, *level)?;
                f.write_str("}")
            }
        }
    }
}

/// Our own texts have neither control characters nor anything else that needs more than these two.
fn quoted(f: &mut fmt::Formatter<'_>, text: &str) -> fmt::Result {
    write!(f, "\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::{Ruleset, presets};

    fn parsed() -> Value {
        serde_json::from_str(&schema()).unwrap()
    }

    /// A file as editors see it: times are strings.
    fn file(text: &str) -> Value {
        fn plain(value: toml::Value) -> Value {
            match value {
                toml::Value::String(text) => json!(text),
                toml::Value::Integer(number) => json!(number),
                toml::Value::Float(number) => json!(number),
                toml::Value::Boolean(flag) => json!(flag),
                toml::Value::Datetime(time) => json!(time.to_string()),
                toml::Value::Array(items) => items.into_iter().map(plain).collect(),
                toml::Value::Table(table) => {
                    Value::Object(table.into_iter().map(|(key, value)| (key, plain(value))).collect())
                }
            }
        }
        plain(toml::Value::Table(text.parse().unwrap()))
    }

    /// What a validator does, for the keywords that are in our schema; any other ends the test.
    fn fits(value: &Value, by: &Value) -> bool {
        by.as_object().unwrap().iter().all(|(keyword, want)| match keyword.as_str() {
            "$schema" | "$id" | "title" | "description" | "definitions" | "format" => true,
            "$ref" => {
                let name = want.as_str().unwrap().strip_prefix("#/definitions/").unwrap();
                fits(value, &parsed()["definitions"][name])
            }
            "const" => value == want,
            "enum" => want.as_array().unwrap().contains(value),
            "type" => match want.as_str().unwrap() {
                "object" => value.is_object(),
                "array" => value.is_array(),
                "string" => value.is_string(),
                "boolean" => value.is_boolean(),
                "integer" => value.is_i64(),
                other => panic!("type {other}"),
            },
            "anyOf" => want.as_array().unwrap().iter().any(|by| fits(value, by)),
            "items" => value.as_array().is_none_or(|items| items.iter().all(|item| fits(item, want))),
            "minItems" => value.as_array().is_none_or(|items| items.len() as u64 >= want.as_u64().unwrap()),
            "minimum" => value.as_i64().is_none_or(|number| number >= want.as_i64().unwrap()),
            "maximum" => value.as_i64().is_none_or(|number| number <= want.as_i64().unwrap()),
            "minLength" => {
                value.as_str().is_none_or(|text| text.chars().count() as u64 >= want.as_u64().unwrap())
            }
            "maxLength" => {
                value.as_str().is_none_or(|text| text.chars().count() as u64 <= want.as_u64().unwrap())
            }
            "required" => {
                let names = want.as_array().unwrap().iter().map(|name| name.as_str().unwrap());
                value.as_object().is_none_or(|value| names.into_iter().all(|name| value.contains_key(name)))
            }
            "properties" => {
                let members = value.as_object().into_iter().flatten();
                members
                    .filter_map(|(name, value)| Some((value, want.get(name)?)))
                    .all(|(value, by)| fits(value, by))
            }
            "additionalProperties" => {
                assert_eq!(want, false);
                let known = by["properties"].as_object().unwrap();
                value.as_object().is_none_or(|value| value.keys().all(|name| known.contains_key(name)))
            }
            other => panic!("keyword {other}"),
        })
    }

    fn loads(text: &str) -> Result<(), String> {
        struct Anything;
        impl crate::Includes for Anything {
            fn read(&self, _: &str, wanted: &str) -> Result<crate::Included, String> {
                Ok(crate::Included { name: wanted.to_owned(), text: "version = 1".to_owned() })
            }
        }
        impl crate::RegistryHosts for Anything {
            fn hosts(&self, _: crate::Registry) -> Result<Vec<crate::RegistryHost>, String> {
                Ok(vec![crate::RegistryHost {
                    scheme: crate::Scheme::Https,
                    host: "registry.example".to_owned(),
                    port: 443,
                }])
            }
        }
        let builder = crate::RulesetBuilder::new().includes(Anything).registry_hosts(Anything);
        builder.source(text, "p.toml").map(drop).map_err(|error| error.to_string())
    }

    #[test]
    fn the_committed_schema_is_current() {
        let committed = include_str!("../../docs/policy.schema.json");
        assert!(
            committed == schema(),
            "docs/policy.schema.json is old: agent-sandbox policy schema > docs/policy.schema.json"
        );
    }

    /// A good and a bad value of each kind, as TOML.
    fn samples(kind: Kind) -> (Vec<String>, Vec<&'static str>) {
        let quoted = |words: Vec<&str>| words.iter().map(|word| format!("{word:?}")).collect::<Vec<_>>();
        let strings = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>();
        match kind {
            Kind::Version => (strings(&["1"]), vec!["2", "\"1\"", "true"]),
            Kind::Words(words) => (quoted(words()), vec!["\"nonsense\"", "1", "true"]),
            Kind::WordList(words) => {
                let all = format!("{:?}", words());
                (quoted(words()).into_iter().chain([all]).collect(), vec!["\"nonsense\"", "1", "[1]"])
            }
            Kind::Flag => (strings(&["true", "false"]), vec!["\"true\"", "1"]),
            Kind::Text(usize::MAX) => (strings(&["\"GET https://a.example/\""]), vec!["1", "[]", "true"]),
            Kind::Text(_) => (strings(&["\"a\""]), vec!["1", "[]", "true"]),
            Kind::Texts => (strings(&["TEXT", "[TEXT, TEXT]"]), vec!["1", "[1]", "true"]),
            Kind::TextsOrNone => (strings(&["TEXT", "[TEXT]", "[]"]), vec!["1", "[1]", "true"]),
            Kind::Ports => {
                (strings(&["1", "65535", "\"1-9\"", "\"any\"", "[1, \"2-3\"]"]), vec!["0", "65536", "true"])
            }
            Kind::Time => (strings(&["2027-01-31T12:00:00Z", "\"2027-01-31T12:00:00Z\""]), vec!["1", "true"]),
            Kind::Count => (strings(&["1", "1000"]), vec!["0", "-1", "\"1\"", "1.5"]),
            Kind::Limits => (strings(&["{ connections = 1 }"]), vec!["1", "{ connection = 1 }"]),
            Kind::Rules(_) => {
                (strings(&["[{ host = \"x.example\" }]"]), vec!["1", "{ host = \"x.example\" }", "[1]"])
            }
            Kind::Tests => {
                let good = "[{ request = \"GET https://x.example/\", expect = \"deny\" }]";
                (strings(&[good]), vec!["1", "[{ request = \"GET https://x.example/\" }]"])
            }
        }
    }

    /// One file with this key in its place.
    fn with(place: &str, key: &str, value: &str) -> String {
        let text = match key {
            "cidr" => "\"10.0.0.0/8\"",
            "methods" => "\"GET\"",
            "paths" => "\"/a\"",
            "query" | "include" => "\"a\"",
            _ => "\"a.example\"",
        };
        let value = value.replace("TEXT", text);
        let target = match key {
            "host" | "registry" => "",
            _ => "host = \"a.example\"\n",
        };
        let ports = if key == "tcp" { "ports = [5432]\n" } else { "" };
        match place {
            "" if key == "version" => format!("version = {value}\n"),
            "" => format!("version = 1\n{key} = {value}\n"),
            "limits" => {
                format!("version = 1\n[[allow]]\nhost = \"a.example\"\nlimits = {{ {key} = {value} }}\n")
            }
            "test" => {
                let request = if key == "request" { "" } else { "request = \"GET https://a.example/\"\n" };
                let expect = if key == "expect" { "" } else { "expect = \"allow\"\n" };
                format!(
                    "version = 1\n[[allow]]\nid = \"a\"\nhost = \"a.example\"\n[[test]]\n{request}{expect}{key} = {value}\n"
                )
            }
            rule => format!("version = 1\n[[{rule}]]\n{target}{ports}{key} = {value}\n"),
        }
    }

    #[test]
    fn loader_and_schema_know_the_same_keys_and_the_same_values() {
        let schema = parsed();
        let tables = [("", FILE), ("allow", RULE), ("deny", RULE), ("limits", LIMITS), ("test", TEST)];
        for (place, keys) in tables {
            let table = if place.is_empty() { &schema } else { &schema["definitions"][place] };
            let keys: Vec<_> = keys.iter().filter(|key| place != "deny" || !key.grants).collect();
            let properties = table["properties"].as_object().unwrap();
            let known: std::collections::BTreeSet<_> = properties.keys().map(String::as_str).collect();
            assert_eq!(known, keys.iter().map(|key| key.name).collect(), "{place}");
            for key in keys {
                let (good, bad) = samples(key.kind);
                // In a rule that denies, it would match nothing.
                for value in good.into_iter().filter(|value| place != "deny" || value != "[]") {
                    let text = with(place, key.name, &value);
                    // Not what the test expects, but understood.
                    let answer = loads(&text).err().filter(|error| !error.contains("the test expects"));
                    assert_eq!(answer, None, "{text}");
                    assert!(fits(&file(&text), &schema), "{text}");
                }
                for value in bad {
                    let text = with(place, key.name, value);
                    assert!(loads(&text).is_err(), "{text}");
                    assert!(!fits(&file(&text), &schema), "{text}");
                }
            }
        }
        for (place, _) in tables {
            let text = with(place, "nonsense", "1");
            assert!(loads(&text).unwrap_err().contains("unknown field `nonsense`"), "{text}");
            assert!(!fits(&file(&text), &schema), "{text}");
        }
        for key in RULE.iter().filter(|key| key.grants) {
            let text = with("deny", key.name, &samples(key.kind).0[0]);
            assert!(loads(&text).is_err() && !fits(&file(&text), &schema), "{text}");
        }
    }

    #[test]
    fn the_page_about_the_file_tells_of_every_key_and_every_preset() {
        let page = include_str!("../../docs/policy.md");
        let keys = [FILE, RULE, LIMITS, TEST].into_iter().flatten().map(|key| key.name);
        for name in keys.chain(presets::names()) {
            let forms = ["`NAME`", "`[[NAME]]`", "{ NAME", ", NAME"].map(|form| form.replace("NAME", name));
            assert!(
                forms.iter().any(|form| page.contains(form.as_str())),
                "docs/policy.md says nothing of {name}"
            );
        }
    }

    #[test]
    fn every_policy_that_we_show_or_ship_fits_and_loads() {
        let pages =
            [include_str!("../../README.md"), include_str!("../../docs/policy.md"), include_str!("lib.rs")];
        let mut count = 0;
        let mut check = |text: &str| {
            assert!(fits(&file(text), &parsed()), "{text}");
            count += 1;
        };
        for page in pages {
            let page = page.replace("\n//! ", "\n").replace("\n//!\n", "\n\n");
            for block in page.split("```toml\n").skip(1) {
                let block = block.split("```").next().unwrap();
                if block.contains("version = 1") {
                    check(block);
                    loads(block).unwrap_or_else(|error| panic!("{error}"));
                }
            }
        }
        presets::names().for_each(|name| check(presets::text(name).unwrap()));
        let cases: toml::Table = include_str!("../../testdata/decisions.toml").parse().unwrap();
        cases["policies"].as_table().unwrap().values().for_each(|text| check(text.as_str().unwrap()));
        assert!(count > presets::names().len() + 3, "{count}");
        assert!(Ruleset::parse("version = 1", "p").is_ok());
    }
}
