//! Patterns of hosts, methods and paths to which a credential is bound. Exact bytes, allow-list only:
//! whatever is unusual does not match, so the worst outcome is a request without its credential.

use std::fmt;
use std::str::FromStr;

/// Why a pattern was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PatternError {
    /// Not a canonical host, nor `*.` and one.
    #[error(
        "host pattern is not canonical: write lower-case A-labels (`api.example.com`), `*.example.com` for one label, or an IP address"
    )]
    Host,
    /// A path pattern must begin with `/` and be free of dot segments, queries and escapes of `/`.
    #[error(
        "path pattern is not canonical: begin with `/`, use `*` for one segment and a last `**` for the rest"
    )]
    Path,
    /// A method is a token (RFC 9110 §9.1).
    #[error("method is not a token: write it as it is sent, for example `POST`")]
    Method,
}

/// A host: exact, or `*.example.com` for exactly one label in front.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostPattern {
    text: String,
    one_label: bool,
}

impl HostPattern {
    /// Whether `host`, which must be canonical, is meant.
    #[must_use]
    pub fn matches(&self, host: &str) -> bool {
        if !self.one_label {
            return host == self.text;
        }
        host.split_once('.').is_some_and(|(label, rest)| is_label(label) && rest == self.text)
    }
}

impl FromStr for HostPattern {
    type Err = PatternError;

    fn from_str(text: &str) -> Result<Self, PatternError> {
        let (host, one_label) = text.strip_prefix("*.").map_or((text, false), |rest| (rest, true));
        let is_ip = host.parse::<std::net::IpAddr>().is_ok_and(|ip| ip.to_string() == host);
        let all_digits_last =
            host.rsplit('.').next().is_some_and(|label| label.bytes().all(|b| b.is_ascii_digit()));
        let is_name = host.len() <= 253 && !all_digits_last && host.split('.').all(is_label);
        if (is_ip && !one_label) || (is_name && !is_ip && (!one_label || host.contains('.'))) {
            return Ok(Self { text: host.to_owned(), one_label });
        }
        Err(PatternError::Host)
    }
}

impl fmt::Display for HostPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", if self.one_label { "*." } else { "" }, self.text)
    }
}

/// Labels of RFC 1123 §2.1, and `_` since names of services have it; lower case only.
fn is_label(label: &str) -> bool {
    (1..=63).contains(&label.len())
        && label.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-' || b == b'_')
        && !label.starts_with('-')
        && !label.ends_with('-')
}

/// A path: segments, `*` for any one segment, a last `**` for any rest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PathPattern(String);

impl PathPattern {
    /// Whether `path` (without query) is meant. A path that a server might read as another one, such as
    /// with dot segments or `%2f`, is never meant.
    #[must_use]
    pub fn matches(&self, path: &str) -> bool {
        if !is_plain_path(path) {
            return false;
        }
        let mut segments = path.split('/');
        for wanted in self.0.split('/') {
            if wanted == "**" {
                return segments.next().is_some();
            }
            match segments.next() {
                Some(segment) if wanted == segment || (wanted == "*" && !segment.is_empty()) => {}
                _ => return false,
            }
        }
        segments.next().is_none()
    }
}

impl FromStr for PathPattern {
    type Err = PatternError;

    fn from_str(text: &str) -> Result<Self, PatternError> {
        let rest_only_last = text.find("**").is_none_or(|at| text.ends_with("/**") && at + 2 == text.len());
        let stars_alone =
            text.split('/').all(|segment| !segment.contains('*') || segment == "*" || segment == "**");
        if is_plain_path(text) && !text.contains('?') && rest_only_last && stars_alone {
            return Ok(Self(text.to_owned()));
        }
        Err(PatternError::Path)
    }
}

impl fmt::Display for PathPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Whether every server reads this path alike: visible ASCII, no dot segments, no backslash, no escape of
/// a dot, a slash, a backslash or a percent sign (double encoding), no `;` parameters.
fn is_plain_path(path: &str) -> bool {
    const ESCAPES: [&str; 4] = ["%2e", "%2f", "%5c", "%25"];
    let lower = path.to_ascii_lowercase();
    path.starts_with('/')
        && path.bytes().all(|b| b.is_ascii_graphic() && !matches!(b, b'\\' | b'#' | b';'))
        && !ESCAPES.iter().any(|escape| lower.contains(escape))
        && !path.split('/').any(|segment| segment == "." || segment == "..")
}

/// A method, in the case it is sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Method(String);

