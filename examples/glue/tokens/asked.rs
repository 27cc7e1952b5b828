//! What the guest may ask a token server for, where the host keeps what is answered: new tokens for the login that it
//! has, and nothing else. The answer to any other grant would put somebody else's login in the place of the user's.
//! No byte of the guest's body is sent: what was understood is written anew, so that no server can understand it in
//! another way.

use std::fmt::Write as _;

use http::HeaderMap;
use http::header::CONTENT_TYPE;
use serde::Deserialize;
use serde_json::{Map, Value};

/// A request to renew (RFC 6749 §6), written by the host.
#[derive(Debug, PartialEq, Eq)]
pub struct Asked {
    pub content_type: &'static str,
    /// With the placeholder where the refresh token belongs, and nowhere else.
    pub body: String,
}

/// The one request to renew with `placeholder` that head and body are, in a form or in JSON.
pub fn asks_to_renew(headers: &HeaderMap, body: &[u8], placeholder: &str) -> Option<Asked> {
    let text = std::str::from_utf8(body).ok()?;
    let content_type = content_type(headers)?;
    let body = match content_type {
        JSON => in_json(text, placeholder)?,
        _ => in_form(text, placeholder)?,
    };
    // Each place would get the refresh token.
    (body.matches(placeholder).count() == 1).then_some(Asked { content_type, body })
}

const JSON: &str = "application/json";
const FORM: &str = "application/x-www-form-urlencoded";

/// A form, as the RFC has it, unless the guest says that it is JSON.
fn content_type(headers: &HeaderMap) -> Option<&'static str> {
    let mut all = headers.get_all(CONTENT_TYPE).iter();
    let (first, None) = (all.next(), all.next()) else { return None };
    let Some(first) = first else { return Some(FORM) };
    let text = first.to_str().ok()?.to_ascii_lowercase();
    let (kind, charset) = text.split_once(';').unwrap_or((&text, "charset=utf-8"));
    let is_utf8 = matches!(charset.trim(), "charset=utf-8" | "charset=\"utf-8\"");
    [JSON, FORM].into_iter().find(|known| is_utf8 && kind.trim() == *known)
}

fn in_json(text: &str, placeholder: &str) -> Option<String> {
    // A key that is there twice is an error.
    #[derive(Deserialize)]
    struct Renewal {
        grant_type: String,
        refresh_token: String,
    }
    let renewal: Renewal = serde_json::from_str(text).ok()?;
    let all: Map<String, Value> = serde_json::from_str(text).ok()?;
    let once = |name: &str| all.keys().filter(|key| key.eq_ignore_ascii_case(name)).count() == 1;
    let is_good = renewal.grant_type == "refresh_token"
        && renewal.refresh_token == placeholder
        && once("grant_type")
        && once("refresh_token")
        && all.iter().all(|(key, value)| is_plain(key) && !value.is_object() && !value.is_array());
    // For a server that takes every body for a form there is not one pair in it. These stand in texts only.
    let text = serde_json::to_string(&all).ok().filter(|_| is_good)?;
    Some(text.replace('&', "\\u0026").replace('=', "\\u003d").replace(';', "\\u003b"))
}

/// `;` separates pairs for old servers.
fn in_form(text: &str, placeholder: &str) -> Option<String> {
    let pairs = text.split('&').map(|pair| {
        let (key, value) = pair.split_once('=')?;
        Some((key, decoded(value).filter(|_| is_plain(key))?))
    });
    let pairs: Vec<(&str, Vec<u8>)> = pairs.collect::<Option<_>>()?;
    let only = |name: &str, wanted: &str| {
        let mut values = pairs.iter().filter(|(key, _)| key.eq_ignore_ascii_case(name));
        values.next().is_some_and(|(_, value)| value == wanted.as_bytes()) && values.next().is_none()
    };
    if text.contains(';') || !only("grant_type", "refresh_token") || !only("refresh_token", placeholder) {
        return None;
    }
    let mut out = String::with_capacity(text.len());
    for (key, value) in &pairs {
        let separator = if out.is_empty() { "" } else { "&" };
        out.extend([separator, key, "="]);
        match *key {
            // Found there by who puts the token in.
            "refresh_token" => out.push_str(placeholder),
            _ => encode(value, &mut out),
        }
    }
    Some(out)
}

/// A key that is encoded is a second way to write another, and some servers make `_` of other signs.
fn is_plain(key: &str) -> bool {
    key.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_-".contains(&byte))
}

fn decoded(value: &str) -> Option<Vec<u8>> {
    let mut bytes = value.bytes();
    let mut out = Vec::with_capacity(value.len());
    while let Some(byte) = bytes.next() {
        out.push(match byte {
            b'+' => b' ',
            b'%' => {
                let mut digit = || char::from(bytes.next()?).to_digit(16);
                let (high, low) = (digit()?, digit()?);
                u8::try_from(high.checked_mul(16)?.checked_add(low)?).ok()?
            }
            _ => byte,
        });
    }
    Some(out)
}

