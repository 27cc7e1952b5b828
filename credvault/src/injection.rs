//! How a credential gets into a request: a header of its own, Basic authentication, or in place of the
//! placeholder that the client sent.
//!
//! Must never leave another authentication header beside the one it sets, and never touch a header that
//! it does not name.

use std::str::FromStr;

use zeroize::Zeroizing;

use crate::encode::{base64_decode, base64_padded};
use crate::limits::{BASIC_VALUE_BYTES_MAX, REPLACED_PLACES_MAX};
use crate::matching::is_http_token;
use crate::sign::HmacTemplate;

/// Headers in which clients send credentials. On a request that gets a credential of ours, the client's
/// own are removed: a server might prefer a stale key that the client found in a file. So are those that differ in `_` for
/// `-`, which is one to many servers (CGI, RFC 3875 §4.1.18).
pub const AUTH_HEADERS: [&str; 9] = [
    "authorization",
    "x-api-key",
    "api-key",
    "x-goog-api-key",
    "x-auth-token",
    "x-access-token",
    "private-token",
    "job-token",
    "deploy-token",
];

/// Parameters of the query in which clients send credentials, removed with [`AUTH_HEADERS`]: GitLab and others prefer them.
/// Only names that are never anything else; letters alone, as servers read the rest in many ways (`private_token`,
/// `[access.token]`, `api-key`).
pub const AUTH_PARAMETERS: [&str; 6] =
    ["accesstoken", "privatetoken", "jobtoken", "oauthtoken", "authtoken", "apikey"];

/// How a credential is put into a request. Written in a service table as `authorization: Bearer {}`,
/// `basic USER`, `replace`, `replace: HEADER, HEADER`, `query: PARAMETER`, `body`, `aws-sigv4`, or
/// `hmac-sha256 …` (see [`HmacTemplate`]).
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Injection {
    /// A header, set on every request to the endpoint, with the secret between two fixed texts.
    Header {
        /// Lower-case name.
        name: String,
        /// Text before the secret, such as `Bearer `.
        before: String,
        /// Text after the secret.
        after: String,
    },
    /// `authorization: Basic base64(user:secret)` (RFC 7617), set on every request to the endpoint.
    Basic {
        /// User name, without colon.
        user: String,
    },
    /// The secret takes the place of its placeholder, inside Basic too. A request without the placeholder
    /// is left alone.
    Replace {
        /// Where; elsewhere the placeholder stays, so that a key never lands in a log of user agents.
        headers: Replaceable,
    },
    /// A parameter of the query, set on every request. Only for services that know no other way: URLs are
    /// logged.
    Query {
        /// Its name.
        parameter: String,
    },
    /// The secret takes the place of its placeholder in the body ([`crate::Vault::replace_in_body`]).
    Body,
    /// The client's AWS Signature V4, made with placeholders, is made anew with the real keys. It covers `host` as the
    /// target says it, without the scheme's own port: that is how it has to be sent.
    AwsSigV4,
    /// A signature by template, set on every request.
    Hmac(HmacTemplate),
}

/// The headers in which a placeholder is replaced.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Replaceable {
    /// Those whose name says that they carry a credential: it contains `auth`, `key`, `token`, `secret`,
    /// `password` or `credential` (`authorization`, `dd-api-key`, `x-figma-token`, …). Not those that servers keep and
    /// show to whoever may read what was sent: `x-amz-meta-…`, `x-goog-meta-…`, `x-object-meta-…`,
    /// `idempotency-key` and customers' encryption keys.
    CredentialHeaders,
    /// These; lower-case names.
    Named(Vec<String>),
}

