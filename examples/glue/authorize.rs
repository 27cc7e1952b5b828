//! `netproxy` asks, `policy` decides. Facts are copied, never changed: both crates mean the same by
//! "canonical", and `policy` refuses what it does not.

use std::net::IpAddr;
use std::time::{SystemTime, UNIX_EPOCH};

use netproxy::hooks::{
    AddressFacts, Allow, Authorize, ConnectFacts, Deny, OnOpaque, RequestFacts, RuleLimits, Scheme, TlsMode,
    Verdict,
};
use netproxy::{Authority, Host, HostName};
use policy::ask::{Grants, Question};
use policy::{Facts, Ruleset, decide, decide_address, decide_public_address};

/// What decides: the rules alone, or what a person allows beside them.
pub trait Decide: Send + Sync {
    /// About an attempt.
    fn decide<'s>(&'s self, facts: &Facts<'_>) -> policy::Verdict<'s>;
    /// About an address to which it leads.
    fn decide_address<'s>(&'s self, facts: &Facts<'_>, address: IpAddr, special: bool)
    -> policy::Verdict<'s>;
    /// Whether somebody may be asked about the refusal of this.
    fn may_ask(&self, _: &Facts<'_>) -> bool {
        false
    }
}

impl Decide for Ruleset {
    fn decide<'s>(&'s self, facts: &Facts<'_>) -> policy::Verdict<'s> {
        decide(self, facts)
    }

    fn decide_address<'s>(
        &'s self,
        facts: &Facts<'_>,
        address: IpAddr,
        special: bool,
    ) -> policy::Verdict<'s> {
        if special {
            decide_address(self, facts, address)
        } else {
            decide_public_address(self, facts, address)
        }
    }
}

impl<D: Decide> Decide for &D {
    fn decide<'s>(&'s self, facts: &Facts<'_>) -> policy::Verdict<'s> {
        (**self).decide(facts)
    }

    fn decide_address<'s>(
        &'s self,
        facts: &Facts<'_>,
        address: IpAddr,
        special: bool,
    ) -> policy::Verdict<'s> {
        (**self).decide_address(facts, address, special)
    }
}

/// Rules, and somebody to ask.
pub struct Asking<'a> {
    /// The rules.
    pub rules: &'a Ruleset,
    /// What was allowed so far.
    pub grants: &'a Grants,
}

impl Decide for Asking<'_> {
    fn decide<'s>(&'s self, facts: &Facts<'_>) -> policy::Verdict<'s> {
        self.grants.decide(self.rules, facts)
    }

    fn decide_address<'s>(
        &'s self,
        facts: &Facts<'_>,
        address: IpAddr,
        special: bool,
    ) -> policy::Verdict<'s> {
        match special {
            true => decide_address(self.rules, facts, address),
            false => self.grants.decide_public_address(self.rules, facts, address),
        }
    }

    fn may_ask(&self, facts: &Facts<'_>) -> bool {
        Question::about(self.rules, facts).is_some()
    }
}

/// Decides by one rule set, or as [`Asking`] does.
pub struct PolicyAuthorize<D>(pub D);

impl<D: Decide> Authorize for PolicyAuthorize<D> {
    fn connect(&self, facts: &ConnectFacts<'_>) -> Verdict {
        self.answer(&Facts::connect(host(facts.authority.host()), facts.authority.port()))
    }

    fn request(&self, facts: &RequestFacts<'_>) -> Verdict {
        self.answer(&request_facts(facts))
    }

    fn tcp(&self, facts: &ConnectFacts<'_>) -> Verdict {
        self.answer(&Facts::tcp(host(facts.authority.host()), facts.authority.port()))
    }

    fn dns_name(&self, name: &HostName) -> Verdict {
        match self.answer(&Facts::dns(name.as_str())) {
            Verdict::Allow(allow) => {
                let wildcard = self.allows_siblings(name, &allow.rule);
                allow.with_wildcard(wildcard).into()
            }
            deny => deny,
        }
    }

