//! Which fields may come after a body (RFC 9110 §6.5.1): those that say something about the content that was
//! just sent, such as `grpc-status`. A field that frames, routes, authenticates or controls is never one, and
//! is dropped: merged into the head by a careless receiver it would undo what was judged.

use http::HeaderName;
use http::header::{self, HeaderMap, HeaderValue};

use crate::fields::has;
use crate::flow::{is_overriding, strip_hop_by_hop};
use crate::refuse::strip_forged_proxy_status;

/// Fields that are never trailers: framing, routing, authentication, request modifiers, response control,
/// and those needed to read the content.
fn is_banned(name: &HeaderName) -> bool {
    const BANNED: [HeaderName; 30] = [
        header::ACCEPT_RANGES,
        header::AGE,
        header::ALT_SVC,
        header::AUTHORIZATION,
        header::CACHE_CONTROL,
        header::CONTENT_ENCODING,
        header::CONTENT_LENGTH,
        header::CONTENT_LOCATION,
        header::CONTENT_RANGE,
        header::CONTENT_TYPE,
        header::COOKIE,
        header::DATE,
        header::EXPECT,
        header::EXPIRES,
        header::FORWARDED,
        header::HOST,
        header::LOCATION,
        header::MAX_FORWARDS,
        header::PRAGMA,
        header::RANGE,
        header::REFRESH,
        header::RETRY_AFTER,
        header::SET_COOKIE,
        header::STRICT_TRANSPORT_SECURITY,
        header::VARY,
        header::WARNING,
        header::WWW_AUTHENTICATE,
        HeaderName::from_static("content_length"),
        HeaderName::from_static("transfer_encoding"),
        HeaderName::from_static("x-should-retry"),
    ];
    let name_is = |how: fn(&str) -> bool| how(name.as_str());
    BANNED.contains(name)
        || is_overriding(name)
        || name_is(|name| name.starts_with("if-") || name.starts_with("x-forwarded-"))
        // `x-api-key`, `private-token`, `x-auth-token`, …
        || name_is(|name| name.contains("auth") || name.ends_with("-key") || name.ends_with("-token"))
}

/// Removes what may not be there.
pub fn clean(trailers: &mut HeaderMap) {
    strip_hop_by_hop(trailers);
    strip_forged_proxy_status(trailers);
    let banned: Vec<HeaderName> = trailers.keys().filter(|name| is_banned(name)).cloned().collect();
    for name in banned {
        trailers.remove(name);
    }
}

/// The fields that are announced as trailers (`Trailer`) without those that [`clean`] would remove. Their values mean
/// nothing.
#[must_use]
pub fn announced(headers: &HeaderMap) -> HeaderMap {
    let mut names = HeaderMap::new();
    if !has(headers, &header::TRAILER) {
        return names;
    }
    let values = headers.get_all(header::TRAILER).iter().filter_map(|value| value.to_str().ok());
    for name in values.flat_map(|value| value.split(',')) {
        if let Ok(name) = HeaderName::from_bytes(name.trim().as_bytes()) {
            // More than a map takes are not announced.
            let _ = names.try_insert(name, HeaderValue::from_static("x"));
        }
    }
    clean(&mut names);
    names
}

/// The announcement of these fields; `None` if there are none.
#[must_use]
pub fn announcement(names: &HeaderMap) -> Option<HeaderValue> {
    let mut names = names.keys().map(HeaderName::as_str);
    let first = names.next()?.to_owned();
    HeaderValue::from_str(&names.fold(first, |whole, name| whole + ", " + name)).ok()
}

/// What a request says about trailers. It is hop-by-hop, so we say it anew.
pub struct Trailers {
    /// The client takes them: `TE: trailers`.
    wanted: bool,
    announced: Option<HeaderValue>,
}

impl Trailers {
    /// Of the head of a request, before what is hop-by-hop is taken out.
    #[must_use]
    pub fn of(headers: &HeaderMap) -> Self {
        let mut te = headers.get_all(header::TE).iter().filter_map(|value| value.to_str().ok());
        let is_it = |te: &str| te.split(',').any(|te| te.trim().eq_ignore_ascii_case("trailers"));
        let wanted = has(headers, &header::TE) && te.any(is_it);
        Self { wanted, announced: announcement(&announced(headers)) }
    }

    /// Says it in the head that goes up.
    pub fn put(self, headers: &mut HeaderMap) {
        if self.wanted {
            headers.insert(header::TE, HeaderValue::from_static("trailers"));
            // RFC 9110 §10.1.4: whoever sends TE lists it.
            headers.insert(header::CONNECTION, HeaderValue::from_static("te"));
        }
        if let Some(announced) = self.announced {
            headers.insert(header::TRAILER, announced);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_that_steer_are_dropped_and_others_stay() {
        let mut trailers = HeaderMap::new();
        for name in [
            "grpc-status",
            "x-checksum",
            "etag",
            "content-length",
            "host",
            "authorization",
            "set-cookie",
            "te",
            "connection",
            "trailer",
            "if-match",
            "x-http-method-override",
            "x-api-key",
            "private-token",
            "x-auth-user",
            "content-type",
            "location",
            "x-forwarded-for",
            "transfer_encoding",
        ] {
            trailers.insert(name, HeaderValue::from_static("1"));
        }
        trailers.insert("proxy-status", HeaderValue::from_static("agent-sandbox; error=x"));
        clean(&mut trailers);
        let mut left: Vec<&str> = trailers.keys().map(HeaderName::as_str).collect();
        left.sort_unstable();
        assert_eq!(left, ["etag", "grpc-status", "x-checksum"]);
    }

    #[test]
    fn only_trailers_that_may_come_are_announced() {
        for (given, kept) in [
            (vec!["grpc-status, Host,  X-Sum", "te"], Some("grpc-status, x-sum")),
            (vec!["Proxy-Status"], Some("proxy-status")),
            (vec!["content-length"], None),
            (vec!["a b"], None),
            (vec![], None),
        ] {
            let mut headers = HeaderMap::new();
            for value in given {
                headers.append("trailer", HeaderValue::from_static(value));
            }
            assert_eq!(announcement(&announced(&headers)).as_ref().map(|v| v.to_str().unwrap()), kept);
        }
    }
}
