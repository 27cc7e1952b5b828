//! The vault where more than a header is set: signatures, query, body; and values that change meanwhile.

use super::*;
use crate::binding::Companion;
use crate::secret::Secret;
use crate::sign::{AwsScope, CanonicalStyle, SigV4, SigningRequest};
use crate::target::Scheme;

type Headers = Vec<(Vec<u8>, Vec<u8>)>;

const AWS_ID: &str = "AKIDEXAMPLEEXAMPLE";
const AWS_SECRET: &str = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY";
const KEY: &str = "key-REAL-0123456789 +&";

fn binding(injection: &str) -> Binding {
    let mut binding = Binding::bearer("key", "api.example.com").unwrap();
    binding.endpoints[0].injection = injection.parse().unwrap();
    binding
}

fn vault_of(binding: Binding, value: &str) -> Vault {
    let mut builder = Vault::builder();
    builder.clock(|| 1_000);
    builder.bind(binding, Secret::new(value.as_bytes().to_vec()), &mut crate::os_random).unwrap();
    builder.build()
}

fn aws(token: bool) -> Vault {
    let mut binding = binding("aws-sigv4");
    binding.placeholder = "AKIA{16:base32}".parse().unwrap();
    binding.env = vec!["AWS_ACCESS_KEY_ID".into()];
    binding.companions = vec![Companion {
        env: vec!["AWS_SECRET_ACCESS_KEY".into()],
        placeholder: "{40:alnum}".parse().unwrap(),
    }];
    vault_of(binding, &format!("{AWS_ID}:{AWS_SECRET}{}", if token { ":session-token" } else { "" }))
}

fn to<'a>(method: &'a str, path: &'a str) -> Target<'a> {
    Target { scheme: Scheme::Https, host: "api.example.com", port: 443, method, path }
}

fn get<'h>(headers: &'h Headers, name: &str) -> Option<&'h str> {
    let found = headers.iter().find(|(other, _)| other.eq_ignore_ascii_case(name.as_bytes()));
    found.map(|(_, value)| str::from_utf8(value).unwrap())
}

const TIME: &str = "20260101T000000Z";

fn client_signed(vault: &Vault, service: &str, more: &[(&str, &str)]) -> Headers {
    let id = vault.placeholder("key").unwrap();
    let credential = format!("{id}/20260101/eu-west-1/{service}/aws4_request");
    let names: String = more.iter().map(|(name, _)| format!(";{name}")).collect();
    let value = format!(
        "AWS4-HMAC-SHA256 Credential={credential}, SignedHeaders=host{names};x-amz-date, Signature={}",
        "0".repeat(64)
    );
    let all = [("authorization", value.as_str()), ("x-amz-date", TIME)];
    let all =
        all.iter().chain(more).map(|(name, value)| (name.as_bytes().to_vec(), value.as_bytes().to_vec()));
    all.collect()
}

#[test]
fn an_aws_signature_is_made_anew_with_the_real_keys() {
    let vault = aws(false);
    let mut sent = client_signed(&vault, "bedrock", &[]);
    let target = to("POST", "/model/a%3Ab/invoke?x=1");
    let body = br#"{"prompt":"hi"}"#;
    let outcome = vault.inject_with(&target, &mut sent, Payload::Bytes(body)).unwrap();
    assert_eq!((outcome.credential, outcome.query), (Some("key"), None));
    let scope = AwsScope { day: "20260101", region: "eu-west-1", service: "bedrock" };
    let sig = SigV4 { scope, time: TIME, signed_headers: "host;x-amz-date", style: CanonicalStyle::GENERAL };
    let headers = [(&b"host"[..], &b"api.example.com"[..]), (b"x-amz-date", TIME.as_bytes())];
    let request = SigningRequest {
        method: "POST",
        path: "/model/a%3Ab/invoke",
        query: Some("x=1"),
        headers: &headers,
        payload: Payload::Bytes(body),
        now_s: 0,
    };
    let signature = sig.signature(&request, AWS_SECRET.as_bytes()).unwrap();
    assert_eq!(
        get(&sent, "authorization").unwrap(),
        format!(
            "AWS4-HMAC-SHA256 Credential={AWS_ID}/20260101/eu-west-1/bedrock/aws4_request, SignedHeaders=host;x-amz-date, Signature={signature}"
        )
    );
}