    fn address(&self, facts: &AddressFacts<'_>) -> bool {
        let asked = match (facts.port, facts.host) {
            (Some(port), target) => Facts::connect(host(target), port),
            (None, Host::Name(name)) => Facts::dns(name.as_str()),
            (None, Host::Ip(_)) => return false,
        };
        self.0.decide_address(&asked.at(now()), facts.address, facts.special).may_pass()
    }
}

impl<D: Decide> PolicyAuthorize<D> {
    /// Whether `rule` would allow another name beside `name` just as well, one that nobody can have written down.
    fn allows_siblings(&self, name: &HostName, rule: &str) -> bool {
        const NOBODYS_LABEL: &str = "wildcard-probe-7f3a9c";
        let sibling = match name.as_str().split_once('.') {
            Some((_, parent)) => format!("{NOBODYS_LABEL}.{parent}"),
            None => NOBODYS_LABEL.to_owned(),
        };
        let facts = Facts::dns(&sibling).at(now());
        let verdict = self.0.decide(&facts);
        verdict.is_allowed() && verdict.rule.is_some_and(|found| found.id == rule)
    }

    fn answer(&self, facts: &Facts<'_>) -> Verdict {
        let facts = &facts.at(now());
        match verdict_of(&self.0.decide(facts), facts) {
            Verdict::Deny(deny) if self.0.may_ask(facts) => deny.unless_asked().into(),
            verdict => verdict,
        }
    }
}

/// The rule that stands in the record for what a person allowed, or can still be asked about inside.
const BY_PERSON: &str = "ask";

/// A verdict in `netproxy`'s words.
pub(crate) fn verdict_of(verdict: &policy::Verdict<'_>, facts: &Facts<'_>) -> Verdict {
    let rule = verdict.rule.map(|rule| rule.id);
    if !verdict.is_allowed() {
        let explanation = verdict.explain(facts).to_string();
        let deny = match rule {
            Some(rule) => Deny::by(rule, explanation),
            None => Deny::unmatched(explanation),
        };
        let deny = deny.of_generation(verdict.generation);
        return if verdict.would_deny() { Allow::rehearsing(deny).into() } else { deny.into() };
    }
    let mut allow = Allow::by(rule.unwrap_or(BY_PERSON)).of_generation(verdict.generation);
    if let Some(credential) = verdict.credential {
        allow = allow.with_credential(credential);
    }
    if let Some(upstream) = verdict.upstream {
        allow = allow.via(upstream);
    }
    let tls = match verdict.tls {
        policy::TlsMode::Inspect => TlsMode::Inspect,
        policy::TlsMode::Opaque => TlsMode::Opaque,
    };
    let on_opaque = match verdict.on_opaque {
        policy::OnOpaque::Refuse => OnOpaque::Refuse,
        policy::OnOpaque::Pass => OnOpaque::Pass,
    };
    let limits = RuleLimits {
        requests_per_s: verdict.limits.requests_per_s,
        request_body_bytes: verdict.limits.request_body_bytes,
        connections: verdict.limits.connections,
    };
    allow.with_tls(tls).with_on_opaque(on_opaque).with_limits(limits).into()
}

/// The facts of a request in `policy`'s words.
pub(crate) fn request_facts<'a>(facts: &RequestFacts<'a>) -> Facts<'a> {
    let scheme = match (facts.scheme, facts.websocket) {
        (Scheme::Http, false) => policy::Scheme::Http,
        (Scheme::Https, false) => policy::Scheme::Https,
        (Scheme::Http, true) => policy::Scheme::Ws,
        (Scheme::Https, true) => policy::Scheme::Wss,
    };
    let authority: &Authority = facts.authority;
    let asked = Facts::http(scheme, host(authority.host()), authority.port(), facts.method, facts.path);
    asked.with_query(facts.query.unwrap_or_default())
}

/// Seconds since 1970, for rules that end. A clock before that is no clock: such rules are over.
pub(crate) fn now() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).ok();
    since.and_then(|since| i64::try_from(since.as_secs()).ok()).unwrap_or(i64::MAX)
}

