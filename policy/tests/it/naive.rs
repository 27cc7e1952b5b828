//! A second opinion: the file format's meaning written down once more, as plainly as possible, over plain
//! lists and without any code of the crate. Slow on purpose.

use std::net::IpAddr;

/// A rule as a person would note it down.
#[derive(Debug, Clone, Default)]
pub(crate) struct PlainRule {
    pub(crate) deny: bool,
    pub(crate) hosts: Vec<String>,
    pub(crate) cidrs: Vec<String>,
    /// Empty: left out.
    pub(crate) ports: Vec<u16>,
    pub(crate) any_port: bool,
    pub(crate) schemes: Vec<String>,
    pub(crate) methods: Vec<String>,
    pub(crate) paths: Vec<String>,
    pub(crate) tcp: bool,
    pub(crate) websocket: bool,
    /// Keys; `Some` of none in a rule that allows: there must be no query.
    pub(crate) query: Option<Vec<String>>,
    /// Seconds since 1970; only in rules that allow.
    pub(crate) expires: Option<i64>,
}

/// An attempt; `None` is what is not known at its layer.
#[derive(Debug, Clone)]
pub(crate) struct PlainFacts {
    pub(crate) layer: &'static str,
    pub(crate) host: String,
    pub(crate) port: Option<u16>,
    pub(crate) scheme: Option<&'static str>,
    pub(crate) method: Option<String>,
    pub(crate) path: Option<String>,
    pub(crate) query: Option<String>,
    pub(crate) now: Option<i64>,
}

/// One file.
#[derive(Debug, Clone, Default)]
pub(crate) struct PlainLayer {
    /// It allows nothing itself; the others may not go beyond what it allows.
    pub(crate) ceiling: bool,
    pub(crate) rules: Vec<PlainRule>,
}

const SCHEMES: [&str; 5] = ["https", "http", "wss", "ws", "tcp"];

/// May it pass?
pub(crate) fn allows(rules: &[PlainRule], facts: &PlainFacts) -> bool {
    // What is not known could still become anything it can become; then the question is whether some
    // outcome is allowed, and whether all are denied.
    let (allowed, denied) = split(rules);
    let about = |rule: &PlainRule| {
        if rule.deny { speaks_of_host(rule, facts) && rule.is_pure() } else { speaks_of_host(rule, facts) }
    };
    let allow = allowed.iter().any(|rule| about(rule) && outcome(rule, facts) != Outcome::Never);
    let deny = denied.iter().any(|rule| about(rule) && outcome(rule, facts) == Outcome::Always);
    let deny_raw =
        facts.layer == "tcp" && denied.iter().any(|r| about(r) && outcome(r, facts) == Outcome::Sometimes);
    allow && !deny && !deny_raw
}

/// May this special-purpose address be dialled for it?
pub(crate) fn allows_address(rules: &[PlainRule], facts: &PlainFacts, ip: IpAddr) -> bool {
    if !allows(rules, facts) || facts.host.parse::<IpAddr>().is_ok_and(|literal| literal != ip) {
        return false;
    }
    let (allowed, denied) = split(rules);
    let about = |rule: &PlainRule| {
        let host =
            rule.hosts.is_empty() || rule.hosts.iter().any(|pattern| host_matches(pattern, &facts.host));
        host && rule.cidrs.iter().any(|network| cidr_contains(network, ip))
    };
    let allow = allowed.iter().any(|rule| about(rule) && outcome(rule, facts) != Outcome::Never);
    let least = if facts.layer == "tcp" { Outcome::Sometimes } else { Outcome::Always };
    let deny = denied.iter().any(|rule| about(rule) && outcome(rule, facts) >= least);
    allow && !deny
}

/// May it pass, by these files together?
pub(crate) fn layers_allow(layers: &[PlainLayer], facts: &PlainFacts) -> bool {
    each_view(layers).iter().all(|rules| allows(rules, facts))
}

/// May this special-purpose address be dialled for it, by these files together?
pub(crate) fn layers_allow_address(layers: &[PlainLayer], facts: &PlainFacts, ip: IpAddr) -> bool {
    each_view(layers).iter().all(|rules| allows_address(rules, facts, ip))
}

/// All denies with what the ordinary files allow; and for each ceiling all denies with what that ceiling allows.
/// Who passes every one of these passes them all together.
fn each_view(layers: &[PlainLayer]) -> Vec<Vec<PlainRule>> {
    let rules = |wanted: &dyn Fn(&PlainLayer, &PlainRule) -> bool| -> Vec<PlainRule> {
        let of = |layer: &PlainLayer| -> Vec<PlainRule> {
            layer.rules.iter().filter(|rule| rule.deny || wanted(layer, rule)).cloned().collect()
        };
        layers.iter().flat_map(of).collect()
    };
    let ordinary = rules(&|layer, _| !layer.ceiling);
    let ceilings = layers.iter().filter(|layer| layer.ceiling);
    let bounded = ceilings.map(|ceiling| rules(&|layer, _| std::ptr::eq(layer, ceiling)));
    std::iter::once(ordinary).chain(bounded).collect()
}

