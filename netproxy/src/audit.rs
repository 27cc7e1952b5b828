//! The audit record: one per refusal and per finished exchange. It holds names of rules and credentials,
//! the path without its query, and sizes and times; never a header value, a body byte or a secret.

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::hooks::Scheme;
use crate::id::DecisionId;

/// Where in the stack the decision was taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize)]
#[serde(rename_all = "lowercase")]
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
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize)]
#[serde(rename_all = "snake_case")]
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

/// One line of the audit log. `null` means "not known at that layer".
#[derive(Debug, Clone, PartialEq, serde::Serialize)]
#[non_exhaustive]
pub struct Record {
    /// Version of this schema: 1.
    pub v: u8,
    /// When the decision was taken: RFC 3339, UTC, milliseconds.
    #[serde(serialize_with = "rfc3339")]
    pub time: SystemTime,
    /// The sandbox's name, as the proxy was given it.
    pub sandbox: Option<Arc<str>>,
    /// The id that the client was told.
    pub decision_id: DecisionId,
    /// Where the decision was taken.
    pub layer: Layer,
    /// How it ended.
    pub verdict: Outcome,
    /// The rule that decided; `null` if none matched.
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
    /// Milliseconds to resolve the name and judge its addresses; `null` on a reused connection.
    pub ms_dns: Option<f64>,
    /// Milliseconds to dial, by way of the upstream proxy if there is one; `null` on a reused connection.
    pub ms_connect: Option<f64>,
    /// Milliseconds of the TLS handshake with the upstream; `null` on a reused connection or without TLS.
    pub ms_tls: Option<f64>,
    /// Milliseconds from the decision to the head of the response.
    pub ms_first_byte: Option<f64>,
    /// Name of the credential that was put in.
    pub credential: Option<Arc<str>>,
    /// Secrets removed from the response.
    pub redactions: u64,
    /// Which load of the policy decided, as the embedder counts; `null` if it does not, or if no policy was asked.
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
    // Only a map with non-text keys or a failing Serialize can fail; the record has neither.
    serde_json::to_string(record).unwrap_or_default()
}

/// Appends the record as one line of JSON, with the line feed.
pub fn push_audit_json_line(lines: &mut Vec<u8>, record: &Record) {
    // As above; nor does writing to memory fail.
    let _ = serde_json::to_writer(&mut *lines, record);
    lines.push(b'\n');
}

/// A duration in milliseconds, to the microsecond.
#[must_use]
pub fn milliseconds(duration: Duration) -> f64 {
    (duration.as_secs_f64() * 1e6).round() / 1e3
}

fn rfc3339<S: serde::Serializer>(time: &SystemTime, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(&Utc(time.duration_since(UNIX_EPOCH).unwrap_or_default()))
}

/// A time since 1970 as RFC 3339 writes it, in milliseconds.
struct Utc(Duration);

/// Howard Hinnant's `civil_from_days`, for days after 1970.
impl fmt::Display for Utc {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = self.0.as_secs();
        let (days, second_of_day) = (seconds / 86_400, seconds % 86_400);
        let z = days + 719_468;
        let (era, day_of_era) = (z / 146_097, z % 146_097);
        let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
        let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
        let shifted_month = (5 * day_of_year + 2) / 153;
        let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
        let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 };
        let year = year_of_era + era * 400 + u64::from(month <= 2);
        let (hour, minute, second) = (second_of_day / 3600, second_of_day / 60 % 60, second_of_day % 60);
        let ms = self.0.subsec_millis();
        write!(f, "{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{ms:03}Z")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_rfc3339_in_utc() {
        for (ms, text) in [
            (0, "1970-01-01T00:00:00.000Z"),
            (951_782_400_000, "2000-02-29T00:00:00.000Z"),
            (1_795_570_704_987, "2026-11-25T01:38:24.987Z"),
            (4_102_444_799_999, "2099-12-31T23:59:59.999Z"),
        ] {
            assert_eq!(Utc(Duration::from_millis(ms)).to_string(), text);
        }
    }

    #[test]
    fn a_record_is_one_line_even_with_line_feeds_in_it() {
        let id = DecisionId::new(0, [0; 10]);
        let mut record = Record::new(UNIX_EPOCH, id, Layer::Http, Outcome::Deny);
        record.path = Some("/a\nb".into());
        let line = audit_json_line(&record);
        assert!(!line.contains('\n'));
        assert!(
            line.starts_with(r#"{"v":1,"time":"1970-01-01T00:00:00.000Z","sandbox":null,"decision_id":"00"#)
        );
    }
}
