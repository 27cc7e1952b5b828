//! From a rule as written to a rule as matched. Whatever could be meant in two ways, or could never match,
//! is refused here, with the place and the remedy.

use std::sync::Arc;

use crate::canonical::check_method;
use crate::error::{Conflict, Location, PolicyError};
use crate::facts::Scheme;
use crate::limits::{CREDENTIAL_BYTES_MAX, ID_BYTES_MAX, LIST_ENTRIES_MAX, REASON_BYTES_MAX};
use crate::pattern::path::Reading;
use crate::pattern::{Cidr, HostPattern, PathPattern, PatternError, PortSet, QueryKeys, port};
use crate::rule::{Compiled, Rule, SchemeSet};
use crate::ruleset::Mode;
use crate::timestamp;
use crate::verdict::{Effect, RuleLimits, TlsMode};

/// What may stand under `scheme`; the others are what `websocket` and `tcp` say.
pub(crate) const SCHEMES: [Scheme; 2] = [Scheme::Https, Scheme::Http];

/// Where each key of one rule stands. `""` is the rule itself.
pub(crate) trait Places {
    fn place(&self, key: &'static str) -> Location;
    /// File and line of the rule itself.
    fn line(&self) -> (Arc<str>, u32);
}

/// A rule that was made in code has no lines.
pub(crate) struct InCode(pub(crate) Arc<str>);

impl Places for InCode {
    fn place(&self, _: &'static str) -> Location {
        Location { file: Arc::clone(&self.0), line: 0, column: 0, text: None }
    }

    fn line(&self) -> (Arc<str>, u32) {
        (Arc::clone(&self.0), 0)
    }
}

/// `fallback_id` names a rule that has no id.
pub(crate) fn compile(
    rule: &Rule,
    fallback_id: &str,
    layer: (&Arc<str>, u8),
    places: &dyn Places,
) -> Result<Compiled, PolicyError> {
    let compiler = Compiler { rule, places, id: rule.id.as_deref().unwrap_or(fallback_id) };
    compiler.check_conflicts()?;
    compiler.check_grants(layer.1 != 0)?;
    let (file, line) = places.line();
    Ok(Compiled {
        id: compiler.word("id", compiler.id, (ID_BYTES_MAX, "._-"), PatternError::Id)?,
        effect: rule.effect,
        file,
        layer: Arc::clone(layer.0),
        // What one layer denies is denied; only its allow rules are a ceiling.
        ceiling: if rule.effect == Effect::Allow { layer.1 } else { 0 },
        mode: Mode::default(),
        line,
        reason: compiler.reason()?,
        write_capable: rule.write_capable,
        hosts: compiler.list("host", rule.hosts.as_ref(), HostPattern::parse)?.unwrap_or_default(),
        cidrs: compiler.list("cidr", rule.cidrs.as_ref(), Cidr::parse)?.unwrap_or_default(),
        ports: compiler.ports()?,
        schemes: compiler.schemes()?,
        methods: compiler.list("methods", rule.methods.as_ref(), parse_method)?,
        paths: compiler
            .list("paths", rule.paths.as_ref(), |text| PathPattern::parse(text, reading(rule.effect)))?,
        query: compiler.query()?,
        expires: compiler.expires()?,
        tls: rule.tls.unwrap_or_default(),
        credential: compiler.name("credential", rule.credential.as_ref())?,
        upstream: compiler.name("upstream", rule.upstream.as_ref())?,
        on_opaque: rule.on_opaque.unwrap_or_default(),
        limits: compiler.limits()?,
    })
}

struct Compiler<'a> {
    rule: &'a Rule,
    places: &'a dyn Places,
    id: &'a str,
}

