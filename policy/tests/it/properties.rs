//! Rules and facts from small alphabets, so that they meet often, against the second opinion.

use std::net::IpAddr;

use policy::{Effect, Facts, Host, Rule, Ruleset, RulesetBuilder, Scheme, decide, decide_address};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::{select, subsequence};

use crate::naive::{self, PlainFacts, PlainLayer, PlainRule};
use crate::plain_text::text;

const HOSTS: [&str; 10] = ["a.x", "b.x", "x", "c.a.x", "a.y", "**", "*.x", "**.x", "*.a.x", "**.a.x"];
const NAMES: [&str; 8] = ["a.x", "b.x", "x", "c.a.x", "d.c.a.x", "a.y", "ax", "y"];
const CIDRS: [&str; 8] =
    ["10.0.0.0/8", "10.1.0.0/16", "10.1.2.3/32", "127.0.0.0/8", "0.0.0.0/0", "fd00::/8", "::1/128", "::/0"];
const ADDRESSES: [&str; 7] =
    ["10.1.2.3", "10.9.9.9", "127.0.0.1", "8.8.8.8", "::1", "fd00::1", "2001:db8::1"];
const PORTS: [u16; 4] = [80, 443, 22, 8443];
const METHODS: [&str; 3] = ["GET", "POST", "DELETE"];
const PATHS: [&str; 18] = [
    "/", "/a", "/A", "/a/", "/a/b", "/ab", "/a/b/c", "/b/a", "/a//b", "/a;x", "/a%2Fb", "/a%252F",
    "/a/b/a/b", "/aab", "/a@b", "/a%40b", "/a|b", "/a%7Cb",
];
const GLOBS: [&str; 14] = [
    "/",
    "/a",
    "/a/",
    "/a/*",
    "/a/**",
    "/**",
    "/*",
    "/*/b",
    "/**/b",
    "/a*b",
    "/**/a/**/b",
    "/a/**/*",
    "/a@b",
    "/a%7Cb",
];

const KEYS: [&str; 4] = ["q", "page", "api_key", "f[id]"];
const QUERIES: [&str; 30] = [
    "",
    "q",
    "q=1",
    "q=1&page=2",
    "page=1&&",
    "Q=1",
    "%71=1",
    "%2571=1",
    "q[]=1",
    "q[",
    "q]=1",
    "[q]=1",
    "[]=1",
    "a=q",
    "page=1;q=2",
    "+q=1",
    "=1",
    "q=\u{e9}",
    "q%00=1",
    "q=1#x",
    "api.key=1",
    "api[key=1",
    "API%5fkEY=1",
    "api_key[a][b]",
    "f=1",
    "f[id]=1",
    "f%5Bx%5D=1",
    "f[id]x=1",
    "z=1",
    "q%3D=1",
];
/// 2027-01-01, as text in rules and as a number in facts.
const NEW_YEAR: (&str, i64) = ("2027-01-01T00:00:00Z", 1_798_761_600);

fn some(words: &'static [&'static str], most: usize) -> impl Strategy<Value = Vec<String>> {
    subsequence(words, 0..=most).prop_map(|words| words.into_iter().map(str::to_owned).collect())
}

prop_compose! {
    fn rule()(
        deny in any::<bool>(),
        hosts in some(&HOSTS, 3),
        cidrs in some(&CIDRS, 2),
        ports in subsequence(PORTS.to_vec(), 0..=3),
        any_port in prop::bool::weighted(0.2),
        schemes in some(&["https", "http"], 2),
        methods in some(&METHODS, 2),
        paths in some(&GLOBS, 2),
        tcp in prop::bool::weighted(0.3),
        websocket in prop::bool::weighted(0.3),
        query in prop::option::weighted(0.3, some(&KEYS, 3)),
        expires in prop::option::weighted(0.2, Just(NEW_YEAR.1)),
    ) -> PlainRule {
        repair(PlainRule {
            deny, hosts, cidrs, ports, any_port, schemes, methods, paths, tcp, websocket, query, expires,
        })
    }
}

/// Into a rule that loads.
fn repair(mut rule: PlainRule) -> PlainRule {
    if rule.hosts.is_empty() && rule.cidrs.is_empty() {
        rule.hosts.push("**.x".to_owned());
    }
    if rule.any_port {
        rule.ports.clear();
    }
    if rule.tcp && !rule.deny {
        rule.any_port = false;
        if !rule.ports.contains(&22) {
            rule.ports.push(22);
        }
        rule.methods.clear();
        rule.paths.clear();
        rule.query = None;
        rule.websocket &= !rule.schemes.is_empty();
    }
    if rule.websocket && !rule.methods.is_empty() && !rule.methods.iter().any(|method| method == "GET") {
        rule.methods.push("GET".to_owned());
    }
    if rule.deny {
        rule.expires = None;
        rule.query = rule.query.filter(|keys| !keys.is_empty());
    }
    rule
}

