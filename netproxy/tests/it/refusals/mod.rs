//! Every kind of refusal at every door: one table, each cell with what the client is told and what is recorded.

mod doors;
mod table;

use std::sync::Arc;

use bytes::Bytes;
use netproxy::hooks::*;
use netproxy::limits::{Limits, RuleLimits};
use netproxy::{Host, HostName};

use crate::doors::raw_server;
use crate::hooks::{Names, Scrubber};
use crate::upstream;
use crate::world::{NAMES, World};

pub use doors::{ALL, Door, Said};

/// Allows what the table does not want refused; `raw.*` is for raw bytes.
struct TableRules(RuleLimits);

impl TableRules {
    fn allow(&self, rule: &str, host: &Host) -> Allow {
        let allow = Allow::by(rule).with_limits(self.0);
        // There is no such upstream proxy.
        if host.to_string() == "via.example" { allow.via("missing") } else { allow }
    }
}

impl Authorize for TableRules {
    fn connect(&self, facts: &ConnectFacts<'_>) -> Verdict {
        match facts.authority.host().to_string().as_str() {
            "denied.example" => Deny::by("no-denied", "denied.example is blocked").into(),
            _ => self.allow("ok", facts.authority.host()).into(),
        }
    }
    fn request(&self, facts: &RequestFacts<'_>) -> Verdict {
        match facts.authority.host().to_string().as_str() {
            "denied.example" => Deny::by("no-denied", "denied.example is blocked").into(),
            _ => self.allow("ok", facts.authority.host()).with_credential("api-key").into(),
        }
    }
    fn tcp(&self, facts: &ConnectFacts<'_>) -> Verdict {
        match facts.authority.host().to_string().as_str() {
            "denied.example" | "ok.example" => Deny::by("no-raw", "not for raw bytes").into(),
            _ => self.allow("raw", facts.authority.host()).into(),
        }
    }
    fn dns_name(&self, name: &HostName) -> Verdict {
        match name.as_str() {
            "denied.example" => Deny::by("no-denied", "denied.example is blocked").into(),
            below if below.ends_with(".wild.example") => Allow::by("ok").with_wildcard(true).into(),
            _ => Allow::by("ok").into(),
        }
    }
    fn address(&self, facts: &AddressFacts<'_>) -> bool {
        !facts.special || (facts.address.is_loopback() && facts.host.to_string() != "private.example")
    }
}

/// A vault whose answer is the path's.
struct Keys;

/// Takes no body.
struct Unsigned;

impl BodyFilter for Unsigned {
    fn push(&mut self, _: Bytes) -> Result<Bytes, BodyRefused> {
        Err(BodyRefused { reason: "not what was announced".to_owned() })
    }
    fn finish(&mut self) -> Result<Bytes, BodyRefused> {
        Ok(Bytes::new())
    }
    fn held_bytes(&self) -> usize {
        0
    }
}

impl Inject for Keys {
    fn reads_body(&self, decided: &Decided<'_>, _: &RequestHead) -> bool {
        decided.request.path == "/held"
    }

    fn inject<'a>(
        &'a self,
        decided: &'a Decided<'a>,
        head: &'a mut RequestHead,
    ) -> BoxFuture<'a, Result<Injected, InjectError>> {
        if decided.request.path == "/unsigned" {
            head.body_filter = Some(Box::new(Unsigned));
        }
        let name = || "api-key".to_owned();
        Box::pin(std::future::ready(match decided.request.path {
            "/missing" => Err(InjectError::Missing { name: name() }),
            "/locked" => Err(InjectError::Locked { name: name() }),
            "/elsewhere" => Err(InjectError::Refused { reason: "not bound here".to_owned() }),
            _ => Ok(Injected::default()),
        }))
    }
}

/// Knows the names of the table; `slow.example` takes too long.
struct Resolver(Names);

impl Resolve for Resolver {
    fn resolve<'a>(
        &'a self,
        name: &'a HostName,
    ) -> BoxFuture<'a, Result<Vec<std::net::IpAddr>, ResolveError>> {
        match name.as_str() {
            "slow.example" => Box::pin(std::future::ready(Err(ResolveError::Timeout))),
            _ => self.0.resolve(name),
        }
    }
}

/// What is switched on in a world.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Setting {
    Plain,
    NoConnections,
    NoConnectionsByRule,
    NoRequests,
    NoRequestsByRule,
    TenBytes,
    TenBytesByRule,
    TenBytesHeld,
    NoNames,
    NoAudit,
    /// The upstream must answer at once.
    Impatient,
    /// The client must send at once.
    Restless,
    /// Where TLS is expected, somebody says hello.
    NoUpstreamTls,
    Redacting,
}