impl Replaceable {
    /// Whether a placeholder in the header of this name is replaced.
    #[must_use]
    pub fn contains(&self, header: &[u8]) -> bool {
        const WORDS: [&[u8]; 6] = [b"auth", b"key", b"token", b"secret", b"password", b"credential"];
        const KEPT: [&[u8]; 4] = [b"-meta-", b"idempotency", b"customer-key", b"websocket-key"];
        let is = |name: &str| name.as_bytes().eq_ignore_ascii_case(header);
        match self {
            Self::Named(names) => names.iter().any(|name| is(name)),
            Self::CredentialHeaders => {
                let says =
                    |word: &[u8]| header.windows(word.len()).any(|part| part.eq_ignore_ascii_case(word));
                WORDS.iter().any(|word| says(word))
                    && !KEPT.iter().any(|word| says(word))
                    && !FORBIDDEN_HEADERS.iter().any(|name| is(name))
            }
        }
    }
}

/// Why a text does not describe an injection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum InjectionError {
    /// Not one of the forms.
    #[error(
        "injection is not understood: write `HEADER: TEXT {{}}`, `basic USER`, `replace`, `replace: HEADER, …`, `query: PARAMETER`, `body`, `aws-sigv4` or `hmac-sha256 …`"
    )]
    Form,
    /// Not exactly one place for the secret.
    #[error("injection needs exactly one `{{}}`, where the secret goes")]
    Place,
    /// Not a header name.
    #[error("injection names a header that is none: use a token such as `authorization`")]
    HeaderName,
    /// Framing, routing and hop-by-hop headers decide where a request goes and where it ends.
    #[error(
        "injection into this header would change where the request goes or ends: use an authentication header"
    )]
    HeaderForbidden,
    /// A control character in the fixed text or in the user name.
    #[error("injection has a control character or a colon in its fixed text: remove it")]
    Text,
}

impl Injection {
    /// `authorization: Bearer SECRET`, the most common form.
    #[must_use]
    pub fn bearer() -> Self {
        Self::Header { name: "authorization".to_owned(), before: "Bearer ".to_owned(), after: String::new() }
    }

    /// Replacement in every header whose name says that it carries a credential.
    #[must_use]
    pub fn replace() -> Self {
        Self::Replace { headers: Replaceable::CredentialHeaders }
    }

    /// Whether the value itself goes into the request. A signature is made with it, and does not tell it.
    pub(crate) fn sends_value(&self) -> bool {
        !matches!(self, Self::AwsSigV4 | Self::Hmac(_))
    }

    /// Whether a request without the placeholder gets the credential too.
    pub(crate) fn is_unasked(&self) -> bool {
        !matches!(self, Self::Replace { .. } | Self::Body | Self::AwsSigV4)
    }

    /// Whether the body can matter to it.
    pub(crate) fn may_need_body(&self) -> bool {
        matches!(self, Self::Body | Self::AwsSigV4 | Self::Hmac(_))
    }

    /// Whether the query is a place where the client may put the placeholder.
    pub(crate) fn reads_query(&self) -> bool {
        matches!(self, Self::Query { .. } | Self::AwsSigV4)
    }

    /// Name and value of the header to set; `None` where it is not one header.
    pub(crate) fn header(&self, secret: &[u8]) -> Option<(&str, Zeroizing<Vec<u8>>)> {
        match self {
            Self::Header { name, before, after } => {
                Some((name, joined(&[before.as_bytes(), secret, after.as_bytes()])))
            }
            Self::Basic { user } => {
                let pair = joined(&[user.as_bytes(), b":", secret]);
                Some(("authorization", joined(&[b"Basic ", &base64_padded(&pair)])))
            }
            _ => None,
        }
    }

    /// The value with every placeholder replaced; `None` if there is none in it.
    pub(crate) fn replaced(value: &[u8], placeholder: &[u8], secret: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
        if let Some(plain) = replace_all(value, placeholder, secret) {
            return Some(plain);
        }
        let (scheme, credentials) = value.split_first_chunk::<6>()?;
        if !scheme.eq_ignore_ascii_case(b"basic ") || credentials.len() > BASIC_VALUE_BYTES_MAX {
            return None;
        }
        let pair = base64_decode(credentials.trim_ascii())?;
        let pair = replace_all(&pair, placeholder, secret)?;
        Some(joined(&[b"Basic ", &base64_padded(&pair)]))
    }
}

