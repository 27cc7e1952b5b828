//! Storing of refresh tokens, and what the guest sees of an answer. The renewal itself is tested with a real client and
//! token server (`tests/clients/tokens.rs`).

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::pin::{Pin, pin};
use std::sync::mpsc::channel;
use std::task::{Context, Poll, Waker};

use credvault::{AgeFileStore, AgeKey, VaultBuilder};
use http::StatusCode;
use netproxy::Proxy;
use netproxy::hooks::ResolveNothing;

mod served;

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
    renewals_in(Vault::builder(), folder, keep)
}

fn renewals_in(mut builder: VaultBuilder, folder: &std::path::Path, keep: Keep) -> Arc<Renewals> {
    let value = |_: &SecretSpec| {
        Ok(Value::Is { secret: Secret::new(b"refresh-token-0".to_vec()), not_after_s: Some(4_000_000_000) })
    };
    let sources = bind(&mut builder, &mock(folder), value).unwrap();
    let rules = || policy::Ruleset::parse("version = 1\n", "policy.toml").map_err(|error| error.to_string());
    let policy = LivePolicy::start(move || Loaded { rules: rules(), files: Vec::new() });
    let servers: Vec<_> = sources.iter().map(|(_, source)| source.endpoint().clone()).collect();
    let own = Proxy::builder().resolve(ResolveNothing);
    let fetch = Fetch::new(own, &servers, Arc::new(policy.unwrap())).unwrap();
    Arc::new(Renewals::new(Arc::new(builder.build()), sources, fetch, (keep, Arc::new(|_| ()))))
}

fn answer(number: usize) -> String {
    format!(
        r#"{{"access_token":"access-token-{number}","refresh_token":"refresh-token-{number}","expires_in":3600,
            "note":"you got access-token-{number}"}}"#
    )
}

/// As the guest sees it.
async fn mask(renewals: &Renewals, body: String) -> String {
    let answer = (StatusCode::OK, body.as_bytes());
    let (body, kept) = renewals.mask(&renewals.sources[0], answer).await.unwrap();
    assert_eq!(kept, Ok(()));
    String::from_utf8(body).unwrap()
}

#[tokio::test]
async fn a_token_is_used_once_what_it_was_made_from_is_stored() {
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
        let turn = renewals.turn(&renewals.sources[0]).await.unwrap();
        let mut masked = pin!(async {
            let _turn = turn;
            mask(&renewals, answer(number)).await
        });
        let is_pending = |future: Pin<&mut dyn Future<Output = _>>| {
            future.poll(&mut Context::from_waker(Waker::noop())).is_pending()
        };
        assert!(is_pending(masked.as_mut()));
        // The host's own waits its turn, and then there is nothing to do.
        let version = renewals.vault.version("mock").map_or(0, |(version, _)| version);
        assert_eq!(version, u64::try_from(number).unwrap());
        open.send(()).unwrap();
        masked.await;
        renewals.renew(0).await.unwrap();
    }
    let expected = |number| ("mock".to_owned(), format!("refresh-token-{number}").into_bytes());
    assert_eq!(*kept.lock().unwrap(), [1, 2, 3].map(expected));
    // The end that the stored one has holds for its successors.
    assert_eq!(renewals.vault.version("mock.refresh"), Some((4, Some(4_000_000_000))));
}

#[tokio::test]
async fn nobody_waits_for_a_renewal_whose_token_is_good() {
    let folder = tempfile::tempdir().unwrap();
    let renewals = renewals(folder.path(), Arc::new(|_, _| ()));
    let turn = renewals.turn(&renewals.sources[0]).await.unwrap();
    let wait = |future: Pin<&mut dyn Future<Output = Result<(), String>>>| {
        future.poll(&mut Context::from_waker(Waker::noop()))
    };
    // There is none yet: it waits for the one under way.
    assert!(wait(pin!(renewals.renew(0))).is_pending());
    mask(&renewals, answer(1)).await;
    // Ready at its first poll: no task was started for it.
    assert_eq!(wait(pin!(renewals.renew(0))), Poll::Ready(Ok(())));
    drop(turn);
}

