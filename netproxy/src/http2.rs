//! What is asked of an HTTP/2 request beyond what the HTTP/2 library asks (RFC 9113 §8): the rules that the
//! strict head parser holds for HTTP/1, so that a request is not judged by another measure for its version.
//!
//! The library refuses at the level of frames: unknown, repeated or late pseudo-header fields, names in upper
//! case, connection-specific fields, control bytes, a body that disagrees with its Content-Length. It never
//! sees a request refused there, and this module never repairs one.

use http::header::{CONTENT_LENGTH, COOKIE, HOST, HeaderMap, HeaderValue};
use http::{Method, Uri};

use crate::limits::{HEADER_FIELDS_MAX, METHOD_BYTES_MAX, TARGET_BYTES_MAX};
use crate::wire::bytes::{is_token, parse_decimal};
use crate::wire::head::HeadError;

/// Judges a request head.
///
/// # Errors
/// The rule that is broken.
pub fn check(method: &Method, uri: &Uri, headers: &HeaderMap) -> Result<(), HeadError> {
    if method.as_str().len() > METHOD_BYTES_MAX || !is_token(method.as_str().as_bytes()) {
        return Err(HeadError::RequestLine);
    }
    if uri.path_and_query().is_some_and(|target| target.as_str().len() > TARGET_BYTES_MAX) {
        return Err(HeadError::TooLarge);
    }
    if headers.len() > HEADER_FIELDS_MAX {
        return Err(HeadError::TooManyFields);
    }
    // RFC 9113 §8.3.1: `:authority`, or Host where a gateway translated; stricter: one of them must be there.
    let hosts = headers.get_all(HOST).iter().count();
    if hosts > 1 || (hosts == 0 && uri.authority().is_none()) {
        return Err(HeadError::Host);
    }
    let mut lengths = headers.get_all(CONTENT_LENGTH).iter();
    let plain = lengths.next().is_none_or(|value| parse_decimal(value.as_bytes()).is_some());
    if !plain || lengths.next().is_some() {
        return Err(HeadError::ContentLength);
    }
    for (name, value) in headers {
        if matches!(name.as_str(), "content_length" | "transfer_encoding") {
            return Err(HeadError::FieldName);
        }
        // RFC 9113 §8.2.1: white space at either end is malformed.
        if matches!(value.as_bytes(), [b' ' | b'\t', ..] | [.., b' ' | b'\t']) {
            return Err(HeadError::FieldValue);
        }
    }
    Ok(())
}

/// Joins the crumbs of a cookie into the one field that HTTP/1 knows (RFC 9113 §8.2.3), also for HTTP/2
/// upstreams: a placeholder must not hide across two crumbs.
pub fn join_cookies(headers: &mut HeaderMap) {
    let mut crumbs = headers.get_all(COOKIE).iter();
    let (Some(first), Some(second)) = (crumbs.next(), crumbs.next()) else { return };
    let mut whole = first.as_bytes().to_vec();
    for crumb in std::iter::once(second).chain(crumbs) {
        whole.extend_from_slice(b"; ");
        whole.extend_from_slice(crumb.as_bytes());
    }
    // Values joined by printable bytes are a value.
    if let Ok(whole) = HeaderValue::from_bytes(&whole) {
        headers.insert(COOKIE, whole);
    }
}

/// What a client that speaks HTTP/2 without TLS is told: an empty SETTINGS frame, then GOAWAY with
/// `HTTP_1_1_REQUIRED` (RFC 9113 §7) and a text. This proxy takes HTTP/2 inside TLS only.
pub const GOAWAY_HTTP_1_1_REQUIRED: &[u8] =
    b"\0\0\0\x04\0\0\0\0\0\0\0\x20\x07\0\0\0\0\0\0\0\0\0\0\0\0\x0duse HTTP/1.1, or CONNECT";

#[cfg(test)]
mod tests {
    use super::*;

    fn judged(uri: &str, fields: &[(&'static str, &str)]) -> Result<(), HeadError> {
        let mut headers = HeaderMap::new();
        for (name, value) in fields {
            headers.append(*name, HeaderValue::from_str(value).unwrap());
        }
        check(&Method::GET, &uri.parse().unwrap(), &headers)
    }

    #[test]
    fn heads_are_judged_as_http1_heads_are() {
        let uri = "https://a.example/x";
        let many: Vec<(&str, &str)> = vec![("x-a", "b"); HEADER_FIELDS_MAX];
        let long = format!("https://a.example/{}", "t".repeat(TARGET_BYTES_MAX));
        for (uri, fields, error) in [
            (uri, vec![("content-length", "7"), ("cookie", "a=1"), ("cookie", "b=2")], None),
            ("/x", vec![("host", "a.example")], None),
            (uri, many.clone(), None),
            (uri, [many, vec![("x-b", "c")]].concat(), Some(HeadError::TooManyFields)),
            (&long, vec![], Some(HeadError::TooLarge)),
            ("/x", vec![], Some(HeadError::Host)),
            (uri, vec![("host", "a.example"), ("host", "a.example")], Some(HeadError::Host)),
            (uri, vec![("content-length", "+7")], Some(HeadError::ContentLength)),
            (uri, vec![("content-length", "7"), ("content-length", "7")], Some(HeadError::ContentLength)),
            (uri, vec![("content_length", "7")], Some(HeadError::FieldName)),
            (uri, vec![("transfer_encoding", "chunked")], Some(HeadError::FieldName)),
            (uri, vec![("x-a", " b")], Some(HeadError::FieldValue)),
            (uri, vec![("x-a", "b\t")], Some(HeadError::FieldValue)),
        ] {
            assert_eq!(judged(uri, &fields).err(), error, "{uri:.40} {fields:.60?}");
        }
    }

    #[test]
    fn crumbs_become_one_cookie() {
        for (crumbs, whole) in
            [(vec![], vec![]), (vec!["a=1"], vec!["a=1"]), (vec!["a=1", "b=2", "c"], vec!["a=1; b=2; c"])]
        {
            let mut headers = HeaderMap::new();
            for crumb in crumbs {
                headers.append(COOKIE, HeaderValue::from_static(crumb));
            }
            join_cookies(&mut headers);
            assert_eq!(headers.get_all(COOKIE).iter().collect::<Vec<_>>(), whole);
        }
    }

    #[test]
    fn the_goaway_is_two_whole_frames() {
        let (settings, goaway) = GOAWAY_HTTP_1_1_REQUIRED.split_at(9);
        assert_eq!(settings, [0, 0, 0, 4, 0, 0, 0, 0, 0]);
        assert_eq!(usize::from(goaway[2]), goaway.len() - 9);
    }
}