fn facts() -> impl Strategy<Value = PlainFacts> {
    let host = prop_oneof![3 => select(&NAMES[..]), 1 => select(&ADDRESSES[..])];
    let scheme = select(&["https", "http", "wss", "ws"][..]);
    let parts = (host, select(&PORTS[..]), scheme, select(&METHODS[..]), select(&PATHS[..]));
    let query = prop::option::weighted(0.9, select(&QUERIES[..]));
    let now = prop::option::weighted(0.9, select(&[NEW_YEAR.1 - 1, NEW_YEAR.1, NEW_YEAR.1 + 1][..]));
    (select(&["dns", "connect", "http", "http", "tcp"][..]), parts, query, now).prop_map(
        |(layer, (host, port, scheme, method, path), query, now)| {
            let layer = if layer == "dns" && host.parse::<IpAddr>().is_ok() { "connect" } else { layer };
            let is_http = layer == "http";
            // Else raw bytes would hardly ever meet a rule that allows them.
            let port = if layer == "tcp" { 22 } else { port };
            PlainFacts {
                layer,
                host: host.to_owned(),
                port: (layer != "dns").then_some(port),
                scheme: if is_http { Some(scheme) } else { (layer == "tcp").then_some("tcp") },
                method: is_http.then(|| method.to_owned()),
                path: is_http.then(|| path.to_owned()),
                query: query.filter(|_| is_http).map(str::to_owned),
                now,
            }
        },
    )
}

fn to_rule(plain: &PlainRule) -> Rule {
    let mut rule = if plain.deny { Rule::deny() } else { Rule::allow() };
    rule = plain.hosts.iter().fold(rule, Rule::host);
    rule = plain.cidrs.iter().fold(rule, Rule::cidr);
    rule = plain.ports.iter().fold(rule, |rule, port| rule.port(*port));
    rule = plain.schemes.iter().fold(rule, Rule::scheme);
    rule = plain.methods.iter().fold(rule, Rule::method);
    rule = plain.paths.iter().fold(rule, Rule::path);
    rule = match &plain.query {
        None => rule,
        Some(keys) if keys.is_empty() => rule.no_query(),
        Some(keys) => keys.iter().fold(rule, Rule::query_key),
    };
    rule = if plain.expires.is_some() { rule.expires(NEW_YEAR.0) } else { rule };
    rule = if plain.any_port { rule.any_port() } else { rule };
    rule = if plain.tcp { rule.tcp() } else { rule };
    if plain.websocket { rule.websocket() } else { rule }
}

fn to_ruleset(plain: &[PlainRule]) -> Ruleset {
    let add = |builder: RulesetBuilder, rule: &PlainRule| builder.rule(to_rule(rule));
    plain.iter().try_fold(RulesetBuilder::new(), add).unwrap().build()
}

fn to_facts(plain: &PlainFacts) -> Facts<'_> {
    let host = plain.host.parse().map_or(Host::Name(&plain.host), Host::Ip);
    let port = plain.port.unwrap_or(0);
    let facts = match plain.layer {
        "dns" => Facts::dns(&plain.host),
        "connect" => Facts::connect(host, port),
        "tcp" => Facts::tcp(host, port),
        _ => {
            let scheme = Scheme::ALL.into_iter().find(|s| Some(s.as_str()) == plain.scheme).unwrap();
            Facts::http(scheme, host, port, plain.method.as_ref().unwrap(), plain.path.as_ref().unwrap())
        }
    };
    let facts = plain.query.as_deref().map_or(facts, |query| facts.with_query(query));
    plain.now.map_or(facts, |now| facts.at(now))
}

fn effect(rules: &[PlainRule], facts: &PlainFacts) -> Effect {
    decide(&to_ruleset(rules), &to_facts(facts)).effect
}

fn effect_at(rules: &[PlainRule], facts: &PlainFacts, ip: IpAddr) -> Effect {
    decide_address(&to_ruleset(rules), &to_facts(facts), ip).effect
}

/// Few rules each: with many, hardly anything is inside all ceilings.
fn layers() -> impl Strategy<Value = Vec<PlainLayer>> {
    let layer = (prop::bool::weighted(0.4), vec(rule(), 0..4));
    vec(layer.prop_map(|(ceiling, rules)| PlainLayer { ceiling, rules }), 1..5)
}

