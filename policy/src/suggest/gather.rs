//! Attempts put together by place, and the rules for each place.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use super::{Caution, LeftOut, Suggested, path, writable};
use crate::canonical::PathReading;
use crate::facts::{Facts, Host, Layer, Scheme};
use crate::limits::{ID_BYTES_MAX, LIST_ENTRIES_MAX};
use crate::ruleset::Ruleset;

/// Tests that are written for one rule.
const EXAMPLES_MAX: usize = 8;

const PATH_WITHOUT_PATTERN: &str = "its path is too long for a pattern, or has signs that none may have; write a rule that is as wide as you want it";

/// Where attempts went.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Place {
    /// As in a URL.
    host: String,
    cidr: Option<String>,
    port: u16,
    scheme: &'static str,
}

/// One kind of request: what is asked of one path.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Request {
    websocket: bool,
    method: String,
    path: String,
    /// No pattern matches the path.
    ambiguous: bool,
}

#[derive(Debug, Default)]
pub(super) struct Gathered {
    requests: BTreeMap<Place, BTreeSet<Request>>,
    raw: BTreeSet<Place>,
    tunnels: BTreeSet<Place>,
    names: BTreeSet<String>,
}

impl Place {
    fn of(facts: &Facts<'_>, scheme: &'static str) -> Self {
        let cidr = match facts.host() {
            Host::Ip(ip) => Some(format!("{ip}/{}", if ip.is_ipv4() { 32 } else { 128 })),
            Host::Name(_) => None,
        };
        Self { host: facts.host().to_string(), cidr, port: facts.port().unwrap_or(443), scheme }
    }

    fn default_port(&self) -> Option<u16> {
        Scheme::ALL.into_iter().find(|scheme| scheme.as_str() == self.scheme)?.default_port()
    }
}

impl Gathered {
    pub(super) fn add(&mut self, facts: &Facts<'_>) {
        let port = facts.port().unwrap_or(443);
        match (facts.layer(), facts.method(), facts.path()) {
            (Layer::Dns, ..) => _ = self.names.insert(facts.host().to_string()),
            (Layer::Tcp, ..) => _ = self.raw.insert(Place::of(facts, "tcp")),
            (Layer::Http, Some(method), Some(path)) => {
                let (scheme, websocket) = match facts.scheme() {
                    Some(Scheme::Http) => ("http", false),
                    Some(Scheme::Ws) => ("http", true),
                    Some(Scheme::Wss) => ("https", true),
                    _ => ("https", false),
                };
                let ambiguous = facts.reading() != Ok(PathReading::Plain);
                let (method, path) = (method.to_owned(), path.to_owned());
                let request = Request { websocket, method, path, ambiguous };
                self.requests.entry(Place::of(facts, scheme)).or_default().insert(request);
            }
            _ => _ = self.tunnels.insert(Place::of(facts, if port == 80 { "http" } else { "https" })),
        }
    }

    /// Rules in the order of hosts and ports, and what none could be made for.
    pub(super) fn into_rules(mut self, existing: &Ruleset) -> (Vec<Suggested>, Vec<LeftOut>) {
        let (mut left_out, closed) = self.leave_out();
        let mut rules: Vec<Suggested> =
            self.requests.iter().flat_map(|(place, requests)| rules_for(place, requests)).collect();
        for place in &self.raw {
            let line = format!("TCP {}:{}", place.host, place.port);
            rules.push(rule(place, Vec::new(), vec![line]));
        }
        // What allows a request at a place lets its tunnel be opened, and its name be looked up.
        let mut guess = |rules: &mut Vec<Suggested>, place: &Place, line: String, known: bool| {
            // What was wanted there is known, and left out: any path would be more than that.
            if known {
                let why = "what was to be asked there is left out".to_owned();
                return left_out.push(LeftOut { request: line, why });
            }
            let methods = vec!["GET".to_owned(), "HEAD".to_owned()];
            let mut rule = rule(place, methods, vec![line]);
            rule.cautions.push(Caution::RequestsUnseen);
            rules.push(rule);
        };
        for place in &self.tunnels {
            if !rules.iter().any(|rule| rule.host == place.host && rule.port == place.port) {
                let known = closed.iter().any(|other| other.host == place.host && other.port == place.port);
                guess(&mut rules, place, format!("CONNECT {}:{}", place.host, place.port), known);
            }
        }
        for name in &self.names {
            if !rules.iter().any(|rule| rule.host == *name) {
                let place = Place { host: name.clone(), cidr: None, port: 443, scheme: "https" };
                let known = closed.iter().any(|other| other.host == *name);
                guess(&mut rules, &place, format!("DNS {name}"), known);
            }
        }
        rules.sort_by(|one, other| {
            (&one.host, one.port, one.scheme).cmp(&(&other.host, other.port, other.scheme))
        });
        name_all(&mut rules, existing);
        (rules, left_out)
    }

