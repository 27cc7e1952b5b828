//! Decisions against the second opinion of `policy`'s own tests: rules and facts from small alphabets, so that
//! they meet often.

#![no_main]

use std::net::IpAddr;

use fuzz::Input;
use libfuzzer_sys::fuzz_target;
use policy::{Effect, Facts, Host, Rule, Ruleset, RulesetBuilder, Scheme, decide, decide_address};

#[allow(dead_code)]
#[path = "../../policy/tests/it/naive.rs"]
mod naive;
#[path = "../../policy/tests/it/plain_text.rs"]
mod plain_text;

use naive::{PlainFacts, PlainLayer, PlainRule};

/// 2027-01-01, as text in rules and as a number in facts.
const NEW_YEAR: (&str, i64) = ("2027-01-01T00:00:00Z", 1_798_761_600);
const KEYS: [&str; 4] = ["q", "page", "api_key", "f[id]"];
const QUERY_PIECES: [&str; 19] = [
    "q", "page", "api", "_", ".", "key", "f", "[", "]", "id", "%71", "%5B", "%5d", "%", "+", "&", ";", "=",
    "Q",
];
const HOSTS: [&str; 10] = ["a.x", "b.x", "x", "c.a.x", "a.y", "**", "*.x", "**.x", "*.a.x", "**.a.x"];
const NAMES: [&str; 15] = [
    "a.x",
    "b.x",
    "x",
    "c.a.x",
    "d.c.a.x",
    "a.y",
    "ax",
    "y",
    "10.1.2.3",
    "10.9.9.9",
    "127.0.0.1",
    "8.8.8.8",
    "::1",
    "fd00::1",
    "2001:db8::1",
];
const CIDRS: [&str; 8] =
    ["10.0.0.0/8", "10.1.0.0/16", "10.1.2.3/32", "127.0.0.0/8", "0.0.0.0/0", "fd00::/8", "::1/128", "::/0"];
const PORTS: [u16; 4] = [80, 443, 22, 8443];
const METHODS: [&str; 3] = ["GET", "POST", "DELETE"];
const QUESTIONS_MAX: usize = 16;
/// What paths and path globs are made of.
const PIECES: [&str; 12] = ["/", "a", "b", "A", "/a", "//", ";", "%2F", "%25", "ab", "@", "%7C"];
const GLOBS: [&str; 8] = ["/", "a", "b", "A", "/**", "/*", "a*b", "@"];

fuzz_target!(|bytes: &[u8]| {
    let mut input = Input(bytes);
    let count = input.below(6);
    let plain: Vec<PlainRule> = (0..count).map(|_| rule(&mut input)).collect();
    let build = |rules: &[PlainRule]| -> Option<Ruleset> {
        let add = |builder: RulesetBuilder, rule: &PlainRule| builder.rule(to_rule(rule));
        Some(rules.iter().try_fold(RulesetBuilder::new(), add).ok()?.build())
    };
    let Some(rules) = build(&plain) else { return };
    let reversed = build(&plain.iter().rev().cloned().collect::<Vec<_>>()).expect("loads in any order");
    let layers = layers(&mut input, &plain);
    let stacked = stack(&layers);
    for _ in 0..QUESTIONS_MAX {
        if input.is_empty() {
            break;
        }
        let plain_facts = facts(&mut input);
        let facts = to_facts(&plain_facts);
        if facts.check().is_err() {
            assert!(!decide(&rules, &facts).is_allowed() && !decide(&stacked, &facts).is_allowed());
            continue;
        }
        let verdict = decide(&rules, &facts);
        assert_eq!(verdict.is_allowed(), naive::allows(&plain, &plain_facts), "{facts} by {plain:?}");
        assert_eq!(decide(&reversed, &facts).effect, verdict.effect, "the order of rules matters");
        let ip: IpAddr = input.one(&NAMES[8..]).parse().unwrap();
        let allowed = decide_address(&rules, &facts, ip).effect == Effect::Allow;
        assert_eq!(allowed, naive::allows_address(&plain, &plain_facts, ip), "{facts} at {ip} by {plain:?}");
        let allowed = decide(&stacked, &facts).is_allowed();
        assert_eq!(allowed, naive::layers_allow(&layers, &plain_facts), "{facts} by {layers:?}");
        let allowed = decide_address(&stacked, &facts, ip).is_allowed();
        let second = naive::layers_allow_address(&layers, &plain_facts, ip);
        assert_eq!(allowed, second, "{facts} at {ip} by {layers:?}");
    }
});

