//! From a well-formed head to facts that can be judged, or to a refusal. Pure: the shell asks, dials and
//! forwards, but what a request *is* gets decided here, the same for every front door.

use std::borrow::Cow;

use http::StatusCode;
use http::header::{
    ACCEPT_CHARSET, ACCEPT_ENCODING, CONNECTION, CONTENT_ENCODING, CONTENT_RANGE, CONTENT_TYPE, HeaderMap,
    HeaderName, HeaderValue, IF_RANGE, RANGE, TRANSFER_ENCODING,
};

use crate::audit::Layer;
use crate::authority::{Authority, Host};
use crate::charset;
use crate::fields::{has, remove};
use crate::hooks::{RequestFacts, Scheme};
use crate::refuse::{Kind, Refusal, Subject};
use crate::wire::head::Head;
use crate::wire::target::{Target, TargetError};

/// Where a request was read.
#[derive(Debug, Clone, Copy)]
pub enum Door<'a> {
    /// On a plain connection to the proxy: the target must be an absolute `http://` URL.
    Plain,
    /// Inside an intercepted connection to this authority: target and Host must agree with it.
    Inside(&'a Authority),
    /// Inside a connection to this authority, in the clear: target and Host must agree with it.
    InsidePlain(&'a Authority),
}

impl<'a> Door<'a> {
    /// Where the connection leads and how requests inside go out; `None` if each request says so itself.
    fn leads_to(self) -> Option<(Scheme, &'a Authority)> {
        match self {
            Self::Plain => None,
            Self::Inside(authority) => Some((Scheme::Https, authority)),
            Self::InsidePlain(authority) => Some((Scheme::Http, authority)),
        }
    }
}

/// A request that can be read in one way only.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// How it goes out.
    pub scheme: Scheme,
    /// Where to.
    pub authority: Authority,
    /// The method.
    pub method: Cow<'static, str>,
    /// Target without its authority.
    pub target: Target,
    /// It asks to become a WebSocket, with a handshake that was judged.
    pub websocket: bool,
}

impl Request {
    /// As the hooks see it.
    #[must_use]
    pub fn facts(&self) -> RequestFacts<'_> {
        RequestFacts {
            scheme: self.scheme,
            authority: &self.authority,
            method: &self.method,
            path: self.target.path.as_str(),
            query: self.target.query.as_deref(),
            websocket: self.websocket,
        }
    }

    /// As answers and audit records name it.
    #[must_use]
    pub fn subject(&self) -> Subject {
        Subject {
            scheme: Some(self.scheme),
            method: Some(self.method.clone()),
            path: Some(self.target.path.shared()),
            websocket: self.websocket,
            ..subject_of(&self.authority)
        }
    }
}

/// A method as answers and audit records name it; the usual ones are not copied.
#[must_use]
pub fn method_text(method: &str) -> Cow<'static, str> {
    const USUAL: [&str; 7] = ["GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS"];
    match USUAL.iter().find(|usual| **usual == method) {
        Some(usual) => Cow::Borrowed(usual),
        None => Cow::Owned(method.to_owned()),
    }
}

/// Host and port of an authority as a subject.
#[must_use]
pub fn subject_of(authority: &Authority) -> Subject {
    Subject { host: Some(authority.host().shared_text()), port: Some(authority.port()), ..Subject::default() }
}

/// What little is known of a request that was not understood.
fn subject_at(door: Door<'_>, method: &str) -> Subject {
    let method = Some(method_text(method));
    match door.leads_to() {
        None => Subject { scheme: Some(Scheme::Http), method, ..Subject::default() },
        Some((scheme, authority)) => Subject { scheme: Some(scheme), method, ..subject_of(authority) },
    }
}