    /// Takes away the requests whose path no pattern stands for, with their places: by a shorter pattern the sandbox
    /// would choose, with a long path, how much more than it asked for is allowed.
    fn leave_out(&mut self) -> (Vec<LeftOut>, BTreeSet<Place>) {
        let (mut left_out, mut closed) = (Vec::new(), BTreeSet::new());
        for (place, requests) in &mut self.requests {
            let unruly = [false, true].map(|websocket| without_pattern(requests, websocket)).concat();
            for request in unruly {
                requests.remove(&request);
                left_out
                    .push(LeftOut { request: shown(place, &request), why: PATH_WITHOUT_PATTERN.to_owned() });
                closed.insert(place.clone());
            }
        }
        (left_out, closed)
    }
}

/// Those that are neither matched by a pattern nor allowed with all other paths.
fn without_pattern(requests: &BTreeSet<Request>, websocket: bool) -> Vec<Request> {
    let requests: Vec<&Request> = requests.iter().filter(|request| request.websocket == websocket).collect();
    let paths: Vec<&str> = requests.iter().map(|request| request.path.as_str()).collect();
    let anywhere: BTreeSet<&str> =
        requests.iter().filter(|request| request.ambiguous).map(|request| &*request.method).collect();
    let patterns = path::patterns(&paths);
    let unruly = requests
        .into_iter()
        .zip(patterns)
        .filter(|(request, pattern)| pattern.is_none() && !anywhere.contains(&*request.method));
    unruly.map(|(request, _)| request.clone()).collect()
}

/// As facts are shown.
fn shown(place: &Place, request: &Request) -> String {
    let address = place.cidr.as_deref().and_then(|network| network.split('/').next()?.parse().ok());
    let host = address.map_or(Host::Name(&place.host), Host::Ip);
    let scheme = match (place.scheme, request.websocket) {
        ("http", false) => Scheme::Http,
        ("http", true) => Scheme::Ws,
        (_, false) => Scheme::Https,
        (_, true) => Scheme::Wss,
    };
    Facts::http(scheme, host, place.port, &request.method, &request.path).to_string()
}

/// What one rule allows, paths aside.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Kind<'a> {
    websocket: bool,
    any_path: bool,
    methods: Vec<&'a str>,
}

/// A pattern, or any path, with what was asked there.
#[derive(Debug)]
struct Spot<'a> {
    pattern: Option<String>,
    requests: Vec<&'a Request>,
}

