//! The audit record: one per refusal and per finished exchange. It holds names of rules and credentials,
//! the path without its query, and sizes and times; never a header value, a body byte or a secret.

mod line;

use std::borrow::Cow;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use crate::hooks::Scheme;
use crate::id::DecisionId;

/// Where in the stack the decision was taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Layer {
    /// A DNS name.
    Dns,
    /// The target of a `CONNECT`.
    Connect,
    /// The target of a SOCKS request.
    Socks,
    /// The target of a transparent connection.
    Transparent,
    /// Bytes that are neither TLS nor HTTP.
    Tcp,
    /// The TLS handshake with the client.
    Tls,
    /// One HTTP request.
    Http,
    /// The addresses of an allowed name.
    Address,
    /// The upstream behind an allowed request.
    Upstream,
    /// The policy itself: it was replaced, or was to be.
    Policy,
}

impl Layer {
    /// Every layer.
    pub const ALL: [Self; 10] = [
        Self::Dns,
        Self::Connect,
        Self::Socks,
        Self::Transparent,
        Self::Tcp,
        Self::Tls,
        Self::Http,
        Self::Address,
        Self::Upstream,
        Self::Policy,
    ];

    /// As in the record and in the answer.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Dns => "dns",
            Self::Connect => "connect",
            Self::Socks => "socks",
            Self::Transparent => "transparent",
            Self::Tcp => "tcp",
            Self::Tls => "tls",
            Self::Http => "http",
            Self::Address => "address",
            Self::Upstream => "upstream",
            Self::Policy => "policy",
        }
    }
}

/// How it ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Outcome {
    /// Allowed and done.
    Allow,
    /// Refused, by policy or as a malformed or contradictory request.
    Deny,
    /// Allowed, but it failed: upstream unreachable, connection broken.
    Error,
    /// Passed, although the policy refuses it: its refusals are only recorded.
    WouldDeny,
}

impl Outcome {
    /// Every outcome.
    pub const ALL: [Self; 4] = [Self::Allow, Self::Deny, Self::Error, Self::WouldDeny];

    /// As in the record.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Allow => "allow",
            Self::Deny => "deny",
            Self::Error => "error",
            Self::WouldDeny => "would_deny",
        }
    }
}

/// One line of the audit log. What is `None` is not known at that layer, and is left out of the line.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Record {
    /// Version of this schema: 1.
    pub v: u8,
    /// When the decision was taken: RFC 3339, UTC, milliseconds.
    pub time: SystemTime,
    /// The sandbox's name, as the proxy was given it.
    pub sandbox: Option<Arc<str>>,
    /// The id that the client was told.
    pub decision_id: DecisionId,
    /// Where the decision was taken.
    pub layer: Layer,
    /// How it ended.
    pub verdict: Outcome,
    /// The rule that decided; `None` if none matched.
    pub rule: Option<Arc<str>>,
    /// Machine-readable code of a refusal or failure (`blocked_by_policy`, …).
    pub error: Option<&'static str>,
    /// One sentence on a refusal or failure.
    pub reason: Option<String>,
    /// `http` or `https`.
    pub scheme: Option<Scheme>,
    /// Canonical host, IPv6 in brackets.
    pub host: Option<Arc<str>>,
    /// Port.
    pub port: Option<u16>,
    /// Method, or the record type of a DNS query.
    pub method: Option<Cow<'static, str>>,
    /// Canonical path; the query is dropped.
    pub path: Option<Arc<str>>,
    /// Status given to the client.
    pub status: Option<u16>,
    /// Body or tunnel bytes towards the upstream.
    pub bytes_up: u64,
    /// Body or tunnel bytes towards the client.
    pub bytes_down: u64,
    /// Milliseconds from the decision to the end.
    pub ms_total: f64,
    /// Milliseconds to resolve the name and judge its addresses; `None` on a reused connection.
    pub ms_dns: Option<f64>,
    /// Milliseconds to dial, by way of the upstream proxy if there is one; `None` on a reused connection.
    pub ms_connect: Option<f64>,
    /// Milliseconds of the TLS handshake with the upstream; `None` on a reused connection or without TLS.
    pub ms_tls: Option<f64>,
    /// Milliseconds from the decision to the head of the response.
    pub ms_first_byte: Option<f64>,
    /// Name of the credential that was put in.
    pub credential: Option<Arc<str>>,
    /// Secrets removed from the response.
    pub redactions: u64,
    /// Which load of the policy decided, as the embedder counts; `None` if it does not, or if no policy was asked.
    pub generation: Option<u64>,
    /// Whether the request was the handshake of a WebSocket, whatever became of it.
    pub websocket: bool,
}

impl Record {
    /// A record with only its required parts.
    #[must_use]
    pub fn new(time: SystemTime, decision_id: DecisionId, layer: Layer, verdict: Outcome) -> Self {
        Self {
            v: 1,
            time,
            sandbox: None,
            decision_id,
            layer,
            verdict,
            rule: None,
            error: None,
            reason: None,
            scheme: None,
            host: None,
            port: None,
            method: None,
            path: None,
            status: None,
            bytes_up: 0,
            bytes_down: 0,
            ms_total: 0.0,
            ms_dns: None,
            ms_connect: None,
            ms_tls: None,
            ms_first_byte: None,
            credential: None,
            redactions: 0,
            generation: None,
            websocket: false,
        }
    }
}

impl Record {
    /// Says what was asked for.
    #[cfg(feature = "shell")]
    pub(crate) fn about(&mut self, subject: crate::refuse::Subject) {
        self.scheme = subject.scheme;
        self.host = subject.host;
        self.port = subject.port;
        self.method = subject.method;
        self.path = subject.path;
        self.websocket = subject.websocket;
    }

    /// Says which verdict let it pass: the rule, and the refusal where that is only recorded.
    #[cfg(feature = "shell")]
    pub(crate) fn decided(&mut self, allow: &crate::hooks::Allow) {
        self.rule = allow.decided_by();
        self.generation = allow.generation;
        if let Some(deny) = &allow.would_deny {
            self.verdict = Outcome::WouldDeny;
            self.reason = Some(deny.reason.clone());
        }
    }
}

/// The record as one line of JSON, without the line feed. Control characters are escaped by JSON.
#[must_use]
pub fn audit_json_line(record: &Record) -> String {
    let mut line = Vec::new();
    line::push(&mut line, record);
    // All of it is text.
    String::from_utf8(line).unwrap_or_default()
}

/// Appends the record as one line of JSON, with the line feed.
pub fn push_audit_json_line(lines: &mut Vec<u8>, record: &Record) {
    line::push(lines, record);
    lines.push(b'\n');
}

/// A duration in milliseconds, to the microsecond.
#[must_use]
pub fn milliseconds(duration: Duration) -> f64 {
    (duration.as_secs_f64() * 1e6).round() / 1e3
}