/// Understands one request: `method`, `target` and `host` are what the head says.
///
/// # Errors
/// The refusal to answer with: malformed (400) or mismatch (421).
pub fn understand(
    door: Door<'_>,
    method: &str,
    target: Result<Target, TargetError>,
    host: Option<&str>,
) -> Result<Request, Box<Refusal>> {
    let refuse = |kind, detail: String| {
        Box::new(Refusal::new(kind, Layer::Http, detail).about(subject_at(door, method)))
    };
    let target = target.map_err(|error| refuse(Kind::Malformed, error.to_string()))?;
    let (scheme, authority) = match (door.leads_to(), &target.absolute) {
        (None, Some((Scheme::Http, authority))) => (Scheme::Http, authority.clone()),
        (None, Some((Scheme::Https, _))) => {
            return Err(refuse(Kind::Malformed, "https through this proxy needs CONNECT".to_owned()));
        }
        (None, None) => {
            let detail =
                "this is a proxy: the request target must be an absolute http:// URL, or use CONNECT";
            return Err(refuse(Kind::Malformed, detail.to_owned()));
        }
        (Some((scheme, inside)), None) => (scheme, inside.clone()),
        (Some(inside), Some((scheme, authority))) if inside == (*scheme, authority) => {
            (*scheme, authority.clone())
        }
        (Some(_), Some(_)) => {
            let detail = "the URL names another place than the connection leads to";
            return Err(refuse(Kind::AuthorityMismatch, detail.to_owned()));
        }
    };
    if let Some(host) = host
        // Most write it as we do.
        && !authority.is_host_header(host, scheme.default_port())
    {
        let named = Authority::parse(host, Some(scheme.default_port()))
            .map_err(|error| refuse(Kind::Malformed, format!("the Host field: {error}")))?;
        if named != authority {
            let detail = format!("the Host field names {named}, the connection is to {authority}");
            return Err(refuse(Kind::AuthorityMismatch, detail));
        }
    }
    Ok(Request { scheme, authority, method: method_text(method), target, websocket: false })
}

/// Understands the head of a `CONNECT`: the authority to connect to.
///
/// # Errors
/// Malformed (400) or mismatch (421).
pub fn understand_connect(head: &Head<'_>) -> Result<Authority, Box<Refusal>> {
    let refuse = |kind, detail: String| {
        let subject = Subject { method: Some("CONNECT".into()), ..Subject::default() };
        Box::new(Refusal::new(kind, Layer::Connect, detail).about(subject))
    };
    let authority = Authority::parse(head.target, None)
        .map_err(|error| refuse(Kind::Malformed, format!("the CONNECT target: {error}")))?;
    if let Some(host) = head.host {
        let named = Authority::parse(host, Some(authority.port()))
            .map_err(|error| refuse(Kind::Malformed, format!("the Host field: {error}")))?;
        // Tools that leave the port out of Host mean the target's; one that writes 443 means 443.
        if named != authority {
            let detail = format!("the Host field names {named}, CONNECT names {authority}");
            return Err(refuse(Kind::AuthorityMismatch, detail).into_about(&authority));
        }
    }
    Ok(authority)
}

trait IntoAbout {
    fn into_about(self, authority: &Authority) -> Self;
}

impl IntoAbout for Box<Refusal> {
    fn into_about(mut self, authority: &Authority) -> Self {
        self.subject = Subject { method: self.subject.method.take(), ..subject_of(authority) };
        self
    }
}

/// Whether the server name of a `ClientHello` agrees with where the connection leads. An address has none (RFC
/// 6066 §3); a name may be left out only where the certificate, and so the client, settles it.
///
/// # Errors
/// Mismatch (421), with the reason.
pub fn check_server_name(
    authority: &Authority,
    server_name: Option<&str>,
    required: bool,
) -> Result<(), Box<Refusal>> {
    let mismatch = |detail: String| {
        let subject = Subject { scheme: Some(Scheme::Https), ..subject_of(authority) };
        Err(Box::new(Refusal::new(Kind::AuthorityMismatch, Layer::Tls, detail).about(subject)))
    };
    match (server_name, authority.host()) {
        (None, Host::Name(_)) if required => mismatch("the TLS handshake names no server".to_owned()),
        (None, _) => Ok(()),
        (Some(name), host) => match Host::parse(name) {
            Ok(named) if named == *host => Ok(()),
            Ok(named) => {
                mismatch(format!("the TLS handshake names {named}, the connection is to {authority}"))
            }
            Err(_) => mismatch("the TLS handshake names something that is not a host".to_owned()),
        },
    }
}

