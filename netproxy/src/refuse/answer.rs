//! A refusal as whoever asked can read it: problem+json, words, or the text of a DNS answer.

use bytes::Bytes;
use http::header::{CACHE_CONTROL, CONNECTION, CONTENT_LENGTH, CONTENT_TYPE, USER_AGENT};
use http::{HeaderMap, HeaderName, HeaderValue, Response};

use super::{PROXY_NAME, PROXY_STATUS, Refusal};
use crate::id::DecisionId;
use crate::limits::{DNS_RULE_BYTES_MAX, HOOK_TEXT_BYTES_MAX};

/// Read by the OpenAI and Anthropic SDKs: stops their retries.
const SHOULD_RETRY: HeaderName = HeaderName::from_static("x-should-retry");

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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audit::Layer;
    use crate::hooks::Deny;

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
}