impl FromStr for Injection {
    type Err = InjectionError;

    fn from_str(text: &str) -> Result<Self, InjectionError> {
        match text {
            "replace" => return Ok(Self::replace()),
            "body" => return Ok(Self::Body),
            "aws-sigv4" => return Ok(Self::AwsSigV4),
            _ if text.starts_with("hmac-sha256 ") => return Ok(Self::Hmac(text.parse()?)),
            _ => {}
        }
        if let Some(user) = text.strip_prefix("basic ") {
            let good = !user.is_empty() && !user.contains(':') && is_visible(user);
            return if good { Ok(Self::Basic { user: user.to_owned() }) } else { Err(InjectionError::Text) };
        }
        let (name, rest) = text.split_once(':').ok_or(InjectionError::Form)?;
        let rest = rest.trim_start_matches(' ');
        if name == "replace" {
            let headers =
                rest.split(',').map(|header| header_name(header.trim())).collect::<Result<_, _>>()?;
            return Ok(Self::Replace { headers: Replaceable::Named(headers) });
        }
        if name == "query" && !rest.contains("{}") {
            let good = is_http_token(rest) && !rest.contains(['&', '%', '+']);
            let parameter = rest.to_owned();
            return if good { Ok(Self::Query { parameter }) } else { Err(InjectionError::Text) };
        }
        let name = header_name(name)?;
        let (before, after) = rest.split_once("{}").ok_or(InjectionError::Place)?;
        if after.contains("{}") {
            return Err(InjectionError::Place);
        }
        if !is_visible(before) || !is_visible(after) {
            return Err(InjectionError::Text);
        }
        Ok(Self::Header { name, before: before.to_owned(), after: after.to_owned() })
    }
}

/// Headers no credential belongs into (RFC 9110 §7.6.1, RFC 9112 §6).
const FORBIDDEN_HEADERS: [&str; 11] = [
    "host",
    "connection",
    "content-length",
    "transfer-encoding",
    "te",
    "trailer",
    "upgrade",
    "keep-alive",
    "expect",
    "proxy-authorization",
    "proxy-connection",
];

pub(crate) fn header_name(text: &str) -> Result<String, InjectionError> {
    if !is_http_token(text) {
        return Err(InjectionError::HeaderName);
    }
    let name = text.to_ascii_lowercase();
    if FORBIDDEN_HEADERS.contains(&name.as_str()) { Err(InjectionError::HeaderForbidden) } else { Ok(name) }
}

fn is_visible(text: &str) -> bool {
    text.bytes().all(|byte| byte == b' ' || byte.is_ascii_graphic())
}

/// One buffer of exactly the right size, so that nothing is left behind by growing.
pub(crate) fn joined(parts: &[&[u8]]) -> Zeroizing<Vec<u8>> {
    let len = parts.iter().map(|part| part.len()).sum();
    let mut out = Zeroizing::new(Vec::with_capacity(len));
    parts.iter().for_each(|part| out.extend_from_slice(part));
    out
}