/// Removes hop-by-hop fields: those of RFC 9110 §7.6.1, those `Connection` lists, and our own.
pub fn strip_hop_by_hop(headers: &mut HeaderMap) {
    // Most heads have none, and looking costs less than ten searches.
    if !headers.keys().any(is_hop_by_hop) {
        return;
    }
    let listed = headers
        .get_all(CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .filter_map(|option| option.trim().parse().ok());
    let here = headers.keys().filter(|name| is_hop_by_hop(name)).cloned();
    let gone: Vec<HeaderName> = listed.chain(here).collect();
    for name in gone {
        headers.remove(name);
    }
}

fn is_hop_by_hop(name: &HeaderName) -> bool {
    const ALL: [&str; 10] = [
        "connection",
        "proxy-authenticate",
        "proxy-authorization",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
        "keep-alive",
        "proxy-connection",
        "http2-settings",
    ];
    ALL.contains(&name.as_str())
}

/// The field, if there is one, that asks a server for another method or path than the one that is judged: many
/// frameworks act on these. To some of them `_` in a name is `-` (CGI, RFC 3875 §4.1.18).
#[must_use]
pub fn overriding_field(headers: &HeaderMap) -> Option<&HeaderName> {
    headers.keys().find(|name| is_overriding(name))
}

/// Whether a field asks for another method or path.
#[must_use]
pub fn is_overriding(name: &HeaderName) -> bool {
    const FIELDS: [&str; 5] =
        ["x-http-method-override", "x-http-method", "x-method-override", "x-original-url", "x-rewrite-url"];
    let folded = name.as_str().bytes().map(|byte| if byte == b'_' { b'-' } else { byte });
    FIELDS.iter().any(|field| field.bytes().eq(folded.clone()))
}

/// Fields of a request whose answer will be searched for secrets: nothing that is encoded otherwise than as a whole, and no
/// ranges that deliver secrets in halves unless `parts` are allowed. What it may be encoded in is said by
/// `coding::accept_only_decodable`.
pub fn make_redactable(headers: &mut HeaderMap, parts: bool) {
    // Characters that are not looked for, differences (RFC 3229), and each message of gRPC and of Connect for itself.
    const WITHIN: [HeaderName; 4] = [
        ACCEPT_CHARSET,
        HeaderName::from_static("a-im"),
        HeaderName::from_static("grpc-accept-encoding"),
        HeaderName::from_static("connect-accept-encoding"),
    ];
    WITHIN.iter().for_each(|name| remove(headers, name));
    if !parts {
        remove(headers, &RANGE);
        remove(headers, &IF_RANGE);
    } else if has(headers, &RANGE) {
        // A part of what is encoded cannot be decoded.
        remove(headers, &ACCEPT_ENCODING);
    }
}

/// Whether a response that [`is_encoded_as_a_whole`] at most can be searched as it comes.
#[must_use]
pub fn is_redactable(headers: &HeaderMap) -> bool {
    is_only(headers, &CONTENT_ENCODING, "identity")
}

/// Whether a response is encoded by nothing but its content coding: not on its way (RFC 9112 §7), nor in each message of
/// gRPC or Connect, nor as a difference (RFC 3229), nor in characters that a key is not looked for in.
#[must_use]
pub fn is_encoded_as_a_whole(headers: &HeaderMap) -> bool {
    const WITHIN: [HeaderName; 3] = [
        HeaderName::from_static("im"),
        HeaderName::from_static("grpc-encoding"),
        HeaderName::from_static("connect-content-encoding"),
    ];
    is_only(headers, &TRANSFER_ENCODING, "chunked")
        && WITHIN.iter().all(|name| is_only(headers, name, "identity"))
        && headers
            .get_all(CONTENT_TYPE)
            .iter()
            .all(|value| charset::has_known_characters(&String::from_utf8_lossy(value.as_bytes())))
}

/// Whether a field says nothing but this, if it is there at all.
fn is_only(headers: &HeaderMap, name: &HeaderName, coding: &str) -> bool {
    let is_that = |value: &HeaderValue| value.as_bytes().eq_ignore_ascii_case(coding.as_bytes());
    !has(headers, name) || headers.get_all(name).iter().all(is_that)
}

/// Whether a response is, or says that it is, a part of something (RFC 9110 §15.3.7; a 416 tells the length of the whole).
#[must_use]
pub fn is_part(status: StatusCode, headers: &HeaderMap) -> bool {
    let says_so = has(headers, &CONTENT_RANGE) && status != StatusCode::RANGE_NOT_SATISFIABLE;
    status == StatusCode::PARTIAL_CONTENT || says_so
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn inside() -> Authority {
        Authority::parse("api.example:443", None).unwrap()
    }

    #[test]
    fn host_must_agree_with_connect() {
        let authority = inside();
        let door = Door::Inside(&authority);
        for (target, host, kind) in [
            ("/v1", Some("api.example"), None),
            ("/v1", Some("API.example.:443"), None),
            ("https://api.example/v1", Some("api.example"), None),
            ("/v1", Some("api.example:8443"), Some(Kind::AuthorityMismatch)),
            ("/v1", Some("other.example"), Some(Kind::AuthorityMismatch)),
            ("http://api.example/v1", Some("api.example"), Some(Kind::AuthorityMismatch)),
            ("https://other.example/v1", Some("api.example"), Some(Kind::AuthorityMismatch)),
            ("/v1", Some("a@api.example"), Some(Kind::Malformed)),
            ("*", Some("api.example"), Some(Kind::Malformed)),
            ("/../v1", Some("api.example"), Some(Kind::Malformed)),
        ] {
            let got = understand(door, "GET", Target::parse(target), host).err().map(|refusal| refusal.kind);
            assert_eq!(got, kind, "{target} {host:?}");
        }
    }

    #[test]
    fn a_plain_request_needs_an_absolute_http_url_that_agrees_with_host() {
        for (target, host, kind) in [
            ("http://a.example/x?y", Some("a.example"), None),
            ("http://a.example:80", Some("a.example"), None),
            ("HTTP://A.example:8080/", Some("a.example:8080"), None),
            ("http://a.example:8080/", Some("a.example"), Some(Kind::AuthorityMismatch)),
            ("http://a.example/", Some("b.example"), Some(Kind::AuthorityMismatch)),
            ("https://a.example/", Some("a.example"), Some(Kind::Malformed)),
            ("/x", Some("a.example"), Some(Kind::Malformed)),
            ("ftp://a.example/", Some("a.example"), Some(Kind::Malformed)),
            ("http://u:p@a.example/", Some("a.example"), Some(Kind::Malformed)),
        ] {
            let got =
                understand(Door::Plain, "GET", Target::parse(target), host).err().map(|refusal| refusal.kind);
            assert_eq!(got, kind, "{target} {host:?}");
        }
    }

    #[test]
    fn the_server_name_must_agree_with_connect() {
        let name = inside();
        let address = Authority::parse("192.0.2.1:443", None).unwrap();
        for (authority, server_name, required, agrees) in [
            (&name, Some("api.example"), true, true),
            (&name, Some("API.EXAMPLE"), true, true),
            (&name, Some("other.example"), true, false),
            (&name, Some("api.example\0.evil"), true, false),
            (&name, None, true, false),
            (&name, None, false, true),
            (&address, None, true, true),
            (&address, Some("api.example"), true, false),
        ] {
            let got = check_server_name(authority, server_name, required).is_ok();
            assert_eq!(got, agrees, "{authority} {server_name:?} {required}");
        }
    }

    #[test]
    fn hop_by_hop_fields_go_and_others_stay() {
        let mut headers = HeaderMap::new();
        for (name, value) in
            [("connection", "close, X-Drop"), ("x-drop", "1"), ("te", "trailers"), ("x-keep", "1")]
        {
            headers.insert(name, HeaderValue::from_static(value));
        }
        strip_hop_by_hop(&mut headers);
        assert_eq!(headers.keys().map(HeaderName::as_str).collect::<Vec<_>>(), ["x-keep"]);
        // Each goes also where it is the only one.
        for name in [
            "connection",
            "proxy-authenticate",
            "proxy-authorization",
            "te",
            "trailer",
            "transfer-encoding",
            "upgrade",
            "keep-alive",
            "proxy-connection",
            "http2-settings",
        ] {
            headers.insert(HeaderName::from_static(name), HeaderValue::from_static("1"));
            strip_hop_by_hop(&mut headers);
            assert_eq!(headers.keys().map(HeaderName::as_str).collect::<Vec<_>>(), ["x-keep"], "{name}");
        }
    }
}
