//! The header fields that name codings.

use http::header::{
    ACCEPT_ENCODING, CONTENT_ENCODING, CONTENT_LENGTH, ETAG, HeaderMap, HeaderName, HeaderValue,
};

use super::{Coding, Lease, Room};
use crate::limits::CODINGS_MAX;

/// The codings of a body, in the order in which they were applied; empty if there are none. `None` if they cannot be
/// undone: an unknown one, too many, or a field that cannot be read.
#[must_use]
pub fn codings(headers: &HeaderMap) -> Option<Vec<Coding>> {
    let mut codings = Vec::new();
    for value in headers.get_all(CONTENT_ENCODING) {
        for name in value.to_str().ok()?.split(',').map(str::trim) {
            if name.is_empty() || name.eq_ignore_ascii_case("identity") {
                continue;
            }
            codings.push(Coding::named(name)?);
            if codings.len() > CODINGS_MAX {
                return None;
            }
        }
    }
    Some(codings)
}

/// Leaves the codings in `Accept-Encoding` that can be decoded and for which there is room; `identity` if that is
/// none. The memory is taken until the answer is here.
#[must_use]
pub fn accept_only_decodable(headers: &mut HeaderMap, room: &Room) -> Option<Lease> {
    let mut wanted = wanted(headers);
    let mut lease = None;
    while let Some(most) = wanted.iter().map(|(coding, _)| coding.bytes_max()).max() {
        lease = room.take(most);
        if lease.is_some() {
            break;
        }
        wanted.retain(|(coding, _)| coding.bytes_max() < most);
    }
    let identity = HeaderValue::from_static("identity");
    let value = match wanted.as_slice() {
        [] => identity,
        some => {
            let all = some.iter().map(|(coding, weight)| format!("{coding}{weight}")).collect::<Vec<_>>();
            HeaderValue::from_str(&all.join(", ")).unwrap_or(identity)
        }
    };
    headers.insert(ACCEPT_ENCODING, value);
    lease
}

/// What the client accepts and can be decoded, each once, with its `;q=` as it is sent.
fn wanted(headers: &HeaderMap) -> Vec<(Coding, String)> {
    let values = headers.get_all(ACCEPT_ENCODING).iter().filter_map(|value| value.to_str().ok());
    let mut wanted: Vec<(Coding, String)> = Vec::new();
    let mut refused = Vec::new();
    let mut any = false;
    for member in values.flat_map(|value| value.split(',')) {
        let (name, weight) = member.split_once(';').map_or((member, ""), |(name, weight)| (name, weight));
        let name = name.trim();
        let Some(weight) = weight_of(weight.trim()) else { continue };
        let zero = weight.trim_matches(['0', '.', ';', 'q', '=']).is_empty() && !weight.is_empty();
        any |= name == "*" && !zero;
        match Coding::named(name) {
            Some(coding) if zero => refused.push(coding),
            Some(coding) if wanted.iter().all(|(one, _)| *one != coding) => wanted.push((coding, weight)),
            _ => {}
        }
    }
    // "Any other": the one that every server has.
    if any && wanted.is_empty() && !refused.contains(&Coding::Gzip) {
        wanted.push((Coding::Gzip, String::new()));
    }
    wanted.retain(|(coding, _)| !refused.contains(coding));
    wanted
}

/// RFC 9110 §12.4.2, written anew; `None` if it is not a weight.
fn weight_of(text: &str) -> Option<String> {
    if text.is_empty() {
        return Some(String::new());
    }
    let (name, value) = text.split_once('=')?;
    let value = value.trim();
    let (whole, fraction) = value.split_once('.').unwrap_or((value, ""));
    let fits = matches!(whole, "0" | "1")
        && fraction.len() <= 3
        && fraction.bytes().all(|byte| byte.is_ascii_digit() && (whole == "0" || byte == b'0'));
    (name.trim().eq_ignore_ascii_case("q") && fits).then(|| format!(";q={value}"))
}

