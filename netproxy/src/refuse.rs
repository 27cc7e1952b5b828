//! One refusal, rendered for whoever asked: HTTP 403 and its relatives with RFC 9457 JSON and an RFC 9209
//! `Proxy-Status`, or NXDOMAIN with RFC 8914 EDE 15. A refusal of ours can be told from any answer of an
//! upstream: only ours has a `Proxy-Status` member of our name, since forged ones are removed.
//!
//! It never echoes a header value, a query or a body, and never text that was not escaped.

use std::borrow::Cow;
use std::sync::Arc;

use bytes::Bytes;
use http::header::{CACHE_CONTROL, CONNECTION, CONTENT_LENGTH, CONTENT_TYPE, USER_AGENT};
use http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode};

use crate::audit::Layer;
use crate::fields::has;
use crate::hooks::{Allow, Deny, InjectError, Scheme};
use crate::id::DecisionId;
use crate::limits::{DNS_RULE_BYTES_MAX, HOOK_TEXT_BYTES_MAX};
use crate::wire::head::HeadError;

/// The name of our member in `Proxy-Status`.
pub const PROXY_NAME: &str = "agent-sandbox";
/// RFC 9209.
pub const PROXY_STATUS: HeaderName = HeaderName::from_static("proxy-status");
/// Read by the OpenAI and Anthropic SDKs: stops their retries.
const SHOULD_RETRY: HeaderName = HeaderName::from_static("x-should-retry");

/// What kind of answer a refusal is. Each has its own `error` code, so that nobody has to guess whether the
/// policy, the request or the upstream is at fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Kind {
    /// The policy does not allow it.
    Policy,
    /// The name or literal leads to a loopback, private or otherwise special address.
    SpecialAddress,
    /// Not a request we forward: bad syntax, ambiguous framing, unknown form.
    Malformed,
    /// The head is too large.
    HeadTooLarge,
    /// CONNECT target, SNI and Host do not agree.
    AuthorityMismatch,
    /// Neither TLS nor HTTP inside a connection, and no rule allows other bytes.
    NotTls,
    /// The client does not trust the sandbox's certificate authority, so that it can be told nothing inside TLS.
    AuthorityNotTrusted,
    /// The credential of the rule does not exist.
    CredentialMissing,
    /// The credential store is locked.
    CredentialLocked,
    /// A credential or placeholder where it may not be.
    CredentialRefused,
    /// The audit log cannot be written.
    AuditUnavailable,
    /// As many client connections as may be are open.
    TooManyConnections,
    /// More requests in a second than may be.
    RateLimited,
    /// More new names below a wildcard in a minute than may be.
    TooManyNames,
    /// The body of the request is larger than it may be.
    BodyTooLarge,
    /// As many bodies as may be are held at once, to be signed.
    TooManyHeldBodies,
    /// The body is not what its head says, and cannot be signed.
    BodyRefused,
    /// The client stopped in the middle of the body.
    BodyTooQuiet,
    /// The body ended before its end.
    BodyBrokeOff,
    /// The upstream's name does not resolve.
    NameNotFound,
    /// The resolver did not answer.
    NameTimeout,
    /// The upstream refuses or drops the connection.
    Unreachable,
    /// The upstream does not answer in time.
    UpstreamTimeout,
    /// The upstream's certificate is not valid for its name.
    UpstreamCertificate,
    /// The upstream's TLS is broken in another way.
    UpstreamTls,
    /// The upstream's answer is not HTTP, or ends early.
    UpstreamProtocol,
    /// The upstream proxy that the rule names cannot be reached, refuses us or the destination, or does not exist.
    UpstreamProxy,
    /// The answer must be searched for secrets and is encoded in a way that cannot be.
    NotRedactable,
    /// The answer must be decoded to be searched, and the memory for that is in use.
    DecodingLimit,
}

struct Row {
    status: StatusCode,
    /// RFC 9209 §2.3 error type.
    proxy_error: &'static str,
    code: &'static str,
    title: &'static str,
    hint: &'static str,
    retryable: bool,
}