pub(crate) fn host(host: &Host) -> policy::Host<'_> {
    match host {
        Host::Name(name) => policy::Host::Name(name.as_str()),
        Host::Ip(address) => policy::Host::Ip(*address),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_below_a_wildcard_is_told_from_one_of_its_own() {
        let text = r#"
            version = 1
            [[allow]]
            id = "own"
            host = ["a.example", "b.wild.example"]
            [[allow]]
            id = "wild"
            host = ["*.wild.example", "**.deep.example"]
        "#;
        let authorize = PolicyAuthorize(Ruleset::parse(text, "test").unwrap());
        for (name, expected) in [
            ("a.example", Some(("own", false))),
            ("b.wild.example", Some(("own", false))),
            ("c.wild.example", Some(("wild", true))),
            ("x.y.deep.example", Some(("wild", true))),
            ("other.example", None),
        ] {
            let Ok(Host::Name(host)) = Host::parse(name) else { panic!("{name}") };
            let got = match authorize.dns_name(&host) {
                Verdict::Allow(allow) => Some((allow.rule.to_string(), allow.wildcard)),
                Verdict::Deny(_) => None,
            };
            assert_eq!(got, expected.map(|(rule, wildcard)| (rule.to_owned(), wildcard)), "{name}");
        }
    }

    #[test]
    fn a_public_address_that_is_near_needs_a_rule_with_its_network() {
        let text = r#"
            version = 1
            [[allow]]
            host = "a.example"
            [[allow]]
            host = "b.example"
            cidr = "198.51.101.0/24"
        "#;
        let authorize = PolicyAuthorize(Ruleset::parse(text, "test").unwrap());
        for (name, near, expected) in
            [("a.example", false, true), ("a.example", true, false), ("b.example", true, true)]
        {
            let host = Host::parse(name).unwrap();
            for port in [None, Some(443)] {
                let facts = AddressFacts::new(&host, port, IpAddr::from([198, 51, 101, 7]), near);
                assert_eq!(authorize.address(&facts), expected, "{name} {port:?} {near}");
            }
        }
    }

    #[test]
    fn what_a_rule_says_beside_yes_is_copied() {
        let text = r#"
            version = 1
            [[allow]]
            host = "a.example"
            ports = [5432]
            tcp = true
            upstream = "corp"
            limits = { connections = 3 }
            [[allow]]
            host = "b.example"
            on_opaque = "pass"
            [[allow]]
            host = "c.example"
            expires = "2020-01-01T00:00:00Z"
        "#;
        let authorize = PolicyAuthorize(Ruleset::parse(text, "test").unwrap());
        let connect = |host, port| authorize.answer(&Facts::connect(policy::Host::Name(host), port));
        let Verdict::Allow(allow) = connect("a.example", 5432) else { panic!("refused") };
        assert_eq!((allow.upstream.as_deref(), allow.limits.connections), (Some("corp"), Some(3)));
        let Verdict::Allow(allow) = connect("b.example", 443) else { panic!("refused") };
        assert_eq!((allow.upstream, allow.on_opaque), (None, OnOpaque::Pass));
        assert!(matches!(connect("c.example", 443), Verdict::Deny(_)));
    }

    #[test]
    fn what_is_only_recorded_passes_but_not_to_a_special_address() {
        let text = "version = 1\nmode = \"audit\"\n[[deny]]\nid = \"no\"\nhost = \"a.example\"\n";
        let authorize = PolicyAuthorize(Ruleset::parse(text, "test").unwrap());
        for (name, rule) in [("a.example", Some("no")), ("b.example", None)] {
            let Verdict::Allow(allow) = authorize.answer(&Facts::dns(name)) else {
                panic!("{name} is refused")
            };
            let deny = allow.would_deny.unwrap();
            assert_eq!((deny.rule.as_deref(), allow.credential), (rule, None));
            assert!(deny.reason.starts_with("only recorded, would be denied: DNS "), "{}", deny.reason);
            let Ok(host) = Host::parse(name) else { panic!("{name}") };
            for (address, special) in
                [("93.184.215.14", false), ("127.0.0.1", true), ("169.254.169.254", true)]
            {
                for port in [None, Some(443)] {
                    let address = address.parse().unwrap();
                    let facts = AddressFacts::new(&host, port, address, special);
                    assert_eq!(authorize.address(&facts), !special, "{name} at {address}");
                }
            }
        }
    }
}