impl Setting {
    async fn world(self) -> Arc<World> {
        let (mut limits, mut of_rule) = (Limits::default(), RuleLimits::default());
        match self {
            Self::Plain | Self::NoAudit | Self::NoUpstreamTls | Self::Redacting => {}
            Self::Impatient => limits.response_timeout = std::time::Duration::from_millis(50),
            Self::Restless => limits.idle_timeout = std::time::Duration::from_millis(100),
            Self::NoNames => limits.dns_new_names_per_minute = 0,
            Self::TenBytesHeld => limits.held_bytes_max = 10,
            Self::NoConnections => limits.client_connections_max = 0,
            Self::NoConnectionsByRule => of_rule.connections = Some(0),
            Self::NoRequests => limits.requests_per_s = Some(0),
            Self::NoRequestsByRule => of_rule.requests_per_s = Some(0),
            Self::TenBytes => limits.request_body_bytes_max = Some(10),
            Self::TenBytesByRule => of_rule.request_body_bytes = Some(10),
        }
        let names = Names::default()
            .with("ok.example", &[&["127.0.0.1"]])
            .with("badcert.example", &[&["127.0.0.1"]])
            .with("raw.example", &[&["127.0.0.1"]])
            .with("private.example", &[&["10.0.0.1"]])
            .with("gone.example", &[&[]]);
        let more = |builder: netproxy::Builder| {
            let builder = builder.limits(limits).inject(Keys).resolve(Resolver(names));
            if self == Self::Redacting { builder.redact(Scrubber) } else { builder }
        };
        let mut tls = upstream::start(NAMES, true).await;
        if self == Self::NoUpstreamTls {
            tls.address = raw_server(true).await;
        }
        let world = World::build_over(tls, |names| names, |_| TableRules(of_rule), more).await;
        world.records.1.store(self == Self::NoAudit, std::sync::atomic::Ordering::SeqCst);
        world
    }
}

/// What a record of a refusal says, beside what the client was told.
fn check_refusal(record: &serde_json::Value, expected: &table::Cell, seen: &doors::Seen) {
    let about = format!("{expected:?} {seen:?} {record}");
    assert_eq!(record["verdict"], expected.row.verdict, "{about}");
    assert_eq!(record["error"], expected.row.code, "{about}");
    assert_eq!(record["layer"], expected.layer, "{about}");
    assert_eq!(record["rule"].as_str(), expected.rule, "{about}");
    assert!(record["reason"].as_str().is_some_and(|reason| !reason.is_empty()), "{about}");
    let status = match expected.said {
        Said::Http => Some(u64::from(expected.row.status)),
        _ => None,
    };
    assert_eq!(record["status"].as_u64(), status, "{about}");
    if let Some(id) = &seen.decision_id {
        assert_eq!(record["decision_id"], id.as_str(), "the client was told another id: {about}");
    }
}

#[tokio::test]
async fn every_kind_of_refusal_is_unmistakable_at_every_door() {
    let rows = table::rows();
    for row in &rows {
        let world = row.setting.world().await;
        let cells = table::cells(row);
        let doors: Vec<Door> = cells.iter().map(|cell| cell.door).collect();
        assert_eq!(doors, ALL, "{}: a door is missing", row.name);
        for cell in cells.iter().filter(|cell| cell.said != Said::NotHere) {
            let before = world.records.0.lock().unwrap().len();
            let seen = doors::knock(&world, cell).await;
            assert_eq!(seen.said, cell.said, "{cell:?}: {seen:?}");
            if cell.said == Said::Http {
                let row = cell.row;
                assert_eq!((seen.status, seen.code.as_str()), (row.status, row.code), "{cell:?}");
                assert_eq!(seen.proxy_error, row.proxy_error, "{cell:?}");
                let should_retry = (!row.retryable).then_some("false");
                assert_eq!(seen.should_retry.as_deref(), should_retry, "{cell:?}");
            }
            let records = world.records(before + 1).await;
            assert_eq!(records.len(), before + 1, "{cell:?}: {records:?}");
            check_refusal(records.last().unwrap(), cell, &seen);
        }
        let asked = [&world.tls, &world.plain].map(|upstream| upstream.seen.lock().unwrap().len());
        assert!(row.asks() || asked == [0, 0], "{}: the upstream was asked", row.name);
    }
}

/// Kinds of failures must not be mistaken for each other: each has its code, and a code has one status.
#[test]
fn no_two_kinds_of_the_table_have_the_same_code() {
    let mut codes: Vec<(&str, u16)> = table::rows().iter().map(|row| (row.code, row.status)).collect();
    codes.sort_unstable();
    codes.dedup();
    let names: std::collections::BTreeSet<&str> = codes.iter().map(|(code, _)| *code).collect();
    assert_eq!(names.len(), codes.len(), "{codes:?}");
}

#[test]
fn each_row_has_the_code_and_the_status_of_its_kind() {
    for row in table::rows() {
        assert_eq!((row.kind.code(), row.kind.status().as_u16()), (row.code, row.status), "{}", row.name);
    }
}

/// A new kind is held against the table, or somebody has said why not.
#[test]
fn no_kind_of_refusal_is_left_out_of_the_table() {
    // Not from a list beside the table, which would forget the same one.
    let source = include_str!("../../../src/refuse/kind.rs");
    let (_, kinds) = source.split_once("pub enum Kind {\n").unwrap();
    let (kinds, _) = kinds.split_once("\n}").unwrap();
    let kinds = kinds.lines().map(str::trim).filter(|line| !line.starts_with("///"));
    let mut kinds: Vec<&str> = kinds.map(|line| line.strip_suffix(',').expect("a kind")).collect();
    kinds.sort_unstable();
    let rows = table::rows();
    let mut told: Vec<String> = rows.iter().map(|row| format!("{:?}", row.kind)).collect();
    told.sort_unstable();
    told.dedup();
    // None is in both.
    told.extend(table::ELSEWHERE.iter().map(|(kind, _)| format!("{kind:?}")));
    told.sort_unstable();
    assert_eq!(told, kinds);
}