impl Kind {
    #[rustfmt::skip]
    fn row(self) -> Row {
        use StatusCode as S;
        let row = |status, proxy_error, code, title, hint, retryable| Row { status, proxy_error, code, title, hint, retryable };
        match self {
            Self::Policy => row(S::FORBIDDEN, "http_request_denied", "blocked_by_policy", "Blocked by the sandbox's network policy",
                "Do not retry and do not look for another route: every route has the same policy. If this access is needed, ask the user to allow it in the sandbox policy.", false),
            Self::SpecialAddress => row(S::FORBIDDEN, "destination_ip_prohibited", "address_prohibited", "The address is not a public one",
                "Do not retry. Loopback, private and link-local addresses, and those of the host machine and its networks, are closed unless the sandbox policy allows them by cidr; ask the user.", false),
            Self::Malformed => row(S::BAD_REQUEST, "http_request_error", "malformed_request", "The request is malformed",
                "Do not retry the same request. Send well-formed HTTP/1.1: an absolute http:// URL, or CONNECT host:port for TLS.", false),
            Self::HeadTooLarge => row(S::REQUEST_HEADER_FIELDS_TOO_LARGE, "http_request_error", "request_head_too_large", "The request head is too large",
                "Send fewer or shorter headers, or a shorter URL.", false),
            Self::AuthorityMismatch => row(S::MISDIRECTED_REQUEST, "http_request_error", "authority_mismatch", "The request names two different hosts",
                "CONNECT target, TLS server name and Host header must be the same. Open a connection of its own for each host.", false),
            Self::NotTls => row(S::FORBIDDEN, "http_request_denied", "not_tls", "Only TLS and HTTP are allowed on this connection",
                "Use https or http. Other protocols pass only where a rule of the sandbox policy names host and port with tcp = true; ask the user.", false),
            Self::AuthorityNotTrusted => row(S::FORBIDDEN, "http_request_denied", "authority_not_trusted", "The client does not trust the sandbox's certificate authority",
                "Do not retry, and do not turn verification off. Give the client the file that SSL_CERT_FILE names: by NODE_EXTRA_CA_CERTS, REQUESTS_CA_BUNDLE, CARGO_HTTP_CAINFO, its own option for roots, or for Java the trust store of JAVA_TOOL_OPTIONS.", false),
            Self::CredentialMissing => row(S::FORBIDDEN, "http_request_denied", "credential_missing", "The credential for this request does not exist",
                "Do not retry. Ask the user to store the credential on the host.", false),
            Self::CredentialLocked => row(S::FORBIDDEN, "http_request_denied", "credential_locked", "The credential store is locked",
                "Ask the user to unlock the keyring on the host, then try again.", false),
            Self::CredentialRefused => row(S::FORBIDDEN, "http_request_denied", "credential_refused", "The credential may not be used here",
                "Do not retry. Each placeholder works only with the host it was made for; ask the user.", false),
            Self::AuditUnavailable => row(S::SERVICE_UNAVAILABLE, "proxy_internal_error", "audit_unavailable", "The audit log cannot be written",
                "Nothing is forwarded unrecorded. Ask the user to make room for the audit log on the host.", false),
            Self::TooManyConnections => row(S::SERVICE_UNAVAILABLE, "connection_limit_reached", "too_many_connections", "Too many connections are open",
                "The sandbox has a limit on connections at once. Close idle ones, or run fewer programs side by side.", true),
            // Not 429, nor 503: clients repeat those at once and up to six times, which is what the limit is against.
            Self::RateLimited => row(S::FORBIDDEN, "http_request_denied", "rate_limited", "Too many requests in a second",
                "Wait before the next request, and send fewer of them. If more are needed, ask the user to raise the limit in the sandbox policy.", false),
            Self::TooManyNames => row(S::FORBIDDEN, "http_request_denied", "too_many_new_names", "Too many new names below a wildcard",
                "Wait a minute before you ask for names that you did not use yet; those that you used go on working. Names that are needed often can have a rule of their own in the sandbox policy; ask the user.", false),
            Self::BodyTooLarge => row(S::PAYLOAD_TOO_LARGE, "http_request_error", "request_body_too_large", "The request body is too large",
                "Do not retry the same request. The sandbox has a limit on what a request may carry; ask the user.", false),
            Self::TooManyHeldBodies => row(S::SERVICE_UNAVAILABLE, "connection_limit_reached", "too_many_held_bodies", "Too many request bodies are held at once",
                "Bodies of requests that are signed wait here until they are whole. Send fewer of them side by side.", true),
            Self::BodyRefused => row(S::BAD_REQUEST, "http_request_error", "request_body_refused", "The request body cannot be signed",
                "Do not retry the same request. The body must have the form that the request's head announces.", false),
            // Not 408: browsers and clients of AI services repeat that by themselves.
            Self::BodyTooQuiet => row(S::BAD_REQUEST, "http_request_error", "request_body_too_quiet", "The request body stopped",
                "The head of the request came, and of its body nothing more for too long. Send it without long pauses.", true),
            Self::BodyBrokeOff => row(S::BAD_REQUEST, "http_request_error", "request_body_broke_off", "The request body broke off",
                "The body ended before it was whole. Send as much as the request's head announces.", true),
            Self::NameNotFound => row(S::BAD_GATEWAY, "dns_error", "name_not_found", "The upstream's name does not resolve",
                "This host may be reached, but it has no address. Check the spelling.", false),
            Self::NameTimeout => row(S::GATEWAY_TIMEOUT, "dns_timeout", "name_timeout", "The resolver did not answer",
                "This host may be reached; the network of the host machine may be down. A later try may work.", true),
            Self::Unreachable => row(S::BAD_GATEWAY, "destination_unavailable", "upstream_unreachable", "The upstream cannot be reached",
                "This host may be reached, but it does not accept connections. A later try may work.", true),
            Self::UpstreamTimeout => row(S::GATEWAY_TIMEOUT, "connection_timeout", "upstream_timeout", "The upstream did not answer in time",
                "This host may be reached, but it does not answer. A later try may work.", true),
            Self::UpstreamCertificate => row(S::BAD_GATEWAY, "tls_certificate_error", "upstream_certificate", "The upstream's certificate is not valid",
                "Do not retry. The host machine does not trust who signed it; the user can have one more root trusted (`--upstream-ca`).", false),
            Self::UpstreamTls => row(S::BAD_GATEWAY, "tls_protocol_error", "upstream_tls", "The upstream's TLS handshake failed",
                "This host may be reached, but no TLS version or cipher is shared with it, or it does not speak TLS.", false),
            Self::UpstreamProtocol => row(S::BAD_GATEWAY, "http_protocol_error", "upstream_protocol", "The upstream's answer is not valid HTTP",
                "This host may be reached, but its answer broke off or is not HTTP/1.1.", true),
            Self::UpstreamProxy => row(S::BAD_GATEWAY, "destination_unavailable", "upstream_proxy", "The upstream proxy does not let the request through",
                "This host may be reached by way of an upstream proxy, and that one fails or refuses. Do not retry; ask the user to check it on the host.", false),
            Self::NotRedactable => row(S::BAD_GATEWAY, "http_response_transform_error", "response_not_redactable", "The upstream's answer cannot be searched for secrets",
                "The upstream sends gzip, deflate, br, zstd or plain bytes if it is asked to; this one sent a part or another coding. Ask the user whether this rule needs redaction.", false),
            Self::DecodingLimit => row(S::BAD_GATEWAY, "http_response_transform_error", "response_decoding_limit", "Too many encoded answers are open",
                "The upstream encoded its answer without being asked to, and there is no memory left to decode it. Read or close other answers first, then try again.", false),
        }
    }