impl Compiler<'_> {
    fn conflict(&self, key: &'static str, conflict: Conflict) -> PolicyError {
        PolicyError::Rule { at: self.places.place(key), id: self.id.into(), conflict }
    }

    fn value(&self, key: &'static str, value: &str, source: PatternError) -> PolicyError {
        PolicyError::Value { at: self.places.place(key), key, value: value.to_owned(), source }
    }

    fn check_conflicts(&self) -> Result<(), PolicyError> {
        let rule = self.rule;
        let conditions = rule.methods.is_some() || rule.paths.is_some() || rule.query.is_some();
        let opaque = rule.tls == Some(TlsMode::Opaque);
        if rule.hosts.is_none() && rule.cidrs.is_none() {
            return Err(self.conflict("", Conflict::NoTarget));
        }
        if let Some(methods) = &rule.methods
            && rule.websocket
            && !methods.iter().any(|method| method == "GET")
        {
            return Err(self.conflict("methods", Conflict::WebsocketMethod));
        }
        if rule.effect == Effect::Deny {
            return Ok(());
        }
        let clear_text = rule.schemes.as_ref().is_some_and(|schemes| schemes.iter().any(|s| s == "http"));
        let named_ports = rule.ports.as_ref().is_some_and(|ports| !ports.iter().any(|port| port == "any"));
        let broken = [
            ("tcp", rule.tcp && !named_ports, Conflict::TcpPorts),
            ("tcp", rule.tcp && (conditions || rule.credential.is_some()), Conflict::TcpConditions),
            ("tls", opaque && (conditions || rule.credential.is_some()), Conflict::OpaqueConditions),
            ("tls", opaque && clear_text, Conflict::OpaqueScheme),
            ("websocket", rule.websocket && rule.tcp && rule.schemes.is_none(), Conflict::WebsocketScheme),
        ];
        match broken.into_iter().find(|(_, holds, _)| *holds) {
            Some((key, _, conflict)) => Err(self.conflict(key, conflict)),
            None => Ok(()),
        }
    }

    /// What only some rules may give.
    fn check_grants(&self, ceiling: bool) -> Result<(), PolicyError> {
        let rule = self.rule;
        let grants = [
            ("tls", rule.tls.is_some()),
            ("credential", rule.credential.is_some()),
            ("upstream", rule.upstream.is_some()),
            ("on_opaque", rule.on_opaque.is_some()),
            ("limits", rule.limits.is_some()),
            ("write_capable", rule.write_capable),
        ];
        let deny = rule.effect == Effect::Deny;
        if deny && rule.expires.is_some() {
            return Err(self.conflict("expires", Conflict::DenyExpires));
        }
        if let Some((key, _)) = grants.iter().find(|(_, given)| deny && *given) {
            return Err(self.conflict(key, Conflict::DenyGrants));
        }
        if let Some((key, _)) = grants.iter().skip(1).take(2).find(|(_, given)| ceiling && *given) {
            return Err(self.conflict(key, Conflict::CeilingGrants));
        }
        let unseen = rule.tls == Some(TlsMode::Opaque) || rule.tcp;
        let needs_sight = rule
            .limits
            .is_some_and(|limits| limits.requests_per_s.is_some() || limits.request_body_bytes.is_some());
        if unseen && (needs_sight || rule.on_opaque.is_some()) {
            let key = if needs_sight { "limits" } else { "on_opaque" };
            return Err(self.conflict(key, Conflict::UnseenLimits));
        }
        Ok(())
    }

    /// An empty list is allowed in a rule that allows: there must be no query.
    fn query(&self) -> Result<Option<QueryKeys>, PolicyError> {
        let keys = match &self.rule.query {
            None => return Ok(None),
            Some(keys) if keys.is_empty() && self.rule.effect == Effect::Allow => Box::default(),
            keys => self.list("query", keys.as_ref(), QueryKeys::parse_key)?.unwrap_or_default(),
        };
        Ok(Some(QueryKeys::new(keys, reading(self.rule.effect))))
    }

    fn expires(&self) -> Result<Option<i64>, PolicyError> {
        let Some(text) = &self.rule.expires else { return Ok(None) };
        let time = timestamp::parse(text);
        time.map(Some).ok_or_else(|| self.value("expires", text, PatternError::Expires))
    }

    fn limits(&self) -> Result<RuleLimits, PolicyError> {
        let limits = self.rule.limits.unwrap_or_default();
        let zero = limits.requests_per_s == Some(0)
            || limits.request_body_bytes == Some(0)
            || limits.connections == Some(0);
        if zero { Err(self.value("limits", "0", PatternError::Limit)) } else { Ok(limits) }
    }

    fn name(&self, key: &'static str, name: Option<&String>) -> Result<Option<Box<str>>, PolicyError> {
        let Some(name) = name else { return Ok(None) };
        let (shape, error) = match key {
            "credential" => ((CREDENTIAL_BYTES_MAX, "._-/:"), PatternError::Credential),
            _ => ((ID_BYTES_MAX, "._-"), PatternError::Upstream),
        };
        self.word(key, name, shape, error).map(Some)
    }

    fn list<T>(
        &self,
        key: &'static str,
        values: Option<&Vec<String>>,
        parse: impl Fn(&str) -> Result<T, PatternError>,
    ) -> Result<Option<Box<[T]>>, PolicyError> {
        let Some(values) = values else { return Ok(None) };
        if values.is_empty() {
            return Err(self.value(key, "", PatternError::EmptyList));
        }
        if values.len() > LIST_ENTRIES_MAX {
            return Err(self.value(key, "", PatternError::LongList));
        }
        let parsed = values.iter().map(|text| parse(text).map_err(|error| self.value(key, text, error)));
        parsed.collect::<Result<Box<[T]>, _>>().map(Some)
    }

    fn ports(&self) -> Result<PortSet, PolicyError> {
        let any = self.rule.ports.as_ref().is_some_and(|ports| ports.iter().any(|port| port == "any"));
        if any && self.rule.ports.as_ref().is_some_and(|ports| ports.len() > 1) {
            return Err(self.conflict("ports", Conflict::AnyPort));
        }
        if any {
            return Ok(PortSet::Any);
        }
        match self.list("ports", self.rule.ports.as_ref(), port::parse_range)? {
            Some(ranges) => Ok(PortSet::Ranges(ranges)),
            None if self.rule.effect == Effect::Deny => Ok(PortSet::Any),
            None => Ok(PortSet::Ranges(self.default_ports()?)),
        }
    }

    /// Those of the schemes that are allowed: 443, and 80 only where clear text is written.
    fn default_ports(&self) -> Result<Box<[(u16, u16)]>, PolicyError> {
        let schemes = self.schemes()?;
        let named = [Scheme::Https, Scheme::Http].into_iter().filter(|scheme| schemes.contains(*scheme));
        Ok(named.filter_map(Scheme::default_port).map(|port| (port, port)).collect())
    }

    /// What is not written is https for a rule that allows, and everything for a rule that denies: a
    /// forgotten key must leave no gap.
    fn schemes(&self) -> Result<SchemeSet, PolicyError> {
        let written = self.list("scheme", self.rule.schemes.as_ref(), parse_scheme)?;
        let written = written.map(|list| list.iter().fold(SchemeSet::NONE, |set, scheme| set.with(*scheme)));
        let (tcp, websocket) = (self.rule.tcp, self.rule.websocket);
        let mut set = match (self.rule.effect, written) {
            (Effect::Allow, None) if tcp => SchemeSet::NONE,
            (Effect::Allow, None) => SchemeSet::NONE.with(Scheme::Https),
            (Effect::Allow, Some(set)) => set,
            (Effect::Deny, None) if tcp && !websocket => SchemeSet::NONE,
            (Effect::Deny, None) => SchemeSet::ALL,
            (Effect::Deny, Some(set)) => set.with_websockets(),
        };
        if websocket {
            set = match self.rule.effect {
                Effect::Allow => set.with_websockets(),
                Effect::Deny => set.and(SchemeSet::WEBSOCKETS),
            };
        }
        Ok(if tcp { set.with(Scheme::Tcp) } else { set })
    }

    fn word(
        &self,
        key: &'static str,
        text: &str,
        (bytes_max, punctuation): (usize, &str),
        error: PatternError,
    ) -> Result<Box<str>, PolicyError> {
        let known = |c: char| c.is_ascii_alphanumeric() || punctuation.contains(c);
        let good = !text.is_empty() && text.len() <= bytes_max && text.chars().all(known);
        if good { Ok(text.into()) } else { Err(self.value(key, text, error)) }
    }

    fn reason(&self) -> Result<Option<Box<str>>, PolicyError> {
        match &self.rule.reason {
            Some(text) if text.len() > REASON_BYTES_MAX || text.chars().any(char::is_control) => {
                Err(self.value("reason", text, PatternError::Reason))
            }
            reason => Ok(reason.as_deref().map(Box::from)),
        }
    }
}

fn reading(effect: Effect) -> Reading {
    match effect {
        Effect::Allow => Reading::Exact,
        Effect::Deny => Reading::Lenient,
    }
}

fn parse_method(text: &str) -> Result<Box<str>, PatternError> {
    check_method(text).map(|()| text.into()).map_err(|_| PatternError::Method)
}

fn parse_scheme(text: &str) -> Result<Scheme, PatternError> {
    SCHEMES.into_iter().find(|scheme| scheme.as_str() == text).ok_or(PatternError::Scheme)
}
