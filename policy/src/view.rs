//! What a loaded rule says, for a person or a program that shows it. Deciding does not go through here.

use std::fmt;

use crate::facts::Scheme;
use crate::limits::LIST_ENTRIES_MAX;
use crate::pattern::PortSet;
use crate::rule::Compiled;
use crate::ruleset::Ruleset;
use crate::verdict::{OnOpaque, RuleLimits, RuleRef, TlsMode};

/// One rule with all that it says, defaults filled in.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
#[non_exhaustive]
pub struct RuleView<'r> {
    /// Its name and place.
    #[serde(flatten)]
    pub rule: RuleRef<'r>,
    /// Whether it only bounds what other layers allow.
    pub ceiling: bool,
    /// Names, as in the file.
    pub host: Vec<String>,
    /// Networks.
    pub cidr: Vec<String>,
    /// Numbers and ranges; `any` alone.
    pub ports: Vec<String>,
    /// Of `https`, `http`, `wss`, `ws` and `tcp`.
    pub scheme: Vec<&'static str>,
    /// `None`: any.
    pub methods: Option<Vec<String>>,
    /// `None`: any.
    pub paths: Option<Vec<String>>,
    /// `None`: any.
    pub query: Option<Vec<String>>,
    /// Seconds since 1970-01-01T00:00:00Z.
    pub expires: Option<i64>,
    /// Of rules that allow.
    pub tls: TlsMode,
    /// Of rules that allow.
    pub credential: Option<&'r str>,
    /// Of rules that allow.
    pub upstream: Option<&'r str>,
    /// Of rules that allow.
    pub on_opaque: OnOpaque,
    /// Of rules that allow.
    pub limits: RuleLimits,
}

impl Ruleset {
    /// All rules in their order, with what they say.
    pub fn views(&self) -> impl ExactSizeIterator<Item = RuleView<'_>> {
        self.rules.iter().map(view)
    }
}

fn view(rule: &Compiled) -> RuleView<'_> {
    let words = |list: &[Box<str>]| list.iter().map(|word| word.to_string()).collect::<Vec<_>>();
    let schemes = Scheme::ALL.into_iter().filter(|scheme| rule.schemes.contains(*scheme));
    RuleView {
        rule: rule.reference(),
        ceiling: rule.ceiling != 0,
        host: shown(&rule.hosts),
        cidr: shown(&rule.cidrs),
        ports: ports(&rule.ports),
        scheme: schemes.map(Scheme::as_str).collect(),
        methods: rule.methods.as_deref().map(words),
        paths: rule.paths.as_deref().map(shown),
        query: rule.query.as_ref().map(|query| words(query.keys())),
        expires: rule.expires,
        tls: rule.tls,
        credential: rule.credential.as_deref(),
        upstream: rule.upstream.as_deref(),
        on_opaque: rule.on_opaque,
        limits: rule.limits,
    }
}

fn shown<T: fmt::Display>(items: &[T]) -> Vec<String> {
    items.iter().map(ToString::to_string).collect()
}

fn ports(set: &PortSet) -> Vec<String> {
    let range = |(from, to): &(u16, u16)| if from == to { from.to_string() } else { format!("{from}-{to}") };
    match set {
        PortSet::Any => vec!["any".to_owned()],
        PortSet::Ranges(ranges) => ranges.iter().map(range).collect(),
    }
}

impl fmt::Display for RuleView<'_> {
    /// One line in the words of the file, without name and place: what is any, or the default, is left out.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let list = |items: &[String]| match items.get(..SHOWN_MAX).filter(|_| items.len() > SHOWN_MAX) {
            Some(first) => format!("{} and {} more", first.join(", "), items.len().saturating_sub(SHOWN_MAX)),
            None => items.join(", "),
        };
        let some = |items: &[String]| (!items.is_empty()).then(|| list(items));
        let keys = |query: &[String]| some(query).unwrap_or_else(|| "none".to_owned());
        let schemes: Vec<String> = self.scheme.iter().map(|scheme| (*scheme).to_owned()).collect();
        let limit = |value: Option<String>, unit: &str| value.map(|value| format!("{value} {unit}"));
        let limits = [
            limit(self.limits.requests_per_s.map(|number| number.to_string()), "requests/s"),
            limit(self.limits.request_body_bytes.map(|number| number.to_string()), "bytes of request body"),
            limit(self.limits.connections.map(|number| number.to_string()), "connections"),
        ];
        let limits: Vec<String> = limits.into_iter().flatten().collect();
        let parts = [
            ("host", some(&self.host)),
            ("cidr", some(&self.cidr)),
            ("ports", Some(list(&self.ports)).filter(|ports| ports != "any")),
            ("scheme", some(&schemes).filter(|_| schemes.len() < Scheme::ALL.len())),
            ("methods", self.methods.as_deref().map(list)),
            ("paths", self.paths.as_deref().map(list)),
            ("query", self.query.as_deref().map(keys)),
            ("tls", (self.tls == TlsMode::Opaque).then(|| "opaque".to_owned())),
            ("credential", self.credential.map(str::to_owned)),
            ("upstream", self.upstream.map(str::to_owned)),
            ("on_opaque", (self.on_opaque == OnOpaque::Pass).then(|| "pass".to_owned())),
            ("limits", some(&limits)),
            ("write_capable", self.rule.write_capable.then(|| "true".to_owned())),
            ("expires", self.expires.map(|end| format!("at {end} s since 1970"))),
        ];
        let parts = parts.into_iter().filter_map(|(key, value)| value.map(|value| format!("{key} {value}")));
        f.write_str(&parts.collect::<Vec<_>>().join("; "))
    }
}

/// Of a list, before it is cut.
const SHOWN_MAX: usize = 8;
const _: () = assert!(SHOWN_MAX < LIST_ENTRIES_MAX);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rule_is_shown_with_its_defaults() {
        let text = r#"
            version = 1
            [[allow]]
            host = ["a.test", "**.b.test"]
            paths = ["/v1/**"]
            query = []
            websocket = true
            credential = "K"
            limits = { requests_per_s = 5 }
            [[deny]]
            cidr = "10.0.0.0/8"
            ports = ["1-9", 443]
        "#;
        let rules = Ruleset::parse(text, "p.toml").unwrap();
        let lines: Vec<String> = rules.views().map(|view| view.to_string()).collect();
        assert_eq!(
            lines,
            [
                "host a.test, **.b.test; ports 443; scheme https, wss; paths /v1/**; query none; credential K; \
                 limits 5 requests/s",
                "cidr 10.0.0.0/8; ports 1-9, 443",
            ]
        );
        let json = serde_json::to_value(rules.views().next().unwrap()).unwrap();
        assert_eq!(
            (&json["id"], &json["line"], &json["ceiling"]),
            (&"allow-1".into(), &3.into(), &false.into())
        );
        assert_eq!(json["paths"], serde_json::json!(["/v1/**"]));
    }
}