    /// The `error` code in JSON answers and audit records.
    #[must_use]
    pub fn code(self) -> &'static str {
        self.row().code
    }

    /// The HTTP status.
    #[must_use]
    pub fn status(self) -> StatusCode {
        self.row().status
    }

    /// What stands beside the status in HTTP/1.1. Where a client hides the body of an error, this is all that a
    /// person sees: pip, requests, urllib3, aiohttp and npm show it.
    #[must_use]
    pub fn reason_phrase(self) -> &'static str {
        self.row().title
    }

    /// Whether we refused (and not the network, the upstream, or a client that did not finish).
    #[must_use]
    pub fn is_denial(self) -> bool {
        !self.status().is_server_error() && !matches!(self, Self::BodyTooQuiet | Self::BodyBrokeOff)
    }
}

/// What was asked for, as far as it is known.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Subject {
    /// Scheme.
    pub scheme: Option<Scheme>,
    /// Canonical host.
    pub host: Option<Arc<str>>,
    /// Port.
    pub port: Option<u16>,
    /// Method.
    pub method: Option<Cow<'static, str>>,
    /// Path without its query.
    pub path: Option<Arc<str>>,
    /// Whether it is the handshake of a WebSocket.
    pub websocket: bool,
}

/// One refusal, whole.
#[derive(Debug, Clone, PartialEq)]
pub struct Refusal {
    /// What kind.
    pub kind: Kind,
    /// Where it was decided.
    pub layer: Layer,
    /// By which rule.
    pub rule: Option<Arc<str>>,
    /// One sentence.
    pub detail: String,
    /// What to do; `None` for the general hint of the kind.
    pub hint: Option<String>,
    /// What was asked for.
    pub subject: Subject,
    /// Whether the client is answered in plain words instead of JSON.
    pub words: bool,
    /// What the policy would have refused it for, had this not come first.
    pub would_deny: Option<Arc<Deny>>,
    /// Which load of the policy took part.
    pub generation: Option<u64>,
    /// What had come of it.
    pub before: Before,
}

