//! The table: a row for each kind of refusal, and what it is at each door.

use super::Setting;
use super::doors::{ALL, Ask, Door, Said};

/// One kind of refusal.
#[derive(Debug)]
pub struct Row {
    pub name: &'static str,
    pub setting: Setting,
    pub status: u16,
    /// RFC 9209.
    pub proxy_error: &'static str,
    pub code: &'static str,
    pub retryable: bool,
    /// In the record.
    pub verdict: &'static str,
    at: fn(Door) -> At,
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
    (Ask::default(), Said::NotHere, "", None)
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
    let (names, server_name) = (None, None);
    Ask { host, port, path: "/", names, server_name, body: "", malformed: false }
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

const LONG: Ask = Ask { body: "0123456789a", ..path("/upload") };

#[rustfmt::skip]
pub fn rows() -> Vec<Row> {
    use Setting as S;
    type AtDoor = fn(Door) -> At;
    let row = |name, setting, (status, proxy_error, code): (u16, _, _), retryable, at: AtDoor| {
        let verdict = if status >= 500 { "error" } else { "deny" };
        Row { name, setting, status, proxy_error, code, retryable, verdict, at }
    };
    const DENIED: &str = "http_request_denied";
    const ERROR: &str = "http_request_error";
    const RATE: (u16, &str, &str) = (403, DENIED, "rate_limited");
    const LIMIT: (u16, &str, &str) = (503, "connection_limit_reached", "too_many_connections");
    const BODY: (u16, &str, &str) = (413, ERROR, "request_body_too_large");
    vec![
        row("denied by policy", S::Plain, (403, DENIED, "blocked_by_policy"), false, policy),
        row("other protocols", S::Plain, (403, DENIED, "not_tls"), false, not_tls),
        row("no such credential", S::Plain, (403, DENIED, "credential_missing"), false,
            |door| by_request(door, path("/missing"), "http", Some("ok"))),
        row("credential locked", S::Plain, (403, DENIED, "credential_locked"), false,
            |door| by_request(door, path("/locked"), "http", Some("ok"))),
        row("credential refused", S::Plain, (403, DENIED, "credential_refused"), false,
            |door| by_request(door, path("/elsewhere"), "http", Some("ok"))),
        row("special address", S::Plain, (403, "destination_ip_prohibited", "address_prohibited"), false, special_address),
        row("no such name", S::Plain, (502, "dns_error", "name_not_found"), false, name_not_found),
        row("slow name", S::Plain, (504, "dns_timeout", "name_timeout"), true, name_timeout),
        row("upstream unreachable", S::Plain, (502, "destination_unavailable", "upstream_unreachable"), true,
            |door| by_upstream(door, at("raw.example", 1), "upstream")),
        row("upstream too slow", S::Impatient, (504, "connection_timeout", "upstream_timeout"), true,
            |door| by_request(door, path("/never"), "upstream", Some("ok"))),
        row("upstream certificate", S::Plain, (502, "tls_certificate_error", "upstream_certificate"), false, certificate),
        row("connections of the sandbox", S::NoConnections, LIMIT, true, no_connections),
        row("connections of a rule", S::NoConnectionsByRule, LIMIT, true, no_connections_by_rule),
        row("requests of the sandbox", S::NoRequests, RATE, false, |door| by_request(door, path("/"), "http", None)),
        row("requests of a rule", S::NoRequestsByRule, RATE, false, |door| by_request(door, path("/"), "http", Some("ok"))),
        row("body, by the sandbox", S::TenBytes, BODY, false, |door| by_request(door, LONG, "http", Some("ok"))),
        row("body, by a rule", S::TenBytesByRule, BODY, false, |door| by_request(door, LONG, "http", Some("ok"))),
        row("malformed", S::Plain, (400, ERROR, "malformed_request"), false, malformed),
        row("two names", S::Plain, (421, ERROR, "authority_mismatch"), false, mismatch),
        row("audit log full", S::NoAudit, (503, "proxy_internal_error", "audit_unavailable"), false, no_audit),
    ]
}
