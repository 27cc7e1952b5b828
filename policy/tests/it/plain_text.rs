//! The files that the plain layers stand for.

use std::fmt::Write as _;

use crate::naive::{PlainLayer, PlainRule};

/// The text of one layer.
pub(crate) fn text(layer: &PlainLayer) -> String {
    let mut text = format!("version = 1\nceiling = {}\n", layer.ceiling);
    for rule in &layer.rules {
        write_rule(&mut text, rule);
    }
    text
}

fn write_rule(text: &mut String, rule: &PlainRule) {
    let mut line = |key: &str, value: String| writeln!(text, "{key} = {value}").unwrap();
    // Debug text of these words is a TOML string.
    let list = |words: &[String]| format!("{words:?}");
    line(if rule.deny { "\n[[deny]]\nid" } else { "\n[[allow]]\nid" }, format!("{:?}", id(rule)));
    for (key, words) in [
        ("host", &rule.hosts),
        ("cidr", &rule.cidrs),
        ("scheme", &rule.schemes),
        ("methods", &rule.methods),
        ("paths", &rule.paths),
    ] {
        if !words.is_empty() {
            line(key, list(words));
        }
    }
    if rule.any_port {
        line("ports", "\"any\"".to_owned());
    } else if !rule.ports.is_empty() {
        line("ports", format!("{:?}", rule.ports));
    }
    if let Some(keys) = &rule.query {
        line("query", list(keys));
    }
    if rule.expires.is_some() {
        line("expires", "\"2027-01-01T00:00:00Z\"".to_owned());
    }
    for (key, set) in [("tcp", rule.tcp), ("websocket", rule.websocket)] {
        if set {
            line(key, "true".to_owned());
        }
    }
}

/// Ids must differ over all files; the address of a rule does.
fn id(rule: &PlainRule) -> String {
    format!("{:p}", std::ptr::from_ref(rule))
}