#[tokio::test]
async fn the_host_waits_for_one_of_many_renewals_of_the_guests_at_most() {
    let folder = tempfile::tempdir().unwrap();
    let renewals = renewals(folder.path(), Arc::new(|_, _| ()));
    let renewed = &renewals.sources[0];
    let mut context = Context::from_waker(Waker::noop());
    let under_way = renewals.turn(renewed).await.unwrap();
    let (mut first, mut second) =
        (pin!(guest::turn(&renewals, renewed)), pin!(guest::turn(&renewals, renewed)));
    assert!(
        first.as_mut().poll(&mut context).is_pending() && second.as_mut().poll(&mut context).is_pending()
    );
    let mut host = pin!(renewals.turn(renewed));
    assert!(host.as_mut().poll(&mut context).is_pending());
    drop(under_way);
    drop(first.await.unwrap());
    assert!(second.as_mut().poll(&mut context).is_pending());
    drop(host.await.unwrap());
    second.await.unwrap();
}

#[tokio::test]
async fn the_end_waits_for_the_renewal_under_way_and_lets_none_begin() {
    let folder = tempfile::tempdir().unwrap();
    let renewals = renewals(folder.path(), Arc::new(|_, _| ()));
    let turn = renewals.turn(&renewals.sources[0]).await.unwrap();
    let mut waiting = pin!(renewals.renew(0));
    let told = std::sync::Mutex::new(Vec::new());
    let tell = |text: &str| told.lock().unwrap().push(text.to_owned());
    let mut finish = pin!(renewals.finish(tell));
    let mut context = Context::from_waker(Waker::noop());
    assert!(waiting.as_mut().poll(&mut context).is_pending());
    assert!(finish.as_mut().poll(&mut context).is_pending());
    assert!(told.lock().unwrap().concat().contains("is being renewed"));
    drop(turn);
    assert!(waiting.await.unwrap_err().contains("the program ends"));
    finish.await;
    renewals.finish(|text| panic!("{text}")).await;
}

#[tokio::test]
async fn a_rotation_does_not_hold_up_the_thread_that_carries_the_traffic() {
    let folder = tempfile::tempdir().unwrap();
    let (seen, threads) = channel();
    let mut builder = Vault::builder();
    // Each rotation asks for the time.
    builder.clock(move || {
        seen.send(std::thread::current().id()).unwrap();
        os_clock()
    });
    let renewals = renewals_in(builder, folder.path(), Arc::new(|_, _| ()));
    let _ = threads.try_iter().count();
    mask(&renewals, answer(1)).await;
    let threads: Vec<_> = threads.try_iter().collect();
    assert!(threads.len() == 2 && !threads.contains(&std::thread::current().id()), "{threads:?}");
}

/// A store with the first refresh token, and the sources of values that use it.
fn stored(folder: &std::path::Path) -> (AgeFileStore, Arc<Sources>) {
    let (path, identity) = (folder.join("s.age"), folder.join("me.txt"));
    let key = AgeKey::new_identity();
    fs::write(&identity, key.expose()).unwrap();
    fs::set_permissions(&identity, fs::Permissions::from_mode(0o600)).unwrap();
    let store = AgeFileStore::new(&path, AgeKey::Identity(key));
    store.put_until("mock", &Secret::new(b"refresh-token-0".to_vec()), Some(4_000_000_000)).unwrap();
    let args = StoreArgs::of(StoreSpec::AgeFile(path), Some(identity));
    (store, Arc::new(Sources::new(args, Box::new(|_| None))))
}

#[test]
fn the_end_of_a_stored_refresh_token_stays() {
    let folder = tempfile::tempdir().unwrap();
    let (store, sources) = stored(folder.path());
    let chosen = mock(folder.path());
    bind(&mut Vault::builder(), &chosen, |spec| sources.value(spec)).unwrap();
    let keep = keep_in_store(&sources, &chosen, Arc::new(|text| panic!("{text}")));
    keep("mock", &Secret::new(b"refresh-token-1".to_vec()));
    let (value, stored) = store.fetch("mock").unwrap();
    assert_eq!(value.expose(), b"refresh-token-1");
    assert_eq!((stored.version, stored.not_after_s), (2, Some(4_000_000_000)));
}