fn rules_for(place: &Place, requests: &BTreeSet<Request>) -> Vec<Suggested> {
    // Patterns with the same methods make one rule: it allows no pair that was not asked for.
    let mut alike: BTreeMap<Kind<'_>, Vec<Spot<'_>>> = BTreeMap::new();
    for websocket in [false, true] {
        for spot in spots(requests, websocket) {
            let methods: BTreeSet<&str> = spot.requests.iter().map(|request| &*request.method).collect();
            let methods = methods.into_iter().collect();
            let kind = Kind { websocket, any_path: spot.pattern.is_none(), methods };
            alike.entry(kind).or_default().push(spot);
        }
    }
    let chunks =
        alike.iter().flat_map(|(kind, all)| all.chunks(LIST_ENTRIES_MAX).map(move |part| (kind, part)));
    let make = |(kind, part): (&Kind<'_>, &[Spot<'_>])| {
        let examples = part.iter().filter_map(|spot| spot.requests.first()).take(EXAMPLES_MAX);
        let methods = kind.methods.iter().map(|method| (*method).to_owned()).collect();
        let mut rule = rule(place, methods, examples.map(|request| line(place, request)).collect());
        rule.websocket = kind.websocket;
        rule.paths = part.iter().filter_map(|spot| spot.pattern.clone()).collect();
        rule.cautions.extend(kind.any_path.then_some(Caution::AnyPath));
        rule
    };
    chunks.map(make).collect()
}

/// By pattern. A method that has to be allowed on any path is mentioned nowhere else.
fn spots(requests: &BTreeSet<Request>, websocket: bool) -> Vec<Spot<'_>> {
    let requests: Vec<&Request> = requests.iter().filter(|request| request.websocket == websocket).collect();
    let paths: Vec<&str> = requests.iter().map(|request| request.path.as_str()).collect();
    let mut asked: BTreeMap<Option<String>, Vec<&Request>> = BTreeMap::new();
    for (request, pattern) in requests.into_iter().zip(path::patterns(&paths)) {
        asked.entry(pattern.filter(|_| !request.ambiguous)).or_default().push(request);
    }
    let anywhere: Vec<&str> =
        asked.get(&None).into_iter().flatten().map(|request| request.method.as_str()).collect();
    let spots = asked.into_iter().map(|(pattern, mut requests)| {
        requests.retain(|request| pattern.is_none() || !anywhere.contains(&&*request.method));
        Spot { pattern, requests }
    });
    spots.filter(|spot| !spot.requests.is_empty()).collect()
}

fn rule(place: &Place, methods: Vec<String>, examples: Vec<String>) -> Suggested {
    let cautions = [
        (place.cidr.is_some(), Caution::LiteralAddress),
        (writable::looks_writable(&place.host), Caution::WriteCapable),
    ];
    Suggested {
        id: String::new(),
        host: place.host.clone(),
        cidr: place.cidr.clone(),
        port: place.port,
        scheme: place.scheme,
        websocket: false,
        methods,
        paths: Vec::new(),
        cautions: cautions.into_iter().filter(|(holds, _)| *holds).map(|(_, caution)| caution).collect(),
        examples,
    }
}

/// In the form that a test reads; all of it is canonical.
fn line(place: &Place, request: &Request) -> String {
    let scheme = match (place.scheme, request.websocket) {
        ("http", true) => "ws",
        (_, true) => "wss",
        (scheme, false) => scheme,
    };
    let port =
        if place.default_port() == Some(place.port) { String::new() } else { format!(":{}", place.port) };
    // What is asked of the server as a whole has no place in a URL.
    let path = if request.path == "*" { "/" } else { &request.path };
    format!("{} {scheme}://{}{port}{path}", request.method, place.host)
}

/// `api.example.com-1`, `api.example.com-2`…: by host, free in `existing`.
fn name_all(rules: &mut [Suggested], existing: &Ruleset) {
    let mut taken: HashSet<String> = existing.rules().map(|rule| rule.id.to_owned()).collect();
    for rule in rules {
        let known = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
        let stem: String = rule.host.chars().filter(|c| !"[]".contains(*c)).collect();
        let stem = stem.chars().map(|c| if known(c) { c } else { '-' }).take(ID_BYTES_MAX.saturating_sub(12));
        let stem: String = stem.collect();
        let free = (1u32..).map(|number| format!("{stem}-{number}")).find(|id| !taken.contains(id));
        rule.id = free.unwrap_or_default();
        taken.insert(rule.id.clone());
    }
}