fn stacked(layers: &[PlainLayer]) -> Ruleset {
    let named: Vec<(String, String)> =
        layers.iter().enumerate().map(|(n, layer)| (text(layer), format!("{n}.toml"))).collect();
    let named: Vec<(&str, &str)> = named.iter().map(|(text, name)| (text.as_str(), name.as_str())).collect();
    Ruleset::from_layers(&named).unwrap()
}

fn as_effect(allow: bool) -> Effect {
    if allow { Effect::Allow } else { Effect::Deny }
}

fn address() -> impl Strategy<Value = IpAddr> {
    select(&ADDRESSES[..]).prop_map(|text| text.parse().unwrap())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1024, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_second_opinion_agrees(rules in vec(rule(), 0..6), facts in facts()) {
        prop_assert_eq!(effect(&rules, &facts), as_effect(naive::allows(&rules, &facts)));
    }

    #[test]
    fn the_second_opinion_agrees_on_addresses(rules in vec(rule(), 0..6), facts in facts(), ip in address()) {
        prop_assert_eq!(effect_at(&rules, &facts, ip), as_effect(naive::allows_address(&rules, &facts, ip)));
    }

    #[test]
    fn the_second_opinion_agrees_on_paths(
        glob in "(/(a|b|A|@|%7C|\\*|a\\*b|\\*\\*)){1,4}/?",
        path in "(/(a|b|A|ab|aab|@|%40|%7C|\\||a%2Fb|a;b)?){1,5}",
        deny in any::<bool>(),
    ) {
        let any = PlainRule { hosts: vec!["**".to_owned()], any_port: true, ..PlainRule::default() };
        let mut rules = vec![PlainRule { deny, paths: vec![glob], ..any.clone() }];
        rules.extend(deny.then_some(any));
        let (host, method) = ("a.x".to_owned(), Some("GET".to_owned()));
        let facts = PlainFacts { layer: "http", host, port: Some(443), scheme: Some("https"), method, path: Some(path), query: None, now: None };
        prop_assert_eq!(effect(&rules, &facts), as_effect(naive::allows(&rules, &facts)), "{:?}", rules);
    }

    #[test]
    fn the_second_opinion_agrees_on_queries(
        keys in vec(select(&KEYS[..]), 1..3),
        query in "(q|page|api|_|\\.|key|f|\\[|\\]|id|%71|%5B|%5d|%25|%|\\+|&|;|=|Q|#| ){0,8}",
        deny in any::<bool>(),
    ) {
        let any = PlainRule { hosts: vec!["**".to_owned()], any_port: true, ..PlainRule::default() };
        let keys = keys.into_iter().map(str::to_owned).collect();
        let mut rules = vec![PlainRule { deny, query: Some(keys), ..any.clone() }];
        rules.extend(deny.then_some(any));
        let (host, method, path) = ("a.x".to_owned(), Some("GET".to_owned()), Some("/".to_owned()));
        let (port, scheme) = (Some(443), Some("https"));
        let facts = PlainFacts { layer: "http", host, port, scheme, method, path, query: Some(query), now: None };
        prop_assert_eq!(effect(&rules, &facts), as_effect(naive::allows(&rules, &facts)), "{:?}", rules);
    }

    #[test]
    fn the_second_opinion_agrees_on_layers(layers in layers(), facts in facts(), ip in address()) {
        let rules = stacked(&layers);
        let asked = to_facts(&facts);
        let (verdict, at) = (decide(&rules, &asked), decide_address(&rules, &asked, ip));
        prop_assert_eq!(verdict.effect, as_effect(naive::layers_allow(&layers, &facts)));
        prop_assert_eq!(at.effect, as_effect(naive::layers_allow_address(&layers, &facts, ip)));
        // What a verdict names is there, and grants: a ceiling is never the rule that allows.
        if verdict.is_allowed() {
            let number: usize = verdict.layer.unwrap().trim_end_matches(".toml").parse().unwrap();
            prop_assert!(!layers[number].ceiling);
        }
    }

    #[test]
    fn order_of_layers_never_changes_the_effect(
        (layers, shuffled) in layers().prop_flat_map(|layers| (Just(layers.clone()), Just(layers).prop_shuffle())),
        facts in facts(),
        ip in address(),
    ) {
        let (one, other, asked) = (stacked(&layers), stacked(&shuffled), to_facts(&facts));
        prop_assert_eq!(decide(&one, &asked).effect, decide(&other, &asked).effect);
        prop_assert_eq!(decide_address(&one, &asked, ip).effect, decide_address(&other, &asked, ip).effect);
    }

    #[test]
    fn one_ceiling_more_never_allows(layers in layers(), rules in vec(rule(), 0..4), facts in facts(), ip in address()) {
        let mut bounded = layers.clone();
        bounded.push(PlainLayer { ceiling: true, rules });
        let (free, bounded, asked) = (stacked(&layers), stacked(&bounded), to_facts(&facts));
        prop_assert!(decide(&free, &asked).is_allowed() || !decide(&bounded, &asked).is_allowed());
        prop_assert!(decide_address(&free, &asked, ip).is_allowed() || !decide_address(&bounded, &asked, ip).is_allowed());
    }

    #[test]
    fn order_never_changes_the_effect(
        (rules, shuffled) in vec(rule(), 0..6).prop_flat_map(|rules| (Just(rules.clone()), Just(rules).prop_shuffle())),
        facts in facts(),
        ip in address(),
    ) {
        prop_assert_eq!(effect(&rules, &facts), effect(&shuffled, &facts));
        prop_assert_eq!(effect_at(&rules, &facts, ip), effect_at(&shuffled, &facts, ip));
    }

    #[test]
    fn one_deny_more_never_allows(rules in vec(rule(), 0..6), more in rule(), facts in facts(), ip in address()) {
        let mut stricter = rules.clone();
        stricter.push(repair(PlainRule { deny: true, ..more }));
        prop_assert!(effect(&rules, &facts) == Effect::Allow || effect(&stricter, &facts) == Effect::Deny);
        prop_assert!(effect_at(&rules, &facts, ip) == Effect::Allow || effect_at(&stricter, &facts, ip) == Effect::Deny);
    }

    #[test]
    fn one_allow_less_never_allows(rules in vec(rule(), 0..6), less in rule(), facts in facts(), ip in address()) {
        let mut more = rules.clone();
        more.push(repair(PlainRule { deny: false, ..less }));
        prop_assert!(effect(&more, &facts) == Effect::Allow || effect(&rules, &facts) == Effect::Deny);
        prop_assert!(effect_at(&more, &facts, ip) == Effect::Allow || effect_at(&rules, &facts, ip) == Effect::Deny);
    }

    #[test]
    fn a_tunnel_and_a_name_are_never_stricter_than_the_request(rules in vec(rule(), 0..6), facts in facts()) {
        // Else an allowed request could not be made: the earlier questions must let it come to the last.
        let request = to_facts(&facts);
        let ruleset = to_ruleset(&rules);
        if facts.layer == "http" && decide(&ruleset, &request).is_allowed() {
            let tell = |asked| facts.now.map_or(asked, |now| Facts::at(asked, now));
            let tunnel = tell(Facts::connect(request.host(), facts.port.unwrap()));
            prop_assert!(decide(&ruleset, &tunnel).is_allowed());
            if let Host::Name(name) = request.host() {
                prop_assert!(decide(&ruleset, &tell(Facts::dns(name))).is_allowed());
            }
        }
    }

    #[test]
    fn any_text_is_answered(line in "\\PC{0,60}", text in "(?s).{0,200}") {
        let rules = Ruleset::parse("version = 1\n[[allow]]\nhost = \"**\"\npaths = [\"/a/**\"]", "p").unwrap();
        if let Ok(facts) = Facts::parse(&line) {
            let _ = decide(&rules, &facts).explain(&facts).to_string();
        }
        if let Err(error) = Ruleset::parse(&text, "p") {
            prop_assert!(!error.to_string().is_empty());
        }
    }

    #[test]
    fn any_host_and_path_is_judged_or_refused(host in "[a-z0-9.*\\-_%A-Z\u{e9}]{0,30}", path in "[/a.%2eEfF;?#*\\\\]{0,30}") {
        let rules = Ruleset::parse("version = 1\n[[allow]]\nhost = \"**\"\npaths = [\"/a/**\"]", "p").unwrap();
        let facts = Facts::http(Scheme::Https, Host::Name(&host), 443, "GET", &path);
        let verdict = decide(&rules, &facts);
        if verdict.is_allowed() {
            // What is allowed is under /a/ for every reading that servers are known to have.
            let lower = path.to_ascii_lowercase();
            prop_assert!(path.starts_with("/a/") && !lower.contains("%2") && !lower.contains("..;") && !path.contains('\\'));
            prop_assert!(!path.split('/').any(|segment| segment == ".." || segment == "."));
            prop_assert!(!host.ends_with('.') && host == host.to_ascii_lowercase() && host.is_ascii());
        }
    }
}