/// What had come of a request or connection before it was refused; times are in milliseconds, as in
/// [`Record`](crate::audit::Record), and those of what failed are how long that took.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Before {
    /// Bytes of the request's body that had gone to the upstream.
    pub bytes_up: u64,
    /// The credential that was put in: the upstream may have it.
    pub credential: Option<Arc<str>>,
    /// To resolve the name and judge its addresses.
    pub ms_dns: Option<f64>,
    /// To dial.
    pub ms_connect: Option<f64>,
    /// Of the TLS handshake with the upstream.
    pub ms_tls: Option<f64>,
    /// To the head of the upstream's answer.
    pub ms_first_byte: Option<f64>,
}

impl Refusal {
    /// A refusal of ours that no rule took part in.
    #[must_use]
    pub fn new(kind: Kind, layer: Layer, detail: impl Into<String>) -> Self {
        Self {
            kind,
            layer,
            rule: None,
            detail: detail.into(),
            hint: None,
            subject: Subject::default(),
            words: false,
            would_deny: None,
            generation: None,
            before: Before::default(),
        }
    }

    /// A verdict of the policy.
    #[must_use]
    pub fn policy(layer: Layer, deny: Deny) -> Self {
        let generation = deny.generation;
        Self { rule: deny.rule, hint: deny.hint, generation, ..Self::new(Kind::Policy, layer, deny.reason) }
    }

    /// A credential that cannot be put in.
    #[must_use]
    pub fn inject(error: &InjectError) -> Self {
        let kind = match error {
            InjectError::Missing { .. } => Kind::CredentialMissing,
            InjectError::Locked { .. } => Kind::CredentialLocked,
            InjectError::Refused { .. } => Kind::CredentialRefused,
        };
        Self::new(kind, Layer::Http, error.to_string())
    }

    /// A head that is not acceptable.
    #[must_use]
    pub fn head(error: HeadError) -> Self {
        let kind = match error {
            HeadError::TooLarge | HeadError::TooManyFields => Kind::HeadTooLarge,
            _ => Kind::Malformed,
        };
        Self::new(kind, Layer::Http, error.to_string())
    }

    /// With what was asked for.
    #[must_use]
    pub fn about(mut self, subject: Subject) -> Self {
        self.subject = subject;
        self
    }

    /// Of something that this verdict had let pass.
    #[must_use]
    pub fn after(self, allow: &Allow) -> Self {
        let (would_deny, generation) = (allow.would_deny.clone(), allow.generation);
        Self { rule: allow.decided_by(), would_deny, generation, ..self }
    }

    /// With the rule that took part.
    #[must_use]
    pub fn under(mut self, rule: Option<Arc<str>>) -> Self {
        self.rule = rule;
        self
    }
}

#[derive(serde::Serialize)]
struct Problem<'a> {
    r#type: String,
    title: &'a str,
    status: u16,
    detail: String,
    error: &'a str,
    retryable: bool,
    rule: Option<&'a str>,
    host: Option<&'a str>,
    port: Option<u16>,
    method: Option<&'a str>,
    path: Option<&'a str>,
    layer: &'a str,
    decision_id: &'a str,
    how_to_fix: String,
}

fn in_words(problem: &Problem<'_>) -> Vec<u8> {
    let Problem { title, detail, how_to_fix, decision_id, .. } = problem;
    format!("{title}: {detail}\n{how_to_fix}\ndecision {decision_id}").into_bytes()
}

