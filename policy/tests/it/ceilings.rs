//! What ceilings leave of what other layers allow, and what is said of that.

use policy::{Cause, Facts, OnOpaque, Ruleset, decide};

const READS: &str = r#"
version = 1
[[allow]]
id = "reads"
host = "a.corp.test"
methods = ["GET"]
on_opaque = "pass"
"#;
const NO_QUERY: &str = r#"
version = 1
[[allow]]
id = "no-query"
host = "a.corp.test"
query = []
"#;

/// A ceiling of one rule, `id`, with more lines of it.
fn ceiling(id: &str, rule: &str) -> String {
    format!("version = 1\nceiling = true\n[[allow]]\nid = \"{id}\"\nhost = \"**.corp.test\"\n{rule}\n")
}

fn layers(texts: &[&str]) -> Ruleset {
    let named: Vec<_> = texts.iter().zip(["a", "b", "c"]).map(|(text, name)| (*text, name)).collect();
    Ruleset::from_layers(&named).unwrap()
}

/// Cause, and the nearest miss as `rule:key`.
fn refusal(texts: &[&str], line: &str) -> (Cause, String) {
    let rules = layers(texts);
    let verdict = decide(&rules, &Facts::parse(line).unwrap());
    let miss = verdict.nearest_miss.map(|miss| format!("{}:{}", miss.rule.id, miss.field.key()));
    (verdict.cause, miss.unwrap_or_default())
}

#[test]
fn the_nearest_miss_is_of_the_rules_whose_yes_is_missing() {
    let bound = ceiling("bound", "paths = [\"/v1/**\"]");
    // The ceiling's rule comes nearer, but its yes alone would not help.
    let line = "POST https://a.corp.test/v2/x?q";
    assert_eq!(refusal(&[READS, &bound], line), (Cause::NoRule, "reads:methods".to_owned()));
    // The other way round: one rule allows it, and another one comes nearer than the ceiling's.
    let line = "GET https://a.corp.test/v2/x?q";
    assert_eq!(refusal(&[READS, NO_QUERY, &bound], line), (Cause::Ceiling, "bound:paths".to_owned()));
}

#[test]
fn one_ceiling_does_not_stand_in_for_another() {
    let (v1, v2) = (ceiling("v1", "paths = [\"/v1/**\"]"), ceiling("v2", "paths = [\"/v2/**\"]"));
    for (line, miss) in
        [("GET https://a.corp.test/v1/x", "v2:paths"), ("GET https://a.corp.test/v2/x", "v1:paths")]
    {
        assert_eq!(refusal(&[READS, &v1, &v2], line), (Cause::Ceiling, miss.to_owned()), "{line}");
    }
}

#[test]
fn an_unreadable_response_passes_only_where_the_ceiling_says_so_too() {
    for (rule, expected) in [("on_opaque = \"pass\"", OnOpaque::Pass), ("", OnOpaque::Refuse)] {
        let rules = layers(&[READS, &ceiling("bound", rule)]);
        let verdict = decide(&rules, &Facts::parse("GET https://a.corp.test/x?q").unwrap());
        assert_eq!((verdict.is_allowed(), verdict.on_opaque), (true, expected), "{rule:?}");
    }
}