/// Alters the fields (or trailers) of an answer whose body is decoded: what was said of the encoded bytes goes, and an
/// entity tag becomes a weak one (RFC 9110 §8.8.1), as the bytes are others. `Vary` stays.
pub fn after_decoding(headers: &mut HeaderMap) {
    const OF_ENCODED_BYTES: [HeaderName; 6] = [
        CONTENT_ENCODING,
        CONTENT_LENGTH,
        HeaderName::from_static("content-md5"),
        HeaderName::from_static("digest"),
        HeaderName::from_static("content-digest"),
        HeaderName::from_static("repr-digest"),
    ];
    for name in &OF_ENCODED_BYTES {
        headers.remove(name);
    }
    // What clients of object stores check by themselves.
    let is_checksum = |name: &HeaderName| {
        let name = name.as_str();
        name.starts_with("x-amz-checksum-") || ["x-goog-hash", "x-ms-blob-content-md5"].contains(&name)
    };
    let checksums: Vec<HeaderName> = headers.keys().filter(|name| is_checksum(name)).cloned().collect();
    for name in checksums {
        headers.remove(name);
    }
    let weak = headers.get(ETAG).filter(|tag| !tag.as_bytes().starts_with(b"W/"));
    if let Some(weak) = weak.map(|tag| HeaderValue::from_bytes(&[b"W/", tag.as_bytes()].concat())) {
        headers.remove(ETAG);
        if let Ok(weak) = weak {
            headers.insert(ETAG, weak);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits::{BROTLI_WINDOW_BYTES_MAX, CODING_BYTES_MAX};

    #[test]
    fn codings_are_read_in_their_order_or_not_at_all() {
        for (given, expected) in [
            (vec![], Some(vec![])),
            (vec!["identity"], Some(vec![])),
            (vec!["gzip"], Some(vec![Coding::Gzip])),
            (vec!["X-GZIP"], Some(vec![Coding::Gzip])),
            (vec!["gzip, br"], Some(vec![Coding::Gzip, Coding::Brotli])),
            (vec!["deflate", "zstd"], Some(vec![Coding::Deflate, Coding::Zstd])),
            (vec!["gzip, gzip, gzip"], None),
            (vec!["compress"], None),
            (vec!["gzip, aws-chunked"], None),
            (vec!["gzip;q=1"], None),
            (vec!["gz\tip"], None),
        ] {
            let mut headers = HeaderMap::new();
            for value in &given {
                headers.append(CONTENT_ENCODING, HeaderValue::from_static(value));
            }
            assert_eq!(codings(&headers), expected, "{given:?}");
        }
        let mut headers = HeaderMap::new();
        headers.insert(CONTENT_ENCODING, HeaderValue::from_bytes(b"gzip\xff").unwrap());
        assert_eq!(codings(&headers), None);
    }

    fn asked(given: Option<&'static str>, room: &Room) -> (String, Option<Lease>) {
        let mut headers = HeaderMap::new();
        if let Some(given) = given {
            headers.insert(ACCEPT_ENCODING, HeaderValue::from_static(given));
        }
        let lease = accept_only_decodable(&mut headers, room);
        assert_eq!(headers.get_all(ACCEPT_ENCODING).iter().count(), 1);
        (headers[ACCEPT_ENCODING].to_str().unwrap().to_owned(), lease)
    }

    #[test]
    fn only_what_can_be_decoded_is_asked_for() {
        let room = Room::new(CODING_BYTES_MAX);
        for (given, expected) in [
            (None, "identity"),
            (Some("identity"), "identity"),
            (Some("gzip, deflate, br, zstd"), "gzip, deflate, br, zstd"),
            (Some("gzip;q=0.5 , br ; q=1.0,compress"), "gzip;q=0.5, br;q=1.0"),
            (Some("gzip;q=0, deflate"), "deflate"),
            (Some("gzip, gzip;q=0"), "identity"),
            (Some("*"), "gzip"),
            (Some("*;q=0"), "identity"),
            (Some("*, gzip;q=0.000"), "identity"),
            (Some("gzip;q=2, br;level=3, zstd;q=0.1234"), "identity"),
            (Some("dcb, dcz, br"), "br"),
        ] {
            assert_eq!(asked(given, &room).0, expected, "{given:?}");
        }
    }

    #[test]
    fn without_room_less_is_asked_for() {
        let room = Room::new(CODING_BYTES_MAX);
        let everything = Some("br, zstd, gzip");
        let mut held = Vec::new();
        let mut values = Vec::new();
        loop {
            let (value, lease) = asked(everything, &room);
            let none = lease.is_none();
            held.extend(lease);
            if values.last() != Some(&value) {
                values.push(value);
            }
            if none {
                break;
            }
        }
        assert_eq!(values, ["br, zstd, gzip", "gzip", "identity"]);
        assert!(room.free() < Coding::Gzip.bytes_max());
        drop(held);
        let _most = room.take(CODING_BYTES_MAX - BROTLI_WINDOW_BYTES_MAX).unwrap();
        assert_eq!(asked(everything, &room).0, "zstd, gzip");
    }

    #[test]
    fn what_was_said_of_the_encoded_bytes_goes() {
        for (tag, weak) in [("\"a\"", "W/\"a\""), ("W/\"a\"", "W/\"a\"")] {
            let mut headers = HeaderMap::new();
            for name in ["content-encoding", "content-length", "content-md5", "digest", "repr-digest", "vary"]
            {
                headers.insert(name, HeaderValue::from_static("1"));
            }
            headers.insert(ETAG, HeaderValue::from_static(tag));
            after_decoding(&mut headers);
            let mut left: Vec<_> = headers.keys().map(HeaderName::as_str).collect();
            left.sort_unstable();
            assert_eq!((left, headers[ETAG].to_str().unwrap()), (vec!["etag", "vary"], weak));
        }
    }
}
