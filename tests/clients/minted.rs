//! Tokens that the host makes with a private key, as an App of GitHub and as a service account of Google: neither the key
//! nor a token reaches the guest, and a token is used until shortly before its end.

use aws_lc_rs::encoding::{AsDer, Pkcs8V1Der};
use aws_lc_rs::rsa::{KeyPair, KeySize};
use aws_lc_rs::signature::{KeyPair as _, RSA_PKCS1_2048_8192_SHA256, UnparsedPublicKey};
use base64::Engine;
use base64::prelude::{BASE64_STANDARD, BASE64_URL_SAFE_NO_PAD};
use serde_json::{Value, json};

use crate::tools::{find, need};
use crate::world::{ALLOWED, World, shown};

/// What stands before the PKCS #1 form of a key of this size in its PKCS #8 form (RFC 5208 §5).
const PKCS8_HEAD_BYTES: usize = 26;

struct Keys {
    pair: KeyPair,
    /// As Google gives it.
    pkcs8: String,
    /// As GitHub gives it.
    pkcs1: String,
}

fn keys() -> Keys {
    let pair = KeyPair::generate(KeySize::Rsa2048).unwrap();
    let der: Pkcs8V1Der<'_> = pair.as_der().unwrap();
    let pem = |label: &str, der: &[u8]| {
        let digits = BASE64_STANDARD.encode(der);
        let lines: Vec<&str> =
            digits.as_bytes().chunks(64).map(|line| str::from_utf8(line).unwrap()).collect();
        format!("-----BEGIN {label}-----\n{}\n-----END {label}-----\n", lines.join("\n"))
    };
    let pkcs8 = pem("PRIVATE KEY", der.as_ref());
    let pkcs1 = pem("RSA PRIVATE KEY", &der.as_ref()[PKCS8_HEAD_BYTES..]);
    Keys { pair, pkcs8, pkcs1 }
}

impl Keys {
    /// The claims of a JSON Web Token, once its signature is seen to be of this key.
    fn claims(&self, token: &str) -> Value {
        let (message, signature) = token.rsplit_once('.').unwrap();
        let decoded = |text: &str| BASE64_URL_SAFE_NO_PAD.decode(text).unwrap();
        let public = UnparsedPublicKey::new(&RSA_PKCS1_2048_8192_SHA256, self.pair.public_key().as_ref());
        public.verify(message.as_bytes(), &decoded(signature)).expect("signed with the key");
        let (header, claims) = message.split_once('.').unwrap();
        assert_eq!(serde_json::from_slice::<Value>(&decoded(header)).unwrap()["alg"], "RS256");
        serde_json::from_slice(&decoded(claims)).unwrap()
    }
}

/// Three requests of a client, of which only the first two need a new token: the first token ends too soon to be used for
/// long. Nothing that the guest sees is a token or part of the key.
fn three_requests(world: &mut World, (service, variable): (&str, &str)) {
    world.upstream.put("/api/x", "text/plain", "it is minted-token-2");
    let placeholder = world.variables()[variable].clone();
    let header = format!("Authorization: Bearer {placeholder}");
    let mut seen_by_guest = format!("{:?}", world.variables());
    for options in [&[][..], &["-H", &header], &["--http2"]] {
        let mut curl = world.client("curl".as_ref());
        let output =
            curl.args(["-sS", "--fail-with-body", "-i"]).args(options).arg(world.url(ALLOWED, "/api/x"));
        let output = output.output().unwrap();
        assert!(output.status.success(), "{}", shown(&output));
        seen_by_guest += &shown(&output);
    }
    // The answers held the second token, which the host has known since the second request.
    assert_eq!(seen_by_guest.matches(&format!("it is {placeholder}")).count(), 2, "{seen_by_guest}");
    // The first answer held it before it was one.
    assert_eq!(seen_by_guest.matches("minted-token-2").count(), 1, "{seen_by_guest}");
    let signed = world.upstream.asked().into_iter().map(|asked| {
        let header = asked.header("authorization").unwrap_or_default().to_owned();
        header + &String::from_utf8_lossy(&asked.body)
    });
    for hidden in
        signed.chain(["minted-token-1".to_owned(), "PRIVATE KEY".to_owned()]).filter(|text| !text.is_empty())
    {
        assert!(!seen_by_guest.contains(&hidden), "{hidden}: {seen_by_guest}");
    }
    let seen = world.seen(ALLOWED);
    let shown_tokens: Vec<_> = seen
        .iter()
        .filter(|seen| seen.path == "/api/x")
        .filter_map(|seen| seen.authorization.clone())
        .collect();
    assert_eq!(shown_tokens, ["1", "2", "2"].map(|number| format!("Bearer minted-token-{number}")));
    assert_eq!(world.upstream.asked().len(), 2);
    let log = world.stop();
    let requests = log.requests(ALLOWED);
    assert!(requests.iter().all(|line| line["credential"] == service && line["path"] == "/api/x"));
    assert_eq!(requests.len(), 3, "what the host asked is not a request of the guest's");
}

#[test]
fn an_app_of_github_gets_tokens_of_its_installation() {
    let Some(_) = need("an_app_of_github…", "curl", find("curl")) else { return };
    let keys = keys();
    let options = ["--service", "mock-app=file:{file}", "--services", "{services}"];
    let mut world = World::with_key_file(&keys.pkcs1, &options);
    three_requests(&mut world, ("mock-app", "APP_TOKEN"));
    for request in world.upstream.asked() {
        assert_eq!((request.method.as_str(), request.body.len()), ("POST", 0));
        let token = request.header("authorization").unwrap().strip_prefix("Bearer ").unwrap();
        let claims = keys.claims(token);
        let time = |name: &str| claims[name].as_u64().unwrap();
        // GitHub's most is ten minutes.
        assert_eq!((&claims["iss"], time("exp") - time("iat")), (&json!("12345"), 600));
    }
}

#[test]
fn a_service_account_of_google_gets_tokens_for_its_scopes() {
    let Some(_) = need("a_service_account…", "curl", find("curl")) else { return };
    let keys = keys();
    let account = json!({ "type": "service_account", "client_email": "me@project.test", "private_key": keys.pkcs8,
                          "token_uri": "https://allowed.test:{port}/google/token" });
    let options = ["--service", "mock-google=file:{file}", "--services", "{services}"];
    let mut world = World::with_key_file(&account.to_string(), &options);
    three_requests(&mut world, ("mock-google", "GOOGLE_TOKEN"));
    for request in world.upstream.asked() {
        let body = String::from_utf8(request.body.clone()).unwrap();
        let grant = "grant_type=urn%3Aietf%3Aparams%3Aoauth%3Agrant-type%3Ajwt-bearer&assertion=";
        let claims = keys.claims(body.strip_prefix(grant).unwrap());
        assert_eq!(claims["iss"], "me@project.test");
        assert_eq!(claims["scope"], "https://scope.test/read https://scope.test/write");
        assert_eq!(claims["aud"], format!("https://allowed.test:{}/google/token", world.upstream.port));
        assert_eq!(claims["exp"].as_u64().unwrap() - claims["iat"].as_u64().unwrap(), 3600);
    }
}