/// The refusal as an HTTP response that ends its connection.
#[must_use]
pub fn http_response(refusal: &Refusal, id: &DecisionId) -> Response<Bytes> {
    let row = refusal.kind.row();
    let detail = printable(&refusal.detail);
    let problem = Problem {
        r#type: format!("urn:{PROXY_NAME}:{}", row.code),
        title: row.title,
        status: row.status.as_u16(),
        detail: detail.clone(),
        error: row.code,
        retryable: row.retryable,
        rule: refusal.rule.as_deref(),
        host: refusal.subject.host.as_deref(),
        port: refusal.subject.port,
        method: refusal.subject.method.as_deref(),
        path: refusal.subject.path.as_deref(),
        layer: refusal.layer.as_str(),
        decision_id: id.as_str(),
        how_to_fix: refusal.hint.as_deref().map_or_else(|| row.hint.to_owned(), printable),
    };
    let (kind, mut body) = match refusal.words {
        true => ("text/plain", in_words(&problem)),
        false => ("application/problem+json", serde_json::to_vec(&problem).unwrap_or_default()),
    };
    body.push(b'\n');

    let mut response = Response::new(Bytes::from(body));
    *response.status_mut() = row.status;
    let length = response.body().len();
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    headers.insert(CONTENT_LENGTH, HeaderValue::from(length));
    headers.insert(PROXY_STATUS, proxy_status(row.proxy_error, &detail, id));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(CONNECTION, HeaderValue::from_static("close"));
    if !row.retryable {
        headers.insert(SHOULD_RETRY, HeaderValue::from_static("false"));
    }
    response
}

/// Whether the client with these request headers is git, which shows the body of an error only where it is
/// `text/plain`.
#[must_use]
pub fn shows_words_only(headers: &HeaderMap) -> bool {
    headers.get(USER_AGENT).is_some_and(|agent| agent.as_bytes().starts_with(b"git/"))
}

/// The same for a whole head as it came.
#[must_use]
pub fn head_shows_words_only(head: &[u8]) -> bool {
    let start = b"user-agent: git/";
    let is_it = |line: &[u8]| line.get(..start.len()).is_some_and(|line| line.eq_ignore_ascii_case(start));
    head.split(|byte| *byte == b'\n').any(is_it)
}

/// The same as bytes of HTTP/1.1, for places without an HTTP server; a `HEAD` gets no body.
#[must_use]
pub fn http1_bytes(refusal: &Refusal, id: &DecisionId) -> Vec<u8> {
    let response = http_response(refusal, id);
    let status = response.status();
    let mut out = format!("HTTP/1.1 {} {}\r\n", status.as_u16(), refusal.kind.reason_phrase()).into_bytes();
    for (name, value) in response.headers() {
        out.extend_from_slice(name.as_str().as_bytes());
        out.extend_from_slice(b": ");
        out.extend_from_slice(value.as_bytes());
        out.extend_from_slice(b"\r\n");
    }
    out.extend_from_slice(b"\r\n");
    if refusal.subject.method.as_deref() != Some("HEAD") {
        out.extend_from_slice(response.body());
    }
    out
}

/// The EXTRA-TEXT of EDE 15 (Blocked): short, as it travels in a DNS answer.
#[must_use]
pub fn dns_extra_text(refusal: &Refusal, id: &DecisionId) -> String {
    let rule: String = refusal.rule.as_deref().unwrap_or("none").chars().take(DNS_RULE_BYTES_MAX).collect();
    printable(&format!("{}; rule={rule}; decision_id={id}", refusal.kind.code()))
}

fn proxy_status(error: &str, detail: &str, id: &DecisionId) -> HeaderValue {
    // RFC 8941 §3.3.3: printable ASCII, with backslash and quote escaped.
    let quoted = detail.replace('\\', "\\\\").replace('"', "\\\"");
    let text = format!("{PROXY_NAME}; error={error}; details=\"{quoted} (decision {id})\"");
    HeaderValue::from_str(&text).unwrap_or_else(|_| HeaderValue::from_static(PROXY_NAME))
}

/// Printable ASCII only, bounded: what reaches headers, JSON and terminals of the guest.
fn printable(text: &str) -> String {
    text.chars().take(HOOK_TEXT_BYTES_MAX).map(|c| if matches!(c, ' '..='~') { c } else { '?' }).collect()
}

/// Removes `Proxy-Status` members that carry our name from an upstream's headers (or trailers).
pub fn strip_forged_proxy_status(headers: &mut HeaderMap) {
    if !has(headers, &PROXY_STATUS) {
        return;
    }
    let kept: Vec<HeaderValue> = headers
        .get_all(&PROXY_STATUS)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .filter_map(|value| {
            let members = split_members(value);
            let honest: Vec<&str> = members.into_iter().filter(|member| !has_our_name(member)).collect();
            if honest.is_empty() { None } else { HeaderValue::from_str(&honest.join(", ")).ok() }
        })
        .collect();
    headers.remove(&PROXY_STATUS);
    for value in kept {
        headers.append(&PROXY_STATUS, value);
    }
}

