//! The table: a row for each kind of refusal, and what it is at each door.

use netproxy::limits::HEADER_FIELDS_MAX;
use netproxy::refuse::Kind;

use super::Setting;
use super::doors::{ALL, Ask, Door, Rest, Said};

/// One kind of refusal.
#[derive(Debug)]
pub struct Row {
    pub name: &'static str,
    pub setting: Setting,
    pub kind: Kind,
    pub status: u16,
    /// RFC 9209.
    pub proxy_error: &'static str,
    pub code: &'static str,
    pub retryable: bool,
    /// In the record.
    pub verdict: &'static str,
    at: fn(Door) -> At,
}

impl Row {
    /// Whether it is refused only when the upstream was asked.
    pub fn asks(&self) -> bool {
        use Kind::{
            BodyBrokeOff, BodyRefused, BodyTooQuiet, NotRedactable, UpstreamProtocol, UpstreamTimeout,
        };
        matches!(
            self.kind,
            BodyBrokeOff | BodyRefused | BodyTooQuiet | NotRedactable | UpstreamProtocol | UpstreamTimeout
        )
    }
}

/// A row at one door.
pub struct Cell<'r> {
    pub row: &'r Row,
    pub door: Door,
    pub ask: Ask,
    pub said: Said,
    /// In the record.
    pub layer: &'static str,
    pub rule: Option<&'static str>,
}

impl std::fmt::Debug for Cell<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} at {:?} ({:?})", self.row.name, self.door, self.said)
    }
}

/// What is asked, the language of the answer, and layer and rule of the record.
type At = (Ask, Said, &'static str, Option<&'static str>);

pub fn cells(row: &Row) -> Vec<Cell<'_>> {
    let cell = |door| {
        let (ask, said, layer, rule) = (row.at)(door);
        Cell { row, door, ask, said, layer, rule }
    };
    ALL.into_iter().map(cell).collect()
}

fn not_here() -> At {
    (Ask::DEFAULT, Said::NotHere, "", None)
}

/// Of a request, wherever there are requests.
fn by_request(door: Door, ask: Ask, layer: &'static str, rule: Option<&'static str>) -> At {
    use Door::{Forward, Http1, Http2, SocksTls, TransparentTls};
    match door {
        Forward | Http1 | Http2 | SocksTls | TransparentTls => (ask, Said::Http, layer, rule),
        _ => not_here(),
    }
}

/// Of what is behind an allowed connection: raw bytes have no answer, except after CONNECT.
fn by_upstream(door: Door, ask: Ask, layer: &'static str) -> At {
    match door {
        Door::ConnectRaw => (ask, Said::Http, layer, Some("raw")),
        Door::SocksRaw | Door::TransparentRaw => (ask, Said::Closed, layer, Some("raw")),
        _ => by_request(door, ask, layer, Some("ok")),
    }
}

/// The layer of the door.
fn layer(door: Door) -> &'static str {
    match door {
        Door::Forward => "http",
        Door::Http1 | Door::Http2 | Door::ConnectRaw => "connect",
        Door::SocksTls | Door::SocksRaw => "socks",
        Door::TransparentTls | Door::TransparentRaw => "transparent",
        Door::Dns => "dns",
    }
}

const fn at(host: &'static str, port: u16) -> Ask {
    Ask { host, port, ..Ask::DEFAULT }
}

const fn path(path: &'static str) -> Ask {
    Ask { path, ..at("ok.example", 0) }
}

fn policy(door: Door) -> At {
    let (port, said) = match door {
        Door::SocksRaw => (22, Said::Socks(2)),
        Door::TransparentRaw => (22, Said::Line),
        Door::ConnectRaw => (22, Said::Http),
        Door::Dns => (53, Said::Dns(3, Some(15))),
        _ => (443, Said::Http),
    };
    (at("denied.example", port), said, layer(door), Some("no-denied"))
}

fn not_tls(door: Door) -> At {
    let said = match door {
        Door::ConnectRaw => Said::Http,
        Door::SocksRaw | Door::TransparentRaw => Said::Closed,
        _ => return not_here(),
    };
    (path("/"), said, "tcp", Some("no-raw"))
}

fn special_address(door: Door) -> At {
    match door {
        Door::Dns => (at("private.example", 53), Said::Dns(3, Some(15)), "address", Some("ok")),
        _ => by_upstream(door, at("private.example", 0), "address"),
    }
}

fn name_not_found(door: Door) -> At {
    match door {
        Door::Dns => (at("gone.example", 53), Said::Dns(3, None), "upstream", Some("ok")),
        _ => by_upstream(door, at("gone.example", 0), "upstream"),
    }
}

fn name_timeout(door: Door) -> At {
    match door {
        Door::Dns => (at("slow.example", 53), Said::Dns(2, None), "upstream", Some("ok")),
        _ => by_upstream(door, at("slow.example", 0), "upstream"),
    }
}

