//! What token servers answer, against serde_json's own reading: a token is what the answer says and can stand in a header,
//! lasts no longer than it may, and is used from then on; what is refused is not told, and the next try waits.

#![no_main]

use credvault::limits::{SECRET_BYTES_MAX, SECRET_BYTES_MIN, TOKEN_EARLY_S, TOKEN_LIFE_S_MAX, TOKEN_RETRY_S};
use credvault::{Next, OAuthError, Secret, TokenRequest, TokenSource};
use fuzz::{Input, contains};
use libfuzzer_sys::fuzz_target;
use serde_json::Value;

const STORED: &str = "the-stored-refresh-token";
const NOW_S: u64 = 1_800_000_000;

fuzz_target!(|bytes: &[u8]| {
    let mut input = Input(bytes);
    let status = input.one(&[200, 200, 200, 201, 302, 400, 401, 500]);
    let body = input.0;
    let stored = Secret::new(STORED.as_bytes().to_vec());
    let source =
        TokenSource::refresh("https://auth.example.com/token", "client", None, stored).expect("a URL");
    let request = asked(&source, NOW_S).expect("nothing is known yet");
    assert!(contains(&request.body, STORED.as_bytes()));
    assert!(matches!(source.answer(request.ticket + 1, NOW_S, (status, body)), Err(OAuthError::Late)));

    let read: Option<Value> = serde_json::from_slice(body).ok();
    let text = |name: &str| read.as_ref().and_then(|value| value.get(name)?.as_str());
    let access = text("access_token").or_else(|| text("token"));
    match source.answer(request.ticket, NOW_S, (status, body)) {
        Ok(token) => {
            assert!((200..300).contains(&status));
            let refresh = token.refresh.as_ref().map(Secret::expose);
            // A value that nobody asked for may be a number or a text that serde_json makes nothing of.
            if read.is_some() {
                assert_eq!(Some(token.access.expose()), access.map(str::as_bytes));
                assert_eq!(refresh, text("refresh_token").map(str::as_bytes));
            }
            assert!(is_good(token.access.expose()) && refresh.is_none_or(is_good));
            assert!(token.not_after_s <= NOW_S + TOKEN_LIFE_S_MAX);
            // What is good is not asked for; then it is, with what the server gave last.
            let early = token.not_after_s.saturating_sub(TOKEN_EARLY_S);
            assert!(early == 0 || early > NOW_S + TOKEN_LIFE_S_MAX || asked(&source, early - 1).is_none());
            let next = asked(&source, early.max(NOW_S)).expect("its time is over");
            let expected = refresh.unwrap_or(STORED.as_bytes());
            assert!(contains(&form_decoded(&next.body), expected));
        }
        Err(error) => {
            assert!(asked(&source, NOW_S + TOKEN_RETRY_S - 1).is_none(), "asked again at once");
            let next = asked(&source, NOW_S + TOKEN_RETRY_S).expect("it is time");
            assert!(contains(&next.body, STORED.as_bytes()));
            let shown = error.to_string();
            for secret in
                [access, text("refresh_token")].into_iter().flatten().filter(|text| text.len() >= 20)
            {
                let is_code = text("error") == Some(secret) || !secret.is_ascii();
                assert!(is_code || !shown.contains(secret), "{shown}");
            }
            assert!(!is_plain_answer(read.as_ref(), status), "{shown}: {}", body.escape_ascii());
        }
    }
});

fn asked(source: &TokenSource, now_s: u64) -> Option<TokenRequest> {
    match source.next(now_s).expect("no key that could fail") {
        Next::Send(request) => Some(request),
        _ => None,
    }
}

fn is_good(token: &[u8]) -> bool {
    (SECRET_BYTES_MIN..=SECRET_BYTES_MAX).contains(&token.len()) && token.iter().all(u8::is_ascii_graphic)
}

/// One that must be understood: RFC 6749 §5.1, without anything else.
fn is_plain_answer(read: Option<&Value>, status: u16) -> bool {
    let Some(fields) = read.and_then(Value::as_object) else { return false };
    let is_known = |(name, value): (&String, &Value)| match name.as_str() {
        "access_token" => value.as_str().is_some_and(|text| is_good(text.as_bytes())),
        "expires_in" => value.is_u64(),
        _ => false,
    };
    (200..300).contains(&status) && fields.contains_key("access_token") && fields.iter().all(is_known)
}

fn form_decoded(body: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    let mut rest = body.iter();
    while let Some(&byte) = rest.next() {
        let digit =
            |digit: Option<&u8>| digit.and_then(|digit| char::from(*digit).to_digit(16)).expect("an escape");
        out.push(if byte == b'%' { (digit(rest.next()) * 16 + digit(rest.next())) as u8 } else { byte });
    }
    out
}
