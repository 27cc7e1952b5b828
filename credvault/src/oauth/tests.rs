//! Grants against a server that is a few lines of JSON, and signatures against the library's own check of them.

use aws_lc_rs::encoding::AsDer;
use aws_lc_rs::rsa::{KeyPair as RsaKeyPair, KeySize};
use aws_lc_rs::signature::{KeyPair, RSA_PKCS1_2048_8192_SHA256, UnparsedPublicKey};

use super::*;
use crate::encode::{base64_decode, base64_padded};
use crate::placeholder::PlaceholderFormat;

const URL: &str = "https://auth.example.com/oauth/token";

fn secret(text: &str) -> Secret {
    Secret::new(text.as_bytes().to_vec())
}

fn source() -> TokenSource {
    TokenSource::refresh(URL, "client 1", None, secret("refresh/1+one")).unwrap()
}

fn sent(source: &TokenSource, now_s: u64) -> TokenRequest {
    match source.next(now_s).unwrap() {
        Next::Send(request) => request,
        _ => panic!("nothing is asked for at {now_s}"),
    }
}

fn is_fresh(source: &TokenSource, now_s: u64) -> bool {
    matches!(source.next(now_s).unwrap(), Next::Fresh)
}

fn is_waiting(source: &TokenSource, now_s: u64) -> bool {
    matches!(source.next(now_s).unwrap(), Next::Wait)
}

fn text(request: &TokenRequest) -> &str {
    str::from_utf8(&request.body).unwrap()
}

#[test]
fn a_token_is_renewed_before_it_ends_and_a_new_refresh_token_is_used_from_then_on() {
    let source = source();
    let request = sent(&source, 1_000);
    assert_eq!(
        request.endpoint,
        TokenEndpoint { host: "auth.example.com".into(), port: 443, path: "/oauth/token".into() }
    );
    assert_eq!(
        text(&request),
        "grant_type=refresh_token&refresh_token=refresh%2F1%2Bone&client_id=client%201"
    );
    let answer =
        br#"{"access_token":"access-token-1","expires_in":3600,"refresh_token":"refresh\/2\u002btwo"}"#;
    let token = source.answer(request.ticket, 1_010, (200, answer)).unwrap();
    assert!(token.access == secret("access-token-1") && token.not_after_s == 4_610);
    assert!(token.refresh.unwrap() == secret("refresh/2+two"));
    assert!(is_fresh(&source, 1_010) && is_fresh(&source, 4_610 - TOKEN_EARLY_S - 1));
    let again = sent(&source, 4_610 - TOKEN_EARLY_S);
    assert!(text(&again).contains("refresh_token=refresh%2F2%2Btwo&"), "{}", text(&again));
}