impl Method {
    /// Whether `method` is this one; case matters (RFC 9110 §9.1).
    #[must_use]
    pub fn matches(&self, method: &str) -> bool {
        self.0 == method
    }
}

impl fmt::Display for Method {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for Method {
    type Err = PatternError;

    fn from_str(text: &str) -> Result<Self, PatternError> {
        if is_http_token(text) { Ok(Self(text.to_owned())) } else { Err(PatternError::Method) }
    }
}

/// A token of RFC 9110 §5.6.2.
pub(crate) fn is_http_token(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b))
}

/// A list that says openly whether it is a limit: an empty list allows nothing, "any" has to be written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Allowed<T> {
    /// Everything.
    Any,
    /// These only.
    Only(Vec<T>),
}

impl<T> Allowed<T> {
    /// Whether everything, or one of the list, matches.
    pub(crate) fn allows(&self, matches: impl FnMut(&T) -> bool) -> bool {
        match self {
            Self::Any => true,
            Self::Only(list) => list.iter().any(matches),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_match_exactly_or_one_label_in_front() {
        let exact: HostPattern = "api.example.com".parse().unwrap();
        let wild: HostPattern = "*.example.com".parse().unwrap();
        for (host, is_exact, is_wild) in [
            ("api.example.com", true, true),
            ("www.example.com", false, true),
            ("example.com", false, false),
            (".example.com", false, false),
            ("a.b.example.com", false, false),
            ("API.example.com", false, false),
            ("api.example.com.", false, false),
            ("evilexample.com", false, false),
        ] {
            assert_eq!((exact.matches(host), wild.matches(host)), (is_exact, is_wild), "{host}");
        }
    }

    #[test]
    fn host_patterns_must_be_canonical() {
        for good in
            ["localhost", "127.0.0.1", "::1", "*.example.com", "xn--bcher-kva.example", "_x.example.org"]
        {
            assert_eq!(good.parse::<HostPattern>().unwrap().to_string(), good);
        }
        for bad in [
            "",
            "*",
            "*.com",
            "*.*.com",
            "A.com",
            "a.com.",
            "bücher.example",
            "[::1]",
            "0x7f.1",
            "127.1",
            "*.127.0.0.1",
            "a..b",
            "-a.com",
            "a b.com",
            "a.com:443",
            "https://a.com",
            "0:0:0:0:0:0:0:1",
            "1.2.3.04",
        ] {
            assert_eq!(bad.parse::<HostPattern>().unwrap_err(), PatternError::Host, "{bad}");
        }
    }

    #[test]
    fn paths_match_by_segment_and_odd_paths_never() {
        for (pattern, path, expected) in [
            ("/v1/messages", "/v1/messages", true),
            ("/v1/messages", "/v1/messages/", false),
            ("/v1/*", "/v1/messages", true),
            ("/v1/*", "/v1/", false),
            ("/v1/*", "/v1/a/b", false),
            ("/v1/**", "/v1/a/b", true),
            ("/v1/**", "/v1/", true),
            ("/v1/**", "/v1", false),
            ("/v1/**", "/v10/a", false),
            ("/**", "/", true),
            ("/v1/**", "/v1/../admin", false),
            ("/v1/**", "/v1/%2e%2E/admin", false),
            ("/v1/**", "/v1/..%2fadmin", false),
            ("/v1/**", "/v1/%252e%252e/admin", false),
            ("/v1/**", "/v1/..;/admin", false),
            ("/v1/**", "/v1/..\\admin", false),
            ("/v1/**", "/v1/\u{e9}", false),
            ("/v1/**", "v1/a", false),
        ] {
            assert_eq!(pattern.parse::<PathPattern>().unwrap().matches(path), expected, "{pattern} {path}");
        }
        for bad in ["", "v1", "/v1/**/x", "/v1**", "/a*b", "/a/../b", "/a?b", "/%2f", "/a/***"] {
            assert_eq!(bad.parse::<PathPattern>().unwrap_err(), PatternError::Path, "{bad}");
        }
    }

    #[test]
    fn an_empty_list_allows_nothing() {
        assert!(!Allowed::<Method>::Only(Vec::new()).allows(|_| true));
        assert!(Allowed::<Method>::Any.allows(|_| false));
        assert!("POST".parse::<Method>().unwrap().matches("POST"));
        assert!(!"POST".parse::<Method>().unwrap().matches("post"));
        assert!("GET /".parse::<Method>().is_err());
    }
}