fn certificate(door: Door) -> At {
    match door {
        Door::Forward => not_here(),
        _ => by_request(door, at("badcert.example", 0), "upstream", Some("ok")),
    }
}

fn no_connections(door: Door) -> At {
    let said = match door {
        Door::SocksTls | Door::SocksRaw => Said::Socks(0xff),
        Door::TransparentTls | Door::TransparentRaw => Said::Line,
        Door::Dns => return not_here(),
        _ => Said::Http,
    };
    (path("/"), said, "connect", None)
}

fn no_connections_by_rule(door: Door) -> At {
    match door {
        Door::Forward => not_here(),
        Door::ConnectRaw | Door::SocksRaw | Door::TransparentRaw => {
            by_upstream(door, at("raw.example", 0), "tcp")
        }
        _ => by_request(door, path("/"), layer(door), Some("ok")),
    }
}

fn malformed(door: Door) -> At {
    let ask = Ask { malformed: true, ..path("/") };
    match door {
        Door::ConnectRaw => (ask, Said::Http, "http", None),
        Door::SocksRaw => (ask, Said::Socks(1), "socks", None),
        Door::TransparentRaw => (ask, Said::Line, "transparent", None),
        Door::Dns => (ask, Said::Dns(1, None), "dns", None),
        _ => by_request(door, ask, "http", None),
    }
}

fn mismatch(door: Door) -> At {
    let names = Ask { names: Some("other.example"), ..path("/") };
    let server_name = Ask { server_name: Some("other.example"), ..path("/") };
    match door {
        Door::ConnectRaw => (names, Said::Http, "connect", None),
        Door::SocksTls | Door::TransparentTls => (server_name, Said::Http, "tls", Some("ok")),
        _ => by_request(door, names, "http", None),
    }
}

fn no_audit(door: Door) -> At {
    match door {
        Door::Dns => (path("/"), Said::Dns(2, None), "dns", Some("ok")),
        Door::ConnectRaw | Door::SocksRaw | Door::TransparentRaw => {
            by_upstream(door, at("raw.example", 0), "tcp")
        }
        _ => by_request(door, path("/"), "http", Some("ok")),
    }
}

/// Wherever there is a head, before anybody looks at where it leads.
fn head_too_large(door: Door) -> At {
    let ask = Ask { fields: HEADER_FIELDS_MAX + 1, ..path("/") };
    match door {
        Door::ConnectRaw => (ask, Said::Http, "http", None),
        _ => by_request(door, ask, "http", None),
    }
}

fn too_many_names(door: Door) -> At {
    match door {
        Door::Dns => (at("a.wild.example", 53), Said::Dns(3, Some(15)), "dns", Some("ok")),
        _ => by_upstream(door, at("a.wild.example", 0), "dns"),
    }
}

/// The plain upstream of a proxy request has no TLS to get wrong.
fn upstream_tls(door: Door) -> At {
    match door {
        Door::Forward => not_here(),
        _ => by_request(door, path("/"), "upstream", Some("ok")),
    }
}

/// Over HTTP/2 a stream whose body ends too early is malformed: the library ends it (RFC 9113 §8.1.1).
fn body_broke_off(door: Door) -> At {
    match door {
        Door::Http2 => not_here(),
        _ => by_request(door, Ask { rest: Rest::Ended, ..LONG }, "http", Some("ok")),
    }
}

const LONG: Ask = Ask { body: "0123456789a", ..path("/upload") };

/// Kinds without a row, and why.
pub const ELSEWHERE: [(Kind, &str); 2] = [
    (
        Kind::AuthorityNotTrusted,
        "only after a handshake that the client broke off, at its next CONNECT: denials.rs",
    ),
    (Kind::DecodingLimit, "only while other answers take up the memory for decoding: decoding.rs"),
];