#[test]
fn a_body_is_needed_where_a_signature_covers_it_and_the_head_does_not_say_its_hash() {
    let vault = aws(false);
    let needs = |headers: &Headers, path| vault.needs_body(None, &to("POST", path), headers);
    let signed = client_signed(&vault, "dynamodb", &[]);
    assert!(needs(&signed, "/"));
    assert!(vault.needs_body(Some("key"), &to("DELETE", "/"), &signed));
    assert!(!needs(&client_signed(&vault, "s3", &[("x-amz-content-sha256", "UNSIGNED-PAYLOAD")]), "/"));
    assert!(
        !needs(&Headers::new(), "/?X-Amz-Algorithm=AWS4-HMAC-SHA256"),
        "no placeholder, so nothing to do"
    );
    assert!(!vault.needs_body(None, &Target { host: "other.example", ..to("POST", "/") }, &signed));
    let hmac = |template: &str| vault_of(binding(&format!("hmac-sha256 x-sign hex - {template}")), KEY);
    assert!(hmac("{body-sha256}").needs_body(None, &to("POST", "/"), &Headers::new()));
    assert!(!hmac("{path}").needs_body(None, &to("POST", "/"), &Headers::new()));
    assert!(!vault_of(binding("replace"), KEY).needs_body(None, &to("POST", "/"), &Headers::new()));
}

#[test]
fn a_credential_whose_value_comes_later_is_refused_until_it_is_there() {
    let mut builder = Vault::builder();
    builder.clock(|| 1_000);
    builder.bind_renewed(Binding::bearer("key", "api.example.com").unwrap(), &mut crate::os_random).unwrap();
    let vault = builder.build();
    let refused = vault.inject(&to("GET", "/"), &mut Headers::new()).map(|_| ()).unwrap_err();
    assert_eq!(refused, InjectError::Expired { name: "key".into() });
    vault.rotate("key", Secret::new(b"first-token".to_vec()), Some(2_000)).unwrap();
    let mut sent = Headers::new();
    vault.inject(&to("GET", "/"), &mut sent).unwrap();
    assert_eq!(get(&sent, "authorization"), Some("Bearer first-token"));
}

#[test]
fn a_session_token_is_added_and_signed() {
    let vault = aws(true);
    let mut sent = client_signed(&vault, "s3", &[("x-amz-content-sha256", "UNSIGNED-PAYLOAD")]);
    sent.push((b"X-Amz-Security-Token".to_vec(), b"the client's own".to_vec()));
    vault.inject(&to("PUT", "/bucket/key"), &mut sent).unwrap();
    assert_eq!(get(&sent, "x-amz-security-token"), Some("session-token"));
    let value = get(&sent, "authorization").unwrap();
    assert!(
        value.contains("SignedHeaders=host;x-amz-content-sha256;x-amz-date;x-amz-security-token,"),
        "{value}"
    );
    assert_eq!(sent.iter().filter(|(name, _)| name.eq_ignore_ascii_case(b"x-amz-security-token")).count(), 1);
}

#[test]
fn the_host_is_signed_as_it_is_sent() {
    let vault = aws(false);
    let signed = |host: Option<&str>| {
        let mut sent = client_signed(&vault, "s3", &[("x-amz-content-sha256", "UNSIGNED-PAYLOAD")]);
        sent.extend(host.map(|host| (b"Host".to_vec(), host.as_bytes().to_vec())));
        vault.inject(&to("PUT", "/bucket/key"), &mut sent).unwrap();
        get(&sent, "authorization").unwrap().to_owned()
    };
    let without = signed(None);
    for host in ["api.example.com", "api.example.com:443", "API.Example.com"] {
        assert_eq!(signed(Some(host)), without, "{host}");
    }
}

#[test]
fn a_body_that_is_not_known_is_refused_and_nothing_changed() {
    let vault = aws(false);
    let mut sent = client_signed(&vault, "bedrock", &[]);
    let before = sent.clone();
    let error = vault.inject(&to("POST", "/x"), &mut sent).unwrap_err();
    assert!(matches!(error, InjectError::Sign { reason: SignError::BodyNeeded, .. }), "{error}");
    assert_eq!(sent, before);
    assert!(vault.inject(&to("GET", "/x"), &mut sent).is_ok());
    // Chunks that are signed one by one need a caller who passes them on.
    let streamed = [("x-amz-content-sha256", "STREAMING-AWS4-HMAC-SHA256-PAYLOAD")];
    assert!(vault.inject(&to("PUT", "/b/k"), &mut client_signed(&vault, "s3", &streamed)).is_err());
    let mut sent = client_signed(&vault, "s3", &streamed);
    let outcome = vault.inject_with(&to("PUT", "/b/k"), &mut sent, Payload::Streamed).unwrap();
    assert!(outcome.chunks.is_some());
    let unsigned = [("x-amz-content-sha256", "STREAMING-UNSIGNED-PAYLOAD-TRAILER")];
    let mut sent = client_signed(&vault, "s3", &unsigned);
    assert!(vault.inject(&to("PUT", "/b/k"), &mut sent).unwrap().chunks.is_none());
}