fn split(rules: &[PlainRule]) -> (Vec<&PlainRule>, Vec<&PlainRule>) {
    rules.iter().partition(|rule| !rule.deny)
}

impl PlainRule {
    /// Not about a pair of name and address.
    fn is_pure(&self) -> bool {
        self.hosts.is_empty() || self.cidrs.is_empty()
    }

    fn allowed_schemes(&self) -> Vec<&'static str> {
        let written = |scheme: &str| self.schemes.iter().any(|known| known == scheme);
        let base = |scheme: &str| match scheme {
            "wss" => written("https"),
            "ws" => written("http"),
            other => written(other),
        };
        let is_socket = |scheme: &str| scheme == "wss" || scheme == "ws";
        let default = self.schemes.is_empty();
        let has = |scheme: &str| -> bool {
            match (self.deny, scheme) {
                (false, "tcp") => self.tcp,
                (false, "https") if default => !self.tcp,
                (false, "wss") if default => self.websocket && !self.tcp,
                (false, "http" | "ws") if default => false,
                (false, socket) if is_socket(socket) => self.websocket && base(socket),
                (false, other) => written(other),
                (true, "tcp") if self.tcp => true,
                (true, "tcp") => default && !self.websocket,
                (true, other) if default => {
                    (!self.tcp || self.websocket) && (!self.websocket || is_socket(other))
                }
                (true, other) => base(other) && (!self.websocket || is_socket(other)),
            }
        };
        SCHEMES.into_iter().filter(|scheme| has(scheme)).collect()
    }

    fn has_port(&self, port: u16) -> bool {
        match (self.any_port, self.ports.is_empty(), self.deny) {
            (true, ..) | (_, true, true) => true,
            (_, false, _) => self.ports.contains(&port),
            (_, true, false) => {
                let schemes = self.allowed_schemes();
                (port == 443 && schemes.contains(&"https")) || (port == 80 && schemes.contains(&"http"))
            }
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Outcome {
    Never,
    Sometimes,
    Always,
}

fn outcome(rule: &PlainRule, facts: &PlainFacts) -> Outcome {
    let all_ports = rule.any_port || (rule.deny && rule.ports.is_empty());
    let known = |known: Option<bool>, always: bool| match known {
        Some(true) => Outcome::Always,
        Some(false) => Outcome::Never,
        None if always => Outcome::Always,
        None => Outcome::Sometimes,
    };
    let schemes = rule.allowed_schemes();
    let method = |method: &String| rule.methods.is_empty() || rule.methods.contains(method);
    let path = |path: &String| rule.paths.is_empty() || path_matches(rule, path);
    [
        known(facts.port.map(|port| rule.has_port(port)), all_ports),
        known(facts.scheme.map(|scheme| schemes.contains(&scheme)), schemes.len() == SCHEMES.len()),
        known(facts.method.as_ref().map(method), rule.methods.is_empty()),
        known(facts.path.as_ref().map(path), rule.paths.is_empty()),
        query_outcome(rule, facts),
        if rule.expires.is_some_and(|end| facts.now.is_none_or(|now| now >= end)) {
            Outcome::Never
        } else {
            Outcome::Always
        },
    ]
    .into_iter()
    .min()
    .unwrap()
}

fn query_outcome(rule: &PlainRule, facts: &PlainFacts) -> Outcome {
    let yes = |yes: bool| if yes { Outcome::Always } else { Outcome::Never };
    match (&rule.query, &facts.query) {
        (None, _) => Outcome::Always,
        (Some(keys), Some(query)) => yes(query_matches(rule.deny, keys, query)),
        (Some(_), None) if facts.layer == "http" => yes(rule.deny),
        (Some(_), None) => Outcome::Sometimes,
    }
}

fn query_matches(deny: bool, keys: &[String], query: &str) -> bool {
    let strange = !query.chars().all(|c| ('!'..='~').contains(&c) && c != '#');
    let pairs = query.split('&').flat_map(|part| part.split(';')).filter(|part| !part.is_empty());
    let mut sent = pairs.map(|pair| pair.split('=').next().unwrap());
    if !deny {
        return !strange && sent.all(|key| keys.iter().any(|known| known == key));
    }
    strange
        || sent.any(|key| {
            // What could be read once more, or is no name with groups in brackets behind, is anything.
            let plain = decode_once(key);
            let odd = plain.chars().any(|c| !('!'..='~').contains(&c) || "%+&;=".contains(c));
            let fold = |text: &str| text.to_ascii_lowercase().replace('.', "_");
            let stem = |text: &str| fold(text.split('[').next().unwrap());
            odd || !brackets_are_regular(&plain) || keys.iter().any(|known| stem(known) == stem(&plain))
        })
}

/// In either letter case, and never what a first reading made.
fn decode_once(text: &str) -> String {
    let mut parts = text.split('%');
    let first = parts.next().unwrap().to_owned();
    parts.fold(first, |done, part| {
        let digits = part.get(..2).filter(|digits| digits.chars().all(|c| c.is_ascii_hexdigit()));
        match digits.and_then(|digits| u8::from_str_radix(digits, 16).ok()) {
            Some(byte) => format!("{done}{}{}", char::from(byte), &part[2..]),
            None => format!("{done}%{part}"),
        }
    })
}

/// `name`, `name[…]`, `name[…][…]`: no other brackets.
fn brackets_are_regular(key: &str) -> bool {
    let mut groups = key.split('[');
    let name = groups.next().unwrap();
    let closed = |group: &str| group.ends_with(']') && group.matches(']').count() == 1;
    (!name.is_empty() || !key.contains('[')) && !name.contains(']') && groups.all(closed)
}

fn speaks_of_host(rule: &PlainRule, facts: &PlainFacts) -> bool {
    match facts.host.parse::<IpAddr>() {
        Ok(ip) => rule.hosts.is_empty() && rule.cidrs.iter().any(|network| cidr_contains(network, ip)),
        Err(_) => rule.hosts.iter().any(|pattern| host_matches(pattern, &facts.host)),
    }
}

fn host_matches(pattern: &str, host: &str) -> bool {
    if host.parse::<IpAddr>().is_ok() {
        return false;
    }
    let pattern: Vec<&str> = pattern.split('.').collect();
    let host: Vec<&str> = host.split('.').collect();
    match pattern.split_first().unwrap() {
        (&"**", []) => true,
        (&"**", rest) => host.len() > rest.len() && host.ends_with(rest),
        (&"*", rest) => host.len() == rest.len() + 1 && host.ends_with(rest),
        _ => host == pattern,
    }
}

fn cidr_contains(network: &str, ip: IpAddr) -> bool {
    let (base, length) = network.split_once('/').unwrap();
    let bits = |ip: IpAddr| -> Vec<bool> {
        let octets = match ip {
            IpAddr::V4(v4) => v4.octets().to_vec(),
            IpAddr::V6(v6) => v6.octets().to_vec(),
        };
        octets.iter().flat_map(|octet| (0..8).rev().map(move |bit| octet >> bit & 1 == 1)).collect()
    };
    let (base, ip, length) = (bits(base.parse().unwrap()), bits(ip), length.parse::<usize>().unwrap());
    base.len() == ip.len() && base[..length] == ip[..length]
}

fn path_matches(rule: &PlainRule, path: &str) -> bool {
    let unclear =
        ["//", ";", "%2F", "%3B", "%5C", "%25", "%00"].iter().any(|part| path.contains(part)) || path == "*";
    if unclear {
        return rule.deny;
    }
    rule.paths.iter().any(|pattern| {
        if !rule.deny {
            return glob(&split_path(pattern), &split_path(path), false);
        }
        let tidy = |text: &str| decode(text).to_ascii_lowercase().trim_end_matches('/').to_owned();
        let (pattern, path) = (tidy(pattern), tidy(path));
        glob(&split_path(&pattern), &split_path(&path), true)
    })
}

fn decode(text: &str) -> String {
    (0x20..0x7f)
        .map(char::from)
        .fold(text.to_owned(), |text, c| text.replace(&format!("%{:02X}", u32::from(c)), &c.to_string()))
}

fn split_path(path: &str) -> Vec<&str> {
    // The first part is what stands before the first slash: nothing.
    path.split('/').skip(1).collect()
}

/// `**` at the end takes at least one segment, unless `lenient`.
fn glob(pattern: &[&str], path: &[&str], lenient: bool) -> bool {
    match pattern {
        [] => path.is_empty(),
        ["**"] => lenient || !path.is_empty(),
        ["**", rest @ ..] => (0..=path.len()).any(|taken| glob(rest, &path[taken..], lenient)),
        [first, rest @ ..] => match path {
            [] => false,
            [segment, others @ ..] => {
                let (first, segment): (Vec<char>, Vec<char>) =
                    (first.chars().collect(), segment.chars().collect());
                star(&first, &segment) && glob(rest, others, lenient)
            }
        },
    }
}

fn star(pattern: &[char], text: &[char]) -> bool {
    match pattern {
        [] => text.is_empty(),
        ['*', rest @ ..] => (0..=text.len()).any(|taken| star(rest, &text[taken..])),
        [first, rest @ ..] => text.first() == Some(first) && star(rest, &text[1..]),
    }
}