fn encode(value: &[u8], out: &mut String) {
    for &byte in value {
        match byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            true => out.push(char::from(byte)),
            // Writing to a `String` cannot fail.
            false => drop(write!(out, "%{byte:02X}")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(types: &[&str], body: &str) -> Option<Asked> {
        let mut headers = HeaderMap::new();
        for kind in types {
            headers.append(CONTENT_TYPE, kind.parse().unwrap());
        }
        asks_to_renew(&headers, body.as_bytes(), "P-0")
    }

    #[test]
    fn only_the_sandboxs_own_login_is_renewed() {
        for (kind, good, written) in [
            (
                FORM,
                "grant_type=refresh_token&refresh_token=P-0",
                "grant_type=refresh_token&refresh_token=P-0",
            ),
            (
                FORM,
                "client_id=a%20b&refresh_token=%50%2d0&grant_type=refresh_token&scope=x+y/=&resource=1&resource=",
                "client_id=a%20b&refresh_token=P-0&grant_type=refresh_token&scope=x%20y%2F%3D&resource=1&resource=",
            ),
            (
                JSON,
                r#"{"grant_type":"refresh_token","refresh_token":"P-0","client_id":"c"}"#,
                r#"{"client_id":"c","grant_type":"refresh_token","refresh_token":"P-0"}"#,
            ),
            (
                JSON,
                " {\n \"refresh_token\": \"\\u0050-0\", \"grant_type\": \"refresh_token\", \"n\": [] }",
                "",
            ),
            (
                JSON,
                " {\n \"refresh_token\": \"\\u0050-0\", \"grant_type\": \"refresh_token\", \"n\": 1 }",
                r#"{"grant_type":"refresh_token","n":1,"refresh_token":"P-0"}"#,
            ),
        ] {
            let found = asked(&[kind], good);
            assert_eq!(found.map(|asked| asked.body).unwrap_or_default(), written, "{good}");
        }
        for bad in [
            "",
            "grant_type=refresh_token",
            "grant_type=refresh_token&refresh_token=THEIRS",
            "grant_type=refresh_token&refresh_token=THEIRS&x=P-0",
            "grant_type=refresh_token&refresh_token=P-0&x=P-0",
            "grant_type=refresh_token&refresh_token=P-0&refresh_token=THEIRS",
            "grant_type=refresh_token&refresh_token=P-0&refresh%5Ftoken=THEIRS",
            "grant_type=refresh_token&refresh_token=P-0&Refresh_Token=THEIRS",
            "grant_type=refresh_token&refresh_token=P-0&refresh.token=THEIRS",
            "grant_type=refresh_token&refresh_token=P-0&refresh_token[]=THEIRS",
            "grant_type=refresh_token&refresh_token=P-0&x=1;refresh_token=THEIRS",
            "grant_type=refresh_token&refresh_token=P-0&x=%4",
            "grant_type=refresh_token&refresh_token=P-0&x=%+1",
            "grant_type=authorization_code&code=THEIRS",
            "grant_type=refresh_token&grant_type=authorization_code&refresh_token=P-0",
            r#"{"grant_type":"refresh_token","refresh_token":"P-0","refresh_token":"THEIRS"}"#,
            r#"{"grant_type":"refresh_token","refresh_token":"P-0","refresh\u005ftoken":"THEIRS"}"#,
            r#"{"grant_type":"refresh_token","refresh_token":"P-0","Refresh_token":"THEIRS"}"#,
            r#"{"grant_type":"refresh_token","refresh_token":"P-0","refresh.token":"THEIRS"}"#,
            r#"{"grant_type":"refresh_token","refresh_token":"P-0","x":{"refresh_token":"THEIRS"}}"#,
            r#"{"grant_type":"refresh_token","refresh_token":"P-0"} {"refresh_token":"THEIRS"}"#,
            r#"[{"grant_type":"refresh_token","refresh_token":"P-0"}]"#,
        ] {
            assert_eq!((asked(&[FORM], bad), asked(&[JSON], bad)), (None, None), "{bad}");
        }
    }

    #[test]
    fn what_a_form_hides_in_json_is_no_pair_for_any_server() {
        let body = r#"{"grant_type":"refresh_token","refresh_token":"P-0",
            "x":"&grant_type=refresh_token&refresh_token=THEIRS;client_id=C&y="}"#;
        assert_eq!(asked(&[FORM], body), None);
        let Asked { content_type, body } = asked(&[JSON], body).unwrap();
        assert_eq!((content_type, body.contains(['&', '=', ';'])), (JSON, false), "{body}");
        let read: Map<String, Value> = serde_json::from_str(&body).unwrap();
        assert_eq!(read["x"], "&grant_type=refresh_token&refresh_token=THEIRS;client_id=C&y=");
    }

    #[test]
    fn the_content_type_says_how_the_body_is_read() {
        let form = "grant_type=refresh_token&refresh_token=P-0";
        let json = r#"{"grant_type":"refresh_token","refresh_token":"P-0"}"#;
        let kind = |types: &[&str], body| asked(types, body).map(|asked| asked.content_type);
        assert_eq!((kind(&[], form), kind(&[], json)), (Some(FORM), None));
        assert_eq!((kind(&[FORM], json), kind(&[JSON], form)), (None, None));
        for good in
            ["Application/JSON", "application/json;charset=UTF-8", "application/json ; charset=\"utf-8\""]
        {
            assert_eq!(kind(&[good], json), Some(JSON), "{good}");
        }
        for bad in
            ["", "text/plain", "application/json; charset=utf-7", "application/json, text/plain", "json"]
        {
            assert_eq!((kind(&[bad], json), kind(&[bad], form)), (None, None), "{bad}");
        }
        assert_eq!((kind(&[JSON, JSON], json), kind(&[FORM, JSON], form)), (None, None));
    }
}