#[test]
fn only_one_request_is_under_way_and_its_late_answer_changes_nothing() {
    let source = source();
    let first = sent(&source, 1_000);
    assert!(is_waiting(&source, 1_001) && is_waiting(&source, 1_000 + TOKEN_REQUEST_S_MAX - 1));
    let second = sent(&source, 1_000 + TOKEN_REQUEST_S_MAX);
    let answer = |token: &str| format!(r#"{{"access_token":"{token}","expires_in":60000}}"#).into_bytes();
    let late = source.answer(first.ticket, 1_070, (200, &answer("access-late"))).map(|_| ());
    assert_eq!(late, Err(OAuthError::Late));
    assert!(source.answer(second.ticket, 1_070, (200, &answer("access-good"))).is_ok());
    assert_eq!(
        source.answer(second.ticket, 1_070, (200, &answer("access-good"))).map(|_| ()),
        Err(OAuthError::Late)
    );
    assert!(is_fresh(&source, 1_070));
}

#[test]
fn after_a_failure_the_server_is_left_in_peace_for_a_while() {
    for fail in [true, false] {
        let source = source();
        let request = sent(&source, 1_000);
        if fail {
            source.failed(request.ticket, 1_000);
        } else {
            let body = br#"{"error":"invalid_grant","error_description":"<secret>"}"#;
            let error = source.answer(request.ticket, 1_000, (400, body)).map(|_| ()).unwrap_err();
            assert_eq!(error, OAuthError::Refused { status: 400, code: "invalid_grant".into() });
            assert!(!error.to_string().contains("<secret>"));
        }
        assert!(is_waiting(&source, 1_000 + TOKEN_RETRY_S - 1));
        sent(&source, 1_000 + TOKEN_RETRY_S);
    }
}

#[test]
fn an_answer_without_a_usable_token_is_an_error() {
    for body in [
        "",
        r#"{"access_token":"short"}"#,
        r#"{"access_token":"with a space in it"}"#,
        r#"{"access_token":"line\nend-of-header"}"#,
        r#"{"access_token":17}"#,
        r#"{"access_token":"access-token","refresh_token":""}"#,
        r#"{"access_token":"access-token","access_token":"other-token"}"#,
        r#"{"access_token":"access-token","expires_in":-1}"#,
        r#"{"token":"access-token","expires_at":"tomorrow"}"#,
    ] {
        let source = source();
        let ticket = sent(&source, 1_000).ticket;
        assert_eq!(
            source.answer(ticket, 1_000, (200, body.as_bytes())).map(|_| ()),
            Err(OAuthError::Answer),
            "{body}"
        );
    }
    // What some servers answer with status 200.
    let source = source();
    let ticket = sent(&source, 1_000).ticket;
    let refused = source.answer(ticket, 1_000, (200, br#"{"error":"bad_refresh_token"}"#)).map(|_| ());
    assert_eq!(refused, Err(OAuthError::Refused { status: 200, code: "bad_refresh_token".into() }));
    let long = format!(r#"{{"access_token":"{}"}}"#, "a".repeat(crate::limits::TOKEN_ANSWER_BYTES_MAX));
    assert_eq!(answer::read(0, 200, long.as_bytes()).map(|_| ()), Err(OAuthError::Answer));
    let for_ever = br#"{"access_token":"access-token","expires_in":18446744073709551615}"#;
    assert_eq!(answer::read(5, 200, for_ever).unwrap().not_after_s, 5 + crate::limits::TOKEN_LIFE_S_MAX);
}

/// A key as PEM, PKCS #8 or PKCS #1, and its public half.
fn rsa(pkcs8: bool) -> (String, Vec<u8>) {
    let key = RsaKeyPair::generate(KeySize::Rsa2048).unwrap();
    let der: aws_lc_rs::encoding::Pkcs8V1Der<'_> = key.as_der().unwrap();
    // Inside PKCS #8, the key of PKCS #1 is what follows 26 bytes (RFC 5208 §5).
    let (label, der) = if pkcs8 { ("", der.as_ref()) } else { ("RSA ", &der.as_ref()[26..]) };
    let digits = String::from_utf8(base64_padded(der).to_vec()).unwrap();
    let lines: Vec<_> = digits.as_bytes().chunks(64).map(|line| str::from_utf8(line).unwrap()).collect();
    let pem = format!(
        "-----BEGIN {label}PRIVATE KEY-----\n{}\n-----END {label}PRIVATE KEY-----\n",
        lines.join("\n")
    );
    (pem, key.public_key().as_ref().to_vec())
}

/// The claims of a token that `public` signed.
fn claims(jwt: &str, public: &[u8]) -> serde_json::Value {
    let decode = |part: &str| base64_decode(part.replace('-', "+").replace('_', "/").as_bytes()).unwrap();
    let (message, signature) = jwt.rsplit_once('.').unwrap();
    UnparsedPublicKey::new(&RSA_PKCS1_2048_8192_SHA256, public)
        .verify(message.as_bytes(), &decode(signature))
        .expect("the signature is good");
    let (header, claims) = message.split_once('.').unwrap();
    assert_eq!(&decode(header)[..], br#"{"alg":"RS256","typ":"JWT"}"#);
    serde_json::from_slice(&decode(claims)).unwrap()
}

#[test]
fn a_github_app_asks_for_its_installation_with_a_token_it_signs() {
    let (pem, public) = rsa(false);
    let source =
        TokenSource::github_app("https://ghe.example/api/v3", "Iv1.0123", "42", secret(&pem)).unwrap();
    let request = sent(&source, 1_468_275_000);
    assert_eq!(request.endpoint.path, "/api/v3/app/installations/42/access_tokens");
    assert!(request.body.is_empty());
    let (_, bearer) = request.headers.iter().find(|(name, _)| *name == "authorization").unwrap();
    let claims = claims(bearer.strip_prefix("Bearer ").unwrap(), &public);
    assert_eq!(claims, serde_json::json!({ "iat": 1_468_274_940, "exp": 1_468_275_540, "iss": "Iv1.0123" }));
    let answer = br#"{"token":"ghs_0123456789","expires_at":"2016-07-11T22:14:10Z","permissions":{}}"#;
    let token = source.answer(request.ticket, 1_468_275_000, (201, answer)).unwrap();
    assert!(token.access == secret("ghs_0123456789") && token.refresh.is_none());
    assert_eq!(token.not_after_s, 1_468_275_250);
    assert!(is_fresh(&source, 1_468_275_000));
    for (app, installation) in [("a/b", "1"), ("1", "1/.."), ("1", "x"), ("", "1"), ("1", "")] {
        let refused =
            TokenSource::github_app("https://ghe.example", app, installation, secret(&pem)).map(|_| ());
        assert_eq!(refused, Err(OAuthError::Id), "{app} {installation}");
    }
}

#[test]
fn a_google_service_account_asks_with_an_assertion() {
    let (pem, public) = rsa(true);
    let account = serde_json::json!({ "type": "service_account", "client_email": "bot@example.iam", "private_key": pem,
                                      "token_uri": "https://oauth2.example.com/token" });
    let new = |account: &serde_json::Value| {
        TokenSource::google_service_account(secret(&account.to_string()), "a b")
    };
    let source = new(&account).unwrap();
    let request = sent(&source, 1_000);
    let body = text(&request);
    let (grant, assertion) = body.split_once("&assertion=").unwrap();
    assert_eq!(grant, "grant_type=urn%3Aietf%3Aparams%3Aoauth%3Agrant-type%3Ajwt-bearer");
    let expected = serde_json::json!({ "iss": "bot@example.iam", "scope": "a b", "iat": 1_000, "exp": 4_600,
                                       "aud": "https://oauth2.example.com/token" });
    assert_eq!(claims(assertion, &public), expected);
    for (field, value, error) in [
        ("private_key", "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----", OAuthError::Key),
        ("private_key", "no PEM", OAuthError::Key),
        ("token_uri", "http://oauth2.example.com/token", OAuthError::Url),
    ] {
        let mut bad = account.clone();
        bad[field] = value.into();
        assert_eq!(new(&bad).map(|_| ()), Err(error), "{field}");
    }
    assert_eq!(new(&serde_json::json!({})).map(|_| ()), Err(OAuthError::Account));
}

#[test]
fn urls_lead_to_one_place_over_https() {
    let port = TokenEndpoint::parse("https://a.example:8443/t").unwrap();
    assert_eq!((port.host.as_str(), port.port, port.path.as_str()), ("a.example", 8443, "/t"));
    for bad in [
        "http://a.example/t",
        "https://A.example/t",
        "https://u@a.example/t",
        "https://a.example/t?x=1",
        "https://a.example/../t",
        "https://*.a.example/t",
        "https://a.example:+1/t",
        "https://a.example:0/t",
        "https:///t",
        "",
    ] {
        assert_eq!(TokenEndpoint::parse(bad), Err(OAuthError::Url), "{bad}");
    }
}

#[test]
fn the_guest_gets_placeholders_and_the_host_the_tokens() {
    let mint =
        |format: &str| format.parse::<PlaceholderFormat>().unwrap().mint(&mut crate::os_random).unwrap();
    let (access, refresh) = (mint("sk-ant-oat01-{93:word}AA"), mint("sk-ant-ort01-{93:word}AA"));
    let looks = TokenLooks { access: &access, refresh: &refresh };
    let body = br#" {"token_type":"Bearer","access_token":"real-access","expires_in":28800,"refresh_token":"real-refresh",
        "id_token":"eyJreal.eyJreal.real","scope":"a b","account":{"uuid":"1"},"device_secret":"real-device"} "#;
    let masked = mask_token_answer(1_000, (200, body), looks, &mut crate::os_random).unwrap();
    let text = String::from_utf8(masked.body).unwrap();
    assert!(!text.contains("real"), "{text}");
    let json: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!(
        (&json["access_token"], &json["refresh_token"]),
        (&access.as_str().into(), &refresh.as_str().into())
    );
    assert_eq!((&json["token_type"], &json["expires_in"]), (&"Bearer".into(), &28_800.into()));
    assert_eq!((&json["scope"], &json["account"]["uuid"]), (&"a b".into(), &"1".into()));
    assert_eq!(json["id_token"].as_str().unwrap().split('.').count(), 3);
    assert!(masked.token.access == secret("real-access") && masked.token.not_after_s == 29_800);
    assert!(masked.token.refresh.as_ref().unwrap() == &secret("real-refresh"));
    // What the guest's tool renewed, the host does not renew again.
    let source = source();
    let under_way = sent(&source, 1_000);
    source.learn(&masked.token);
    assert!(is_fresh(&source, 1_000));
    assert_eq!(source.answer(under_way.ticket, 1_000, (200, body)).map(|_| ()), Err(OAuthError::Late));
    assert!(text_of_next(&source, 29_000 + 800).contains("refresh_token=real-refresh&"));
    for status in [302, 400, 401, 500] {
        let refused = mask_token_answer(1_000, (status, body), looks, &mut crate::os_random).map(|_| ());
        assert_eq!(refused, Err(OAuthError::Refused { status, code: "none".to_owned() }));
    }
    for bad in [
        "",
        "access_token=real&token_type=bearer",
        r#"{"data":{"access_token":"real-access"}}"#,
        r#"["real"]"#,
    ] {
        assert!(mask_token_answer(0, (200, bad.as_bytes()), looks, &mut crate::os_random).is_err(), "{bad}");
    }
}

#[test]
fn tokens_deep_in_an_answer_are_masked_as_well() {
    let mint =
        |format: &str| format.parse::<PlaceholderFormat>().unwrap().mint(&mut crate::os_random).unwrap();
    let (access, refresh) = (mint("xoxb-{40:alnum}"), mint("xoxe-{40:alnum}"));
    let looks = TokenLooks { access: &access, refresh: &refresh };
    let mask = |body: &str| mask_token_answer(0, (200, body.as_bytes()), looks, &mut crate::os_random);
    // Slack's form, and what others might make of it.
    let body = r#"{"ok":true,"access_token":"real-bot-token","refresh_token":"real-refresh","expires_in":43200,
        "team":{"name":"T","id":"T1"},"empty":{},"none":[],
        "authed_user":{"id":"U1","token_type":"user","access_token":"real-user","refresh_token":"real-user-refresh",
                       "id_token":"eyJreal.eyJreal.real","expires_in":43200},
        "list":[1,{"clientSecret":"real"},["a",{"API_KEY":"real"}]],
        "tokens":["real-1",{"value":"real-2","expires_in":7}],"key":{"is_new":true,"none":null,"number":271828}}"#;
    let text = String::from_utf8(mask(body).unwrap().body).unwrap();
    assert!(!text.contains("real") && !text.contains("271828"), "{text}");
    let json: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!(json["access_token"], access.as_str());
    let user = &json["authed_user"];
    assert!(user["access_token"].is_string() && user["access_token"] != json["access_token"]);
    assert_eq!(user["id_token"].as_str().unwrap().split('.').count(), 3);
    let kept = [&user["id"], &user["token_type"], &json["team"]["id"], &json["list"][2][0]];
    assert_eq!(kept, ["U1", "user", "T1", "a"].map(serde_json::Value::from).each_ref());
    assert_eq!((&json["list"][0], &json["tokens"][1]["expires_in"]), (&1.into(), &7.into()));
    assert_eq!((json["empty"].to_string(), json["none"].to_string()), ("{}".into(), "[]".into()));
    assert_eq!(json["key"]["is_new"], true);
    let nested = |depth: usize| {
        let (open, close) = ("[".repeat(depth), "]".repeat(depth));
        format!(r#"{{"access_token":"real-access","deep":{open}{close}}}"#)
    };
    assert!(mask(&nested(16)).is_ok());
    for depth in [17, 120, 20_000] {
        assert!(mask(&nested(depth)).is_err(), "{depth}");
    }
}

#[test]
fn a_token_is_masked_also_where_no_name_says_that_it_is_one() {
    let mint =
        |format: &str| format.parse::<PlaceholderFormat>().unwrap().mint(&mut crate::os_random).unwrap();
    let (access, refresh) = (mint("acc-{40:alnum}"), mint("ref-{40:alnum}"));
    let looks = TokenLooks { access: &access, refresh: &refresh };
    let mask = |more: &str| {
        let body = format!(r#"{{"access_token":"real-access","refresh_token":"8271828182",{more}}}"#);
        mask_token_answer(0, (200, body.as_bytes()), looks, &mut crate::os_random).map(|masked| masked.body)
    };
    let more = r#""a":"Bearer real-access","b":["\u0072eal-\u0061ccess"],"kept":"r\u0065al","token_type":
        {"access_token":"real-other","name":"n"},"keys":{"expires_in":["real-key"]},"c":{"token_type":"real-access"}"#;
    let text = String::from_utf8(mask(more).unwrap()).unwrap();
    let json: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!((&json["kept"], &json["token_type"]["name"]), (&"real".into(), &"n".into()));
    assert!(!text.contains("real-") && !json["b"][0].as_str().unwrap().contains("real"), "{text}");
    for bad in [r#""user":8271828182"#, r#""of-real-access":1"#, r#""expires_in_s":0.8271828182"#] {
        assert!(mask(bad).is_err(), "{bad}");
    }
}

fn text_of_next(source: &TokenSource, now_s: u64) -> String {
    text(&sent(source, now_s)).to_owned()
}