#[test]
fn a_presigned_url_is_signed_anew() {
    let vault = aws(true);
    let id = vault.placeholder("key").unwrap();
    let path = format!(
        "/b/k?X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential={id}%2F20260101%2Feu-west-1%2Fs3%2Faws4_request&X-Amz-Date={TIME}&X-Amz-Expires=60&X-Amz-SignedHeaders=host&X-Amz-Signature=00"
    );
    let mut sent = Headers::new();
    let outcome = vault.inject(&to("GET", &path), &mut sent).unwrap();
    let query = outcome.query.unwrap();
    assert!(sent.is_empty() && !query.contains(id.as_str()));
    assert!(
        query.contains(&format!("X-Amz-Credential={AWS_ID}%2F20260101"))
            && query.contains("X-Amz-Security-Token=session-token")
    );
    assert!(query.rsplit_once("&X-Amz-Signature=").unwrap().1.len() == 64);
    // The same placeholder in the path is refused.
    assert!(vault.inject(&to("GET", &format!("/{id}")), &mut sent).is_err());
}

#[test]
fn an_unsigned_request_to_aws_stays_bare() {
    let vault = aws(false);
    let mut sent = Headers::new();
    assert_eq!(vault.inject(&to("GET", "/"), &mut sent).unwrap().credential, None);
    assert!(sent.is_empty());
}

#[test]
fn both_halves_of_aws_keys_are_kept_out_of_answers_and_elsewhere() {
    let vault = aws(false);
    let env: Vec<_> = vault.env().map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
    assert_eq!(
        env.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>(),
        ["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"]
    );
    assert_eq!(vault.scrub_value(AWS_ID.as_bytes()).unwrap(), env[0].1.as_bytes());
    assert_eq!(vault.scrub_value(AWS_SECRET.as_bytes()).unwrap(), env[1].1.as_bytes());
    let elsewhere = Target { host: "evil.example", ..to("GET", "/") };
    let mut sent: Headers = vec![(b"x-note".to_vec(), env[1].1.clone().into_bytes())];
    assert!(vault.inject(&elsewhere, &mut sent).is_err());
    let mut builder = Vault::builder();
    let bad = builder.bind(
        vault.bindings().next().unwrap().clone(),
        Secret::new(b"no-colon-in-here".to_vec()),
        &mut crate::os_random,
    );
    assert!(matches!(bad.map(|_| ()).unwrap_err(), BindError::Value { .. }));
}

/// Whichever of them the server takes.
#[test]
fn what_is_replaced_stands_alone() {
    let vault = vault_of(binding("replace: dd-api-key, cookie"), KEY);
    let mine = vault.placeholder("key").unwrap().to_string();
    let mut sent: Headers = [
        ("dd-api-key", "stale"),
        ("DD-Api-Key", &mine),
        ("dd_api_key", "stale"),
        ("authorization", "stale"),
        ("cookie", &format!("key={mine}")),
        ("cookie", "session=1"),
    ]
    .iter()
    .map(|(name, value)| (name.as_bytes().to_vec(), value.as_bytes().to_vec()))
    .collect();
    assert_eq!(vault.inject(&to("GET", "/"), &mut sent).unwrap().credential, Some("key"));
    let left: Vec<_> = sent.iter().map(|(name, value)| (&name[..], str::from_utf8(value).unwrap())).collect();
    let cookie = format!("key={KEY}");
    assert_eq!(left, [(&b"cookie"[..], &*cookie), (b"cookie", "session=1"), (b"DD-Api-Key", KEY)]);
}