#[rustfmt::skip]
pub fn rows() -> Vec<Row> {
    use {Kind as K, Setting as S};
    type AtDoor = fn(Door) -> At;
    let row = |name, setting, kind, (status, proxy_error, code): (u16, _, _), retryable, at: AtDoor| {
        // A client that did not finish is not refused.
        let is_error = status >= 500 || matches!(kind, K::BodyTooQuiet | K::BodyBrokeOff);
        let verdict = if is_error { "error" } else { "deny" };
        Row { name, setting, kind, status, proxy_error, code, retryable, verdict, at }
    };
    const DENIED: &str = "http_request_denied";
    const ERROR: &str = "http_request_error";
    const RATE: (u16, &str, &str) = (403, DENIED, "rate_limited");
    const LIMIT: (u16, &str, &str) = (503, "connection_limit_reached", "too_many_connections");
    const BODY: (u16, &str, &str) = (413, ERROR, "request_body_too_large");
    vec![
        row("denied by policy", S::Plain, K::Policy, (403, DENIED, "blocked_by_policy"), false, policy),
        row("other protocols", S::Plain, K::NotTls, (403, DENIED, "not_tls"), false, not_tls),
        row("no such credential", S::Plain, K::CredentialMissing, (403, DENIED, "credential_missing"), false,
            |door| by_request(door, path("/missing"), "http", Some("ok"))),
        row("credential locked", S::Plain, K::CredentialLocked, (403, DENIED, "credential_locked"), false,
            |door| by_request(door, path("/locked"), "http", Some("ok"))),
        row("credential refused", S::Plain, K::CredentialRefused, (403, DENIED, "credential_refused"), false,
            |door| by_request(door, path("/elsewhere"), "http", Some("ok"))),
        row("special address", S::Plain, K::SpecialAddress, (403, "destination_ip_prohibited", "address_prohibited"), false, special_address),
        row("no such name", S::Plain, K::NameNotFound, (502, "dns_error", "name_not_found"), false, name_not_found),
        row("slow name", S::Plain, K::NameTimeout, (504, "dns_timeout", "name_timeout"), true, name_timeout),
        row("upstream unreachable", S::Plain, K::Unreachable, (502, "destination_unavailable", "upstream_unreachable"), true,
            |door| by_upstream(door, at("raw.example", 1), "upstream")),
        row("upstream too slow", S::Impatient, K::UpstreamTimeout, (504, "connection_timeout", "upstream_timeout"), true,
            |door| by_request(door, path("/never"), "upstream", Some("ok"))),
        row("upstream certificate", S::Plain, K::UpstreamCertificate, (502, "tls_certificate_error", "upstream_certificate"), false, certificate),
        row("connections of the sandbox", S::NoConnections, K::TooManyConnections, LIMIT, true, no_connections),
        row("connections of a rule", S::NoConnectionsByRule, K::TooManyConnections, LIMIT, true, no_connections_by_rule),
        row("requests of the sandbox", S::NoRequests, K::RateLimited, RATE, false, |door| by_request(door, path("/"), "http", None)),
        row("requests of a rule", S::NoRequestsByRule, K::RateLimited, RATE, false, |door| by_request(door, path("/"), "http", Some("ok"))),
        row("body, by the sandbox", S::TenBytes, K::BodyTooLarge, BODY, false, |door| by_request(door, LONG, "http", Some("ok"))),
        row("body, by a rule", S::TenBytesByRule, K::BodyTooLarge, BODY, false, |door| by_request(door, LONG, "http", Some("ok"))),
        row("malformed", S::Plain, K::Malformed, (400, ERROR, "malformed_request"), false, malformed),
        row("two names", S::Plain, K::AuthorityMismatch, (421, ERROR, "authority_mismatch"), false, mismatch),
        row("audit log full", S::NoAudit, K::AuditUnavailable, (503, "proxy_internal_error", "audit_unavailable"), false, no_audit),
        row("large head", S::Plain, K::HeadTooLarge, (431, ERROR, "request_head_too_large"), false, head_too_large),
        row("new names", S::NoNames, K::TooManyNames, (403, DENIED, "too_many_new_names"), false, too_many_names),
        row("held bodies", S::TenBytesHeld, K::TooManyHeldBodies, (503, "connection_limit_reached", "too_many_held_bodies"), true,
            |door| by_request(door, Ask { path: "/held", ..LONG }, "http", Some("ok"))),
        row("body that cannot be signed", S::Plain, K::BodyRefused, (400, ERROR, "request_body_refused"), false,
            |door| by_request(door, Ask { path: "/unsigned", ..LONG }, "http", Some("ok"))),
        row("body that stops", S::Restless, K::BodyTooQuiet, (400, ERROR, "request_body_too_quiet"), true,
            |door| by_request(door, Ask { rest: Rest::Missing, ..LONG }, "http", Some("ok"))),
        row("body that breaks off", S::Plain, K::BodyBrokeOff, (400, ERROR, "request_body_broke_off"), true, body_broke_off),
        row("upstream without TLS", S::NoUpstreamTls, K::UpstreamTls, (502, "tls_protocol_error", "upstream_tls"), false, upstream_tls),
        row("upstream without HTTP", S::Plain, K::UpstreamProtocol, (502, "http_protocol_error", "upstream_protocol"), true,
            |door| by_request(door, path("/break"), "upstream", Some("ok"))),
        row("upstream proxy", S::Plain, K::UpstreamProxy, (502, "destination_unavailable", "upstream_proxy"), false,
            |door| by_upstream(door, at("via.example", 0), "upstream")),
        row("unknown coding", S::Redacting, K::NotRedactable, (502, "http_response_transform_error", "response_not_redactable"), false,
            |door| by_request(door, path("/compress"), "upstream", Some("ok"))),
    ]
}
