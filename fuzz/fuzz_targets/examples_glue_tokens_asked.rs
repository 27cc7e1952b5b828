//! What a guest asks a token server for: what is written in its place is a renewal of the sandbox's own login however a
//! server reads it, as a form with either separator, escapes and brackets, as JSON with the first or the last of two equal
//! keys; and it is understood again as itself.

#![no_main]

use std::fmt;

use asked::{Asked, asks_to_renew};
use fuzz::{Input, decoded};
use http::header::CONTENT_TYPE;
use http::{HeaderMap, HeaderValue};
use libfuzzer_sys::fuzz_target;
use serde::de::{Deserializer, MapAccess, Visitor};

#[path = "../../examples/glue/tokens/asked.rs"]
mod asked;

const OWN: &str = "PLACEHOLDER";

fuzz_target!(|bytes: &[u8]| {
    let mut input = Input(bytes);
    let kind = input.one(&["", "application/json", "application/x-www-form-urlencoded"]);
    let mut headers = HeaderMap::new();
    if !kind.is_empty() {
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    }
    let Some(Asked { content_type, body }) = asks_to_renew(&headers, input.0, OWN) else { return };
    let shown = input.0.escape_ascii();
    assert_eq!(content_type == "application/json", kind == "application/json", "{shown}");
    // Each place would get the refresh token.
    assert_eq!(body.matches(OWN).count(), 1, "{shown}");
    let is_form = check(form(body.as_bytes()), true, &format!("a form: {shown} as {body}"));
    let json: Option<Fields> = serde_json::from_str::<Pairs>(&body).ok().map(|pairs| pairs.0);
    let is_json = json.is_some_and(|fields| check(fields, false, &format!("JSON: {shown} as {body}")));
    assert_eq!((is_form, is_json), (content_type != "application/json", content_type == "application/json"));
    // What is written is understood as itself.
    let mut headers = HeaderMap::new();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    let again = asks_to_renew(&headers, body.as_bytes(), OWN);
    assert_eq!(again.map(|again| again.body).as_ref(), Some(&body), "{shown}");
});

type Fields = Vec<(Vec<u8>, Vec<u8>)>;

/// Whether these fields ask for something: then it is a renewal of the sandbox's own login.
fn check(fields: Fields, is_form: bool, shown: &str) -> bool {
    let of = |wanted: &str| {
        let name = |key: &[u8]| {
            let end = key.iter().position(|byte| is_form && b"[.".contains(byte)).unwrap_or(key.len());
            key[..end].trim_ascii().to_ascii_lowercase()
        };
        let found = fields.iter().filter(|(key, _)| name(key) == wanted.as_bytes());
        found.map(|(_, value)| value.as_slice()).collect::<Vec<_>>()
    };
    let (grants, tokens) = (of("grant_type"), of("refresh_token"));
    if grants.is_empty() && tokens.is_empty() {
        return false;
    }
    assert_eq!((grants, tokens), (vec![&b"refresh_token"[..]], vec![OWN.as_bytes()]), "{shown}");
    true
}

/// As the most lenient server.
fn form(body: &[u8]) -> Fields {
    let pairs = body.split(|byte| b"&;".contains(byte));
    let parts = pairs.map(|pair| {
        let middle = pair.iter().position(|byte| *byte == b'=').unwrap_or(pair.len());
        (decoded(&pair[..middle]), decoded(pair.get(middle + 1..).unwrap_or_default()))
    });
    parts.collect()
}

/// All pairs of an object, also of equal keys.
struct Pairs(Fields);

impl<'de> serde::Deserialize<'de> for Pairs {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        from.deserialize_map(AllPairs)
    }
}

struct AllPairs;

impl<'de> Visitor<'de> for AllPairs {
    type Value = Pairs;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Pairs, A::Error> {
        let mut all = Vec::new();
        while let Some(key) = map.next_key::<String>()? {
            let value = match map.next_value::<serde_json::Value>() {
                Ok(serde_json::Value::String(text)) => text,
                Ok(other) => other.to_string(),
                Err(error) => return Err(error),
            };
            all.push((key.into_bytes(), value.into_bytes()));
        }
        Ok(Pairs(all))
    }
}