#[test]
fn a_query_parameter_is_set_in_place_of_the_clients_own() {
    let vault = vault_of(binding("query: key"), KEY);
    let mine = vault.placeholder("key").unwrap().to_string();
    let own = [&format!("key={mine}"), "k%65y=stale", "key=stale;KEY=stale", "KEY=stale&key[]=stale", ""];
    for path in own.map(|own| format!("/v1?a=1&{own}")) {
        let outcome = vault.inject(&to("GET", &path), &mut Headers::new()).unwrap();
        assert_eq!(outcome.query.unwrap().as_str(), "a=1&key=key-REAL-0123456789%20%2B%26", "{path}");
    }
    assert!(vault.inject(&to("GET", &format!("/{mine}")), &mut Headers::new()).is_err());
    assert!(format!("{:?}", vault.inject(&to("GET", "/"), &mut Headers::new())).ends_with(".. })"));
}

#[test]
fn a_body_is_changed_only_where_its_endpoint_says_so() {
    let vault = vault_of(binding("body"), KEY);
    let mine = vault.placeholder("key").unwrap().to_string();
    let body = format!("{{\"token\":\"{mine}\",\"again\":\"{mine}\"}}");
    assert!(vault.needs_body(None, &to("POST", "/"), &Headers::new()));
    let (new, credential) = vault.replace_in_body(&to("POST", "/"), body.as_bytes()).unwrap().unwrap();
    assert_eq!(credential, "key");
    assert_eq!(new.to_vec(), body.replace(&mine, KEY).into_bytes());
    assert_eq!(vault.replace_in_body(&to("POST", "/"), b"{}").unwrap(), None);
    let elsewhere = Target { host: "evil.example", ..to("POST", "/") };
    assert!(vault.replace_in_body(&elsewhere, body.as_bytes()).is_err());
    let other = vault_of(binding("replace"), KEY);
    let body = other.placeholder("key").unwrap().to_string();
    assert_eq!(other.replace_in_body(&to("POST", "/"), body.as_bytes()).unwrap(), None);
}

#[test]
fn an_hmac_is_set_with_the_vaults_clock() {
    let vault = vault_of(binding("hmac-sha256 x-sign hex x-time {time}{method}{path}"), KEY);
    let mut sent: Headers = vec![(b"x-sign".to_vec(), b"stale".to_vec())];
    vault.inject(&to("GET", "/a?b=c"), &mut sent).unwrap();
    let tag = crate::hmac_sha256(&Secret::new(KEY.into()), &[b"1000GET/a?b=c"]);
    assert_eq!(get(&sent, "x-sign").unwrap(), crate::sign::hex(&tag));
    assert_eq!(get(&sent, "x-time"), Some("1000"));
}

#[test]
fn a_new_value_is_used_at_once_and_the_old_one_still_scrubbed() {
    let vault = vault_of(binding("authorization: Bearer {}"), "first-REAL-0123456789");
    let placeholder = vault.placeholder("key").unwrap().to_string();
    assert_eq!(vault.version("key"), Some((1, None)));
    let value = |text: &str| Secret::new(text.as_bytes().to_vec());
    assert_eq!(vault.rotate("key", value("second-REAL-0123456789"), Some(2_000)).unwrap(), 2);
    let mut sent = Headers::new();
    vault.inject(&to("GET", "/"), &mut sent).unwrap();
    assert_eq!(get(&sent, "authorization"), Some("Bearer second-REAL-0123456789"));
    for old in ["first-REAL-0123456789", "second-REAL-0123456789"] {
        assert_eq!(vault.scrub_value(old.as_bytes()).unwrap(), placeholder.as_bytes());
    }
    assert_eq!(vault.version("key"), Some((2, Some(2_000))));
    assert!(matches!(
        vault.rotate("key", value("bad\nvalue-0123456789"), None),
        Err(BindError::ControlCharacter { .. })
    ));
    assert!(matches!(
        vault.rotate("other", value("0123456789"), None),
        Err(BindError::NoSuchCredential { .. })
    ));
    assert_eq!(vault.version("key").unwrap().0, 2);
}

#[test]
fn a_value_whose_time_is_over_is_not_sent() {
    let vault = vault_of(binding("authorization: Bearer {}"), KEY);
    for (end, expired) in [(1_001, false), (1_000, true)] {
        vault.rotate("key", Secret::new(KEY.into()), Some(end)).unwrap();
        let outcome = vault.inject(&to("GET", "/"), &mut Headers::new());
        assert_eq!(matches!(outcome, Err(InjectError::Expired { .. })), expired, "{end}");
    }
}