/// The first [`REPLACED_PLACES_MAX`] of them: a guest that writes more does not make them longer on the host.
pub(crate) fn replace_all(text: &[u8], from: &[u8], to: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
    let mut parts: Vec<&[u8]> = Vec::new();
    let mut rest = text;
    while parts.len() < 2 * REPLACED_PLACES_MAX
        && let Some(at) = rest.windows(from.len().max(1)).position(|window| window == from)
    {
        let (before, after) = rest.split_at_checked(at)?;
        parts.extend([before, to]);
        rest = after.get(from.len()..)?;
    }
    if parts.is_empty() {
        return None;
    }
    parts.push(rest);
    Some(joined(&parts))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(text: &str, secret: &str) -> (String, String) {
        let injection: Injection = text.parse().unwrap();
        let (name, value) = injection.header(secret.as_bytes()).unwrap();
        (name.to_owned(), String::from_utf8(value.to_vec()).unwrap())
    }

    #[test]
    fn headers_are_built_from_their_template() {
        assert_eq!(set("x-api-key: {}", "K"), ("x-api-key".into(), "K".into()));
        assert_eq!(set("Authorization: Bearer {}", "K"), ("authorization".into(), "Bearer K".into()));
        assert_eq!(set("authorization: token={};v=1", "K").1, "token=K;v=1");
        // RFC 7617 §2.
        assert_eq!(set("basic Aladdin", "open sesame").1, "Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ==");
    }

    #[test]
    fn bad_descriptions_are_refused_with_their_reason() {
        for (text, error) in [
            ("", InjectionError::Form),
            ("bearer", InjectionError::Form),
            ("authorization: Bearer", InjectionError::Place),
            ("authorization: {} {}", InjectionError::Place),
            ("x y: {}", InjectionError::HeaderName),
            ("replace: x-a, ", InjectionError::HeaderName),
            ("Host: {}", InjectionError::HeaderForbidden),
            ("replace: content-length", InjectionError::HeaderForbidden),
            ("authorization: a\r\nb {}", InjectionError::Text),
            ("basic a:b", InjectionError::Text),
            ("basic ", InjectionError::Text),
        ] {
            assert_eq!(text.parse::<Injection>().unwrap_err(), error, "{text:?}");
        }
    }

    #[test]
    fn a_headers_name_says_whether_it_carries_a_credential() {
        let Injection::Replace { headers } = Injection::replace() else { panic!("a replacement") };
        for name in AUTH_HEADERS.into_iter().chain(["DD-API-KEY", "X-Figma-Token", "x-shopify-access-token"])
        {
            assert!(headers.contains(name.as_bytes()), "{name}");
        }
        for name in ["user-agent", "referer", "cookie", "x-request-id", "host", "proxy-authorization", ""] {
            assert!(!headers.contains(name.as_bytes()), "{name}");
        }
        // What a server keeps, and whoever owns the place can read.
        for name in [
            "x-goog-meta-token",
            "x-amz-meta-api-key",
            "X-Object-Meta-Auth",
            "Idempotency-Key",
            "x-amz-server-side-encryption-customer-key",
        ] {
            assert!(!headers.contains(name.as_bytes()), "{name}");
        }
        let Ok(Injection::Replace { headers }) = "replace: X-Mine, x-other".parse() else {
            panic!("a replacement")
        };
        assert!(
            headers.contains(b"X-MINE")
                && headers.contains(b"x-other")
                && !headers.contains(b"authorization")
        );
    }

    #[test]
    fn replaces_in_the_open_and_inside_basic() {
        let replaced = |value: &[u8]| Injection::replaced(value, b"sbx-P", b"REAL").map(|v| v.to_vec());
        assert_eq!(replaced(b"Bearer sbx-P").unwrap(), b"Bearer REAL");
        assert_eq!(replaced(b"sbx-P,sbx-P;").unwrap(), b"REAL,REAL;");
        let many = replaced(&b"sbx-P".repeat(100)).unwrap();
        assert_eq!(
            many,
            [b"REAL".repeat(REPLACED_PLACES_MAX), b"sbx-P".repeat(100 - REPLACED_PLACES_MAX)].concat()
        );
        let basic = joined(&[b"bAsIc ", &base64_padded(b"x-access-token:sbx-P")]);
        let expected = joined(&[b"Basic ", &base64_padded(b"x-access-token:REAL")]);
        assert_eq!(replaced(&basic).unwrap(), expected.to_vec());
        assert!(replaced(b"Bearer other").is_none());
        assert!(replaced(b"Basic !!!").is_none());
        assert!(replaced(b"").is_none());
    }
}