/// Splits an RFC 8941 list at commas outside quoted strings.
fn split_members(value: &str) -> Vec<&str> {
    let (mut quoted, mut escaped) = (false, false);
    value
        .split(move |c| {
            let splits = c == ',' && !quoted;
            match c {
                '\\' if quoted && !escaped => escaped = true,
                '"' if !escaped => quoted = !quoted,
                _ => escaped = false,
            }
            splits
        })
        .map(str::trim)
        .filter(|member| !member.is_empty())
        .collect()
}

/// The name is a token or a quoted string; case is ignored to be stricter than the RFC.
fn has_our_name(member: &str) -> bool {
    let name = member.split(';').next().unwrap_or(member).trim().trim_matches('"');
    name.to_ascii_lowercase().replace('\\', "").contains(PROXY_NAME)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal() -> (Refusal, DecisionId) {
        let deny = Deny::by("no-delete", "a \"quoted\" reason\r\nInjected: yes \u{e9}");
        (Refusal::policy(Layer::Http, deny), DecisionId::new(7, [1; 10]))
    }

    #[test]
    fn a_denial_is_403_with_problem_json_and_no_retry() {
        let (mut refusal, id) = refusal();
        refusal.subject.host = Some("api.example".into());
        let response = http_response(&refusal, &id);
        assert_eq!(response.status(), 403);
        assert_eq!(response.headers()["content-type"], "application/problem+json");
        assert_eq!(response.headers()["x-should-retry"], "false");
        assert_eq!(response.headers()["connection"], "close");
        let json: serde_json::Value = serde_json::from_slice(response.body()).unwrap();
        assert_eq!(json["error"], "blocked_by_policy");
        assert_eq!(json["retryable"], false);
        assert_eq!(json["rule"], "no-delete");
        assert_eq!(json["host"], "api.example");
        assert_eq!(json["port"], serde_json::Value::Null);
        assert_eq!(json["decision_id"], id.as_str());
    }

    #[test]
    fn git_is_answered_in_words_that_stay_in_their_lines() {
        let (mut refusal, id) = refusal();
        refusal.words = true;
        let response = http_response(&refusal, &id);
        assert_eq!(response.headers()["content-type"], "text/plain");
        let text = String::from_utf8(response.body().to_vec()).unwrap();
        assert!(
            text.starts_with("Blocked by the sandbox's network policy: a \"quoted\" reason??Injected"),
            "{text}"
        );
        assert!(text.lines().count() == 3 && text.contains(id.as_str()), "{text}");
        let mut headers = HeaderMap::new();
        for (agent, is_git) in [("git/2.47.3", true), ("curl/8", false), ("not git/2", false)] {
            headers.insert("user-agent", HeaderValue::from_static(agent));
            assert_eq!(shows_words_only(&headers), is_git, "{agent}");
            let head = format!("GET / HTTP/1.1\r\nHost: h\r\nUser-Agent: {agent}\r\n\r\n");
            assert_eq!(head_shows_words_only(head.as_bytes()), is_git, "{agent}");
        }
    }

    #[test]
    fn text_of_a_hook_cannot_break_out_of_a_header() {
        let (refusal, id) = refusal();
        let response = http_response(&refusal, &id);
        let status = response.headers()["proxy-status"].to_str().unwrap();
        assert!(
            status
                .starts_with("agent-sandbox; error=http_request_denied; details=\"a \\\"quoted\\\" reason??")
        );
        assert_eq!(http1_bytes(&refusal, &id).windows(10).filter(|w| w == b"\r\nInjected").count(), 0);
    }

    #[test]
    fn forged_members_of_our_name_are_removed_and_others_stay() {
        for (given, kept) in [
            ("agent-sandbox; error=x", None),
            ("\"agent-sandbox\"; error=x", None),
            ("Agent-Sandbox", None),
            ("cdn; details=\"a, agent-sandbox\"", Some("cdn; details=\"a, agent-sandbox\"")),
            ("cdn, agent-sandbox; error=x, edge", Some("cdn, edge")),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(PROXY_STATUS, HeaderValue::from_static(given));
            strip_forged_proxy_status(&mut headers);
            assert_eq!(headers.get(&PROXY_STATUS).map(|v| v.to_str().unwrap()), kept, "{given}");
        }
    }
}