/// The same rules, dealt out to files of which some are ceilings.
fn layers(input: &mut Input<'_>, rules: &[PlainRule]) -> Vec<PlainLayer> {
    let mut layers: Vec<PlainLayer> =
        (0..input.below(4)).map(|_| PlainLayer { ceiling: input.u8() & 1 != 0, rules: Vec::new() }).collect();
    layers.push(PlainLayer::default());
    for rule in rules {
        let at = input.below(layers.len());
        layers[at].rules.push(rule.clone());
    }
    layers
}

fn stack(layers: &[PlainLayer]) -> Ruleset {
    let named: Vec<(String, String)> =
        layers.iter().enumerate().map(|(n, layer)| (plain_text::text(layer), format!("{n}.toml"))).collect();
    let named: Vec<(&str, &str)> = named.iter().map(|(text, name)| (text.as_str(), name.as_str())).collect();
    Ruleset::from_layers(&named).expect("rules that load alone load in layers")
}

fn some(input: &mut Input<'_>, words: &[&str], most: usize) -> Vec<String> {
    let count = input.below(most + 1);
    let mut all: Vec<String> = (0..count).map(|_| input.one(words).to_owned()).collect();
    all.dedup();
    all
}

fn path(input: &mut Input<'_>, pieces: &[&str]) -> String {
    let count = input.below(6);
    (0..count).fold("/".to_owned(), |path, _| path + input.one(pieces))
}

fn rule(input: &mut Input<'_>) -> PlainRule {
    let flags = input.u8();
    let mut rule = PlainRule {
        deny: flags & 1 != 0,
        hosts: some(input, &HOSTS, 3),
        cidrs: some(input, &CIDRS, 2),
        any_port: flags & 2 != 0,
        schemes: some(input, &["https", "http"], 2),
        methods: some(input, &METHODS, 2),
        tcp: flags & 4 != 0,
        websocket: flags & 8 != 0,
        ..PlainRule::default()
    };
    if !rule.any_port {
        rule.ports = (0..input.below(4)).map(|_| input.one(&PORTS)).collect();
    }
    rule.paths = (0..input.below(3)).map(|_| path(input, &GLOBS)).collect();
    if flags & 16 != 0 && !rule.tcp {
        let keys: Vec<String> = some(input, &KEYS, 3);
        rule.query = Some(keys).filter(|keys| !rule.deny || !keys.is_empty());
    }
    rule.expires = (flags & 32 != 0 && !rule.deny).then_some(NEW_YEAR.1);
    rule
}

fn facts(input: &mut Input<'_>) -> PlainFacts {
    let host = input.one(&NAMES);
    let mut layer = input.one(&["dns", "connect", "http", "http", "tcp"]);
    if layer == "dns" && host.parse::<IpAddr>().is_ok() {
        layer = "connect";
    }
    let is_http = layer == "http";
    let scheme = if is_http { Some(input.one(&["https", "http", "wss", "ws"])) } else { None };
    PlainFacts {
        layer,
        host: host.to_owned(),
        port: (layer != "dns").then(|| input.one(&PORTS)),
        scheme: scheme.or((layer == "tcp").then_some("tcp")),
        method: is_http.then(|| input.one(&METHODS).to_owned()),
        path: is_http.then(|| path(input, &PIECES)),
        query: (is_http && input.below(8) != 0)
            .then(|| (0..input.below(6)).map(|_| input.one(&QUERY_PIECES)).collect()),
        now: (input.below(8) != 0).then(|| input.one(&[NEW_YEAR.1 - 1, NEW_YEAR.1])),
    }
}

fn to_rule(plain: &PlainRule) -> Rule {
    let mut rule = if plain.deny { Rule::deny() } else { Rule::allow() };
    rule = plain.hosts.iter().fold(rule, Rule::host);
    rule = plain.cidrs.iter().fold(rule, Rule::cidr);
    rule = plain.ports.iter().fold(rule, |rule, port| rule.port(*port));
    rule = plain.schemes.iter().fold(rule, Rule::scheme);
    rule = plain.methods.iter().fold(rule, Rule::method);
    rule = plain.paths.iter().fold(rule, Rule::path);
    rule = if plain.any_port { rule.any_port() } else { rule };
    rule = match &plain.query {
        None => rule,
        Some(keys) if keys.is_empty() => rule.no_query(),
        Some(keys) => keys.iter().fold(rule, Rule::query_key),
    };
    rule = if plain.expires.is_some() { rule.expires(NEW_YEAR.0) } else { rule };
    rule = if plain.tcp { rule.tcp() } else { rule };
    if plain.websocket { rule.websocket() } else { rule }
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
