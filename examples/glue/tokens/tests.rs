//! Storing of refresh tokens, and what the guest sees of an answer. The renewal itself is tested with a real client and
//! token server (`tests/clients/tokens.rs`).

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::pin::pin;
use std::sync::mpsc::channel;
use std::task::{Context, Poll, Waker};

use credvault::{AgeFileStore, AgeKey};
use netproxy::Proxy;
use netproxy::hooks::ResolveNothing;

use super::*;
use crate::keys::{SecretSpec, Value};
use crate::live::{LivePolicy, Loaded};
use crate::services::{bind, choose};
use crate::stores::{StoreArgs, StoreSpec};

const SERVICES: &str = r#"
[[service]]
name = "mock"
env = ["MOCK_TOKEN"]
[service.token]
kind = "refresh"
url = "https://api.example/oauth/token"
client_id = "client"
refresh_env = ["MOCK_REFRESH_TOKEN"]
[[service.endpoint]]
hosts = ["api.example"]
inject = "authorization: Bearer {}"
"#;

fn mock(folder: &std::path::Path) -> Chosen {
    let file = folder.join("services.toml");
    fs::write(&file, SERVICES).unwrap();
    choose(&["mock".parse().unwrap()], Some(&file)).unwrap()
}

/// With one source, whose token server nobody reaches.
fn renewals(folder: &std::path::Path, keep: Keep) -> Arc<Renewals> {
    let mut builder = Vault::builder();
    let value = |_: &SecretSpec| {
        Ok(Value::Is { secret: Secret::new(b"refresh-token-0".to_vec()), not_after_s: Some(4_000_000_000) })
    };
    let sources = bind(&mut builder, &mock(folder), value).unwrap();
    let rules = || policy::Ruleset::parse("version = 1\n", "policy.toml").map_err(|error| error.to_string());
    let policy = LivePolicy::start(move || Loaded { rules: rules(), files: Vec::new() });
    let servers: Vec<_> = sources.iter().map(|(_, source)| source.endpoint().clone()).collect();
    let own = Proxy::builder().resolve(ResolveNothing);
    let fetch = Fetch::new(own, &servers, Arc::new(policy.unwrap())).unwrap();
    Arc::new(Renewals::new(Arc::new(builder.build()), sources, fetch, keep))
}

fn answer(number: usize) -> String {
    format!(
        r#"{{"access_token":"access-token-{number}","refresh_token":"refresh-token-{number}","expires_in":3600,
            "note":"you got access-token-{number}"}}"#
    )
}

#[tokio::test]
async fn a_token_is_used_once_all_refresh_tokens_are_stored_in_their_order() {
    let folder = tempfile::tempdir().unwrap();
    let (open, gate) = channel();
    let (gate, kept) = (std::sync::Mutex::new(gate), Arc::new(std::sync::Mutex::new(Vec::new())));
    let seen = Arc::clone(&kept);
    let keep: Keep = Arc::new(move |name, value| {
        gate.lock().unwrap().recv().unwrap();
        seen.lock().unwrap().push((name.to_owned(), value.expose().to_vec()));
    });
    let renewals = renewals(folder.path(), keep);
    for number in 1..=3 {
        assert!(!renewals.mask(0, answer(number).as_bytes()).is_empty());
    }
    let mut renewed = pin!(renewals.renew(0));
    // The token is fresh, and what it was made from is not stored yet.
    assert!(matches!(renewed.as_mut().poll(&mut Context::from_waker(Waker::noop())), Poll::Pending));
    (0..3).for_each(|_| open.send(()).unwrap());
    renewed.await.unwrap();
    let expected = |number| ("mock".to_owned(), format!("refresh-token-{number}").into_bytes());
    assert_eq!(*kept.lock().unwrap(), [1, 2, 3].map(expected));
    // The end that the stored one has holds for its successors.
    assert_eq!(renewals.vault.version("mock.refresh"), Some((4, Some(4_000_000_000))));
}

#[test]
fn the_end_of_a_stored_refresh_token_stays() {
    let folder = tempfile::tempdir().unwrap();
    let (path, identity) = (folder.path().join("s.age"), folder.path().join("me.txt"));
    let key = AgeKey::new_identity();
    fs::write(&identity, key.expose()).unwrap();
    fs::set_permissions(&identity, fs::Permissions::from_mode(0o600)).unwrap();
    let store = AgeFileStore::new(&path, AgeKey::Identity(key));
    store.put_until("mock", &Secret::new(b"refresh-token-0".to_vec()), Some(4_000_000_000)).unwrap();
    let args = StoreArgs::of(StoreSpec::AgeFile(path), Some(identity));
    let sources = Arc::new(Sources::new(args, Box::new(|_| None)));
    let chosen = mock(folder.path());
    bind(&mut Vault::builder(), &chosen, |spec| sources.value(spec)).unwrap();
    let keep = keep_in_store(&sources, &chosen, |text| panic!("{text}"));
    keep("mock", &Secret::new(b"refresh-token-1".to_vec()));
    let (value, stored) = store.fetch("mock").unwrap();
    assert_eq!(value.expose(), b"refresh-token-1");
    assert_eq!((stored.version, stored.not_after_s), (2, Some(4_000_000_000)));
}

/// Changes nothing.
struct Nothing;

impl ResponseFilter for Nothing {
    fn header(&mut self, _: &HeaderName, _: &HeaderValue) -> HeaderFate {
        HeaderFate::Keep
    }
    fn body(&mut self, chunk: Bytes) -> Bytes {
        chunk
    }
    fn finish(&mut self) -> Bytes {
        Bytes::new()
    }
    fn redactions(&self) -> u64 {
        0
    }
}

#[tokio::test]
async fn what_is_masked_is_scrubbed_of_the_new_token_too() {
    let folder = tempfile::tempdir().unwrap();
    let renewals = renewals(folder.path(), Arc::new(|_, _| ()));
    let (inner, held) = (Box::new(Nothing), Zeroizing::default());
    let mut filter = Answer { inner, renewals: Arc::clone(&renewals), number: 0, held, scrubbed: 0 };
    assert!(filter.body(answer(1).into()).is_empty());
    let text = String::from_utf8(filter.finish().to_vec()).unwrap();
    assert!(!text.contains("access-token-1") && !text.contains("refresh-token-1"), "{text}");
    let note = format!("you got {}", renewals.vault.placeholder("mock").unwrap().as_str());
    assert!(text.contains(&note), "{text}");
    assert_eq!(filter.redactions(), 2);
}
