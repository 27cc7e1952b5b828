//! Signatures of clients that signed with placeholders, in the head or in the query: what is signed anew holds when it is
//! checked against what is sent, has the real id in the client's scope, and does not carry the secret; a request that is
//! refused, or not ours, is not changed.

#![no_main]

use std::sync::OnceLock;

use credvault::{
    Binding, CanonicalStyle, Companion, Payload, Scheme, Secret, SigV4, SigningRequest, Target, Vault,
    os_random,
};
use fuzz::{Input, contains, decoded};
use libfuzzer_sys::fuzz_target;

const ID: &str = "AKIDEXAMPLEEXAMPLE";
const SECRET: &str = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY";
const TOKEN: &str = "session+token/of=temporary&keys";
/// The placeholder in inputs.
const MARK: &str = "@";
const HOST: &str = "api.example.com";

/// Made once: most of the time went into them.
static VAULTS: OnceLock<[Vault; 2]> = OnceLock::new();

type Headers = Vec<(Vec<u8>, Vec<u8>)>;

fuzz_target!(|bytes: &[u8]| {
    let mut input = Input(bytes);
    let shape = input.u8();
    let vault = &VAULTS.get_or_init(|| [vault(false), vault(true)])[usize::from(shape & 1)];
    let placeholder = vault.placeholder("key").expect("it was bound").to_string();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).replace(MARK, &placeholder);
    let visible = |text: String| text.replace(|c: char| !c.is_ascii_graphic(), "");

    let path = visible(format!("/{}", text(input.piece())));
    let mut headers: Headers = Vec::new();
    while !input.is_empty() && headers.len() < 16 {
        let name = input.one(&[
            "authorization",
            "x-amz-date",
            "X-Amz-Content-SHA256",
            "x-amz-security-token",
            "a",
            "B",
        ]);
        let value = text(input.piece()).replace(|c: char| c.is_control(), " ");
        headers.push((name.as_bytes().to_vec(), value.into_bytes()));
    }
    let target = Target {
        scheme: Scheme::Https,
        host: HOST,
        port: 443,
        method: if shape & 2 == 0 { "GET" } else { "POST" },
        path: &path,
    };
    let payload = match shape >> 2 & 3 {
        0 => Payload::Unknown,
        1 => Payload::Streamed,
        2 => Payload::Empty,
        _ => Payload::Bytes(b"body"),
    };
    // The fuzzer finds it out from comparisons; a guest that has it needs no signature of ours.
    let given = headers.iter().map(|(_, value)| value.as_slice()).chain([path.as_bytes()]);
    if given.into_iter().any(|part| contains(part, SECRET.as_bytes())) {
        return;
    }
    let before = headers.clone();
    let outcome = match vault.inject_with(&target, &mut headers, payload) {
        Err(error) => {
            assert_eq!(headers, before, "refused, but changed: {error}");
            return assert!(!contains(error.to_string().as_bytes(), SECRET.as_bytes()));
        }
        Ok(outcome) if outcome.credential.is_none() => return assert_eq!(headers, before),
        Ok(outcome) => outcome,
    };

    let (path, client_query) =
        path.split_once('?').map_or((&*path, None), |(path, query)| (path, Some(query)));
    let query = outcome.query.as_ref().map(|query| query.as_str()).or(client_query);
    let all = || {
        headers
            .iter()
            .flat_map(|(name, value)| [name, value])
            .map(Vec::as_slice)
            .chain(query.map(str::as_bytes))
    };
    assert!(all().all(|part| !contains(part, SECRET.as_bytes())));
    let signed = Signed { method: target.method, path, query, headers: &headers };
    match outcome.query.is_some() {
        true => in_query(&signed, client_query.expect("it was signed"), payload),
        false => in_header(&signed, &before, payload),
    }
});

struct Signed<'a> {
    method: &'a str,
    path: &'a str,
    query: Option<&'a str>,
    headers: &'a Headers,
}

impl Signed<'_> {
    /// As the service would.
    fn check(&self, sig: &SigV4<'_>, payload: Payload<'_>, signature: &str) {
        let host = [(&b"host"[..], HOST.as_bytes())];
        let own = self.headers.iter().map(|(name, value)| (name.as_slice(), value.as_slice()));
        let headers: Vec<_> = own.chain(host).collect();
        let query = self.query.map(|query| {
            let kept = query.split('&').filter(|part| !part.starts_with("X-Amz-Signature="));
            // In another order: a canonical query has one.
            kept.rev().collect::<Vec<_>>().join("&")
        });
        let request = SigningRequest {
            method: self.method,
            path: self.path,
            query: query.as_deref(),
            headers: &headers,
            payload,
            now_s: 0,
        };
        assert_eq!(sig.signature(&request, SECRET.as_bytes()).as_deref(), Ok(signature));
    }
}

/// One header `authorization`, ours, that means what the client's meant.
fn in_header(signed: &Signed<'_>, before: &Headers, payload: Payload<'_>) {
    let count = signed.headers.iter().filter(|(name, _)| name.eq_ignore_ascii_case(b"authorization")).count();
    assert_eq!(count, 1);
    let value = first(signed.headers, "authorization").expect("one signature");
    let time = first(signed.headers, "x-amz-date").expect("a time");
    let sig = SigV4::from_authorization(value, time).expect("our own form");
    assert!(value.contains(&format!("Credential={ID}/")), "{value}");
    let theirs = first(before, "authorization").expect("a signature of the client's");
    let theirs = SigV4::from_authorization(theirs, time).expect("it was understood");
    assert_eq!((sig.scope, sig.time), (theirs.scope, theirs.time));
    let names: Vec<&str> = sig.signed_headers.split(';').collect();
    // Temporary keys have a token of their own; a header that covers itself cannot be checked.
    let mut kept = theirs.signed_headers.split(';').filter(|name| *name != "x-amz-security-token");
    assert!(kept.all(|name| names.contains(&name)), "a header is no longer signed");
    if names.contains(&"authorization") {
        return;
    }
    let hash = first(signed.headers, "x-amz-content-sha256");
    let payload = hash.map_or(body(signed.method, payload), Payload::Hash);
    let (_, signature) = value.rsplit_once("Signature=").expect("a signature");
    signed.check(&sig, payload, signature);
}

fn in_query(signed: &Signed<'_>, before: &str, payload: Payload<'_>) {
    let query = signed.query.expect("it is signed");
    let parameter = |query: &str, name: &str| {
        let mut found =
            query.split('&').filter_map(|part| part.split_once('=')).filter(|(key, _)| *key == name);
        let first =
            found.next().map(|(_, value)| String::from_utf8_lossy(&decoded(value.as_bytes())).into_owned());
        (first, found.next().is_none())
    };
    for name in ["X-Amz-Credential", "X-Amz-Signature"] {
        assert!(matches!(parameter(query, name), (Some(_), true)), "{name} in {query}");
    }
    let part = |name| parameter(query, name).0;
    let (credential, names, time) =
        (part("X-Amz-Credential"), part("X-Amz-SignedHeaders"), part("X-Amz-Date"));
    let time = time.expect("a time");
    let sig = SigV4::new(credential.as_deref(), names.as_deref(), &time).expect("our own form");
    let theirs = parameter(before, "X-Amz-Credential").0.expect("it was understood");
    let scope = |text: &str| text.split_once('/').map(|(_, scope)| scope.to_owned());
    assert!(credential.as_deref().is_some_and(|text| text.starts_with(&format!("{ID}/"))), "{query}");
    assert_eq!(credential.as_deref().and_then(scope), scope(&theirs));
    let payload = match sig.style == CanonicalStyle::S3 {
        true => Payload::Hash("UNSIGNED-PAYLOAD"),
        false => body(signed.method, payload),
    };
    let (_, signature) = query.rsplit_once("&X-Amz-Signature=").expect("a signature");
    signed.check(&sig, payload, signature);
}

/// A request without a body has an empty one.
fn body<'p>(method: &str, payload: Payload<'p>) -> Payload<'p> {
    match payload {
        Payload::Unknown | Payload::Streamed if method == "GET" => Payload::Empty,
        known => known,
    }
}

fn first<'h>(headers: &'h Headers, name: &str) -> Option<&'h str> {
    let found = headers.iter().find(|(other, _)| other.eq_ignore_ascii_case(name.as_bytes()));
    found.and_then(|(_, value)| std::str::from_utf8(value).ok())
}

fn vault(is_temporary: bool) -> Vault {
    let mut binding = Binding::bearer("key", HOST).expect("a host");
    binding.endpoints[0].injection = "aws-sigv4".parse().expect("a way to inject");
    binding.placeholder = "AKIA{16:base32}".parse().expect("a format");
    binding.env = vec!["AWS_ACCESS_KEY_ID".into()];
    binding.companions = vec![Companion {
        env: vec!["AWS_SECRET_ACCESS_KEY".into()],
        placeholder: "{40:alnum}".parse().expect("a format"),
    }];
    let token = if is_temporary { format!(":{TOKEN}") } else { String::new() };
    let value = Secret::new(format!("{ID}:{SECRET}{token}").into_bytes());
    let mut builder = Vault::builder();
    builder.clock(|| 1_000);
    builder.bind(binding, value, &mut os_random).expect("it can be bound");
    builder.build()
}
