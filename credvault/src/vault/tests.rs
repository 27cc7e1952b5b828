//! The vault: what goes out, what is refused, what comes back.

use std::sync::atomic::{AtomicU64, Ordering};

use super::*;
use crate::encode::base64_padded;
use crate::limits::{OLD_VALUE_S, OLD_VALUES_MAX, SECRET_BYTES_MAX, SECRET_BYTES_MIN};
use crate::matching::Allowed;
use crate::secret::Secret;
use crate::services::Services;
use crate::target::Scheme;

const KEY: &str = "sk-ant-api03-REAL-KEY-0123456789";
const GIT: &str = "ghp_REALREALREALREALREALREALREALREAL";

fn vault(names: &[(&str, &str)]) -> Vault {
    let services = Services::builtin().unwrap();
    let mut builder = Vault::builder();
    for (name, value) in names {
        let binding = services.get(name).unwrap().binding.clone();
        builder.bind(binding, secret(value), &mut crate::os_random).unwrap();
    }
    builder.build()
}

fn secret(value: &str) -> Secret {
    Secret::new(value.as_bytes().to_vec())
}

fn both() -> Vault {
    vault(&[("anthropic", KEY), ("github", GIT)])
}

fn to<'a>(host: &'a str, path: &'a str) -> Target<'a> {
    Target { scheme: Scheme::Https, host, port: 443, method: "POST", path }
}

type Headers = Vec<(Vec<u8>, Vec<u8>)>;

fn headers(list: &[(&str, &str)]) -> Headers {
    list.iter().map(|(name, value)| (name.as_bytes().to_vec(), value.as_bytes().to_vec())).collect()
}

fn ph(vault: &Vault, name: &str) -> String {
    vault.placeholder(name).unwrap().to_string()
}

/// At whatever path: what one was sent, another of the same host may show.
#[test]
fn hosts_that_are_sent_a_value_are_told_from_those_that_get_signatures() {
    let mut builder = Vault::builder();
    let keys = format!("AKIAIOSFODNN7EXAMPLE:{KEY}");
    let session = format!("ASIAIOSFODNN7EXAMPLE:{KEY}:a-session-token-of-some-length");
    for (name, host, injection, value) in [
        ("bearer", "api.example", Injection::bearer(), KEY),
        ("replaced", "*.replaced.example", Injection::replace(), GIT),
        ("aws", "s3.example", Injection::AwsSigV4, &keys),
        ("session", "sts.example", Injection::AwsSigV4, &session),
    ] {
        let mut binding = Binding::bearer(name, "other.example").unwrap();
        let paths = Allowed::Only(vec!["/v1/**".parse().unwrap()]);
        let hosts = vec![host.parse().unwrap()];
        binding.endpoints =
            vec![Endpoint { hosts, paths, ..Endpoint::https("other.example", injection).unwrap() }];
        builder.bind(binding, secret(value), &mut crate::os_random).unwrap();
    }
    let vault = builder.build();
    for (host, sent) in [
        ("api.example", true),
        ("a.replaced.example", true),
        ("s3.example", false),
        // The token is nothing without the key beside it.
        ("sts.example", false),
        ("cdn.example", false),
        ("x.api.example", false),
    ] {
        assert_eq!(vault.sends_to(host), sent, "{host}");
    }
}

#[test]
fn a_bare_request_gets_the_credential() {
    let vault = both();
    let mut sent = headers(&[("accept", "*/*")]);
    let outcome = vault.inject(&to("api.anthropic.com", "/v1/messages?beta=true"), &mut sent).unwrap();
    assert_eq!(outcome.credential, Some("anthropic"));
    assert_eq!(sent, headers(&[("accept", "*/*"), ("x-api-key", KEY)]));
}

#[test]
fn the_clients_own_auth_headers_are_removed_on_an_injected_host() {
    let vault = both();
    let own = ph(&vault, "anthropic");
    let mut sent =
        headers(&[("X-Api-Key", &own), ("Authorization", "Bearer stale"), ("x-goog-api-key", "other")]);
    // `_` is `-` to servers that make variables of names.
    sent.extend(headers(&[("x_api_key", "other"), ("Private_Token", "other"), ("Deploy-Token", "other")]));
    vault.inject(&to("api.anthropic.com", "/v1/messages"), &mut sent).unwrap();
    assert_eq!(sent, headers(&[("x-api-key", KEY)]));
}

/// A server may prefer them.
#[test]
fn the_clients_own_keys_in_the_query_are_removed_where_ours_is_put_in() {
    let vault = both();
    let own = ph(&vault, "anthropic");
    for (path, query) in [
        ("/v1/messages?private_token=glpat-x&page=2&Access%5FToken=y", Some("page=2")),
        ("/v1/messages?page=2;private_token=x&a=b", Some("page=2&a=b")),
        ("/v1/messages?api_key", Some("")),
        ("/v1/messages?[private_token]=a&b=c&%5Baccess.token=d&+api-key[]=e&job_token%00=f", Some("b=c")),
        ("/v1/messages?token=next&key=k&x=private_token", None),
        ("/v1/messages", None),
    ] {
        let mut sent = headers(&[("X-Api-Key", &own)]);
        let outcome = vault.inject(&to("api.anthropic.com", path), &mut sent).unwrap();
        assert_eq!(outcome.query.as_ref().map(|query| query.as_str()), query, "{path}");
    }
    // Without ours, theirs are theirs.
    let mut sent = headers(&[]);
    assert!(vault.inject(&to("example.com", "/?private_token=x"), &mut sent).unwrap().query.is_none());
}

#[test]
fn an_unbound_target_is_left_alone() {
    let vault = both();
    let before = headers(&[("authorization", "Bearer the-clients-own")]);
    for target in [
        to("example.com", "/"),
        to("api.anthropic.com.evil.example", "/"),
        Target { scheme: Scheme::Http, port: 80, ..to("api.anthropic.com", "/") },
        Target { port: 8443, ..to("api.anthropic.com", "/") },
    ] {
        let mut sent = before.clone();
        assert_eq!(vault.inject(&target, &mut sent).unwrap().credential, None, "{target:?}");
        assert_eq!(sent, before);
    }
}

#[test]
fn a_placeholder_for_elsewhere_is_refused_in_every_form() {
    let vault = both();
    let own = ph(&vault, "anthropic");
    let basic = |pair: String| format!("Basic {}", String::from_utf8_lossy(&base64_padded(pair.as_bytes())));
    let elsewhere = |place| InjectError::PlaceholderElsewhere { name: "anthropic".into(), place };
    for (name, value) in [
        ("authorization", format!("Bearer {own}")),
        ("x-note", format!("look: {own}!")),
        ("authorization", basic(format!("user:{own}"))),
        ("authorization", basic(format!("{own}:x"))),
        (own.as_str(), "in a name".into()),
    ] {
        let mut sent = headers(&[(name, &value)]);
        let before = sent.clone();
        let error = vault.inject(&to("evil.example", "/"), &mut sent).unwrap_err();
        assert_eq!(error, elsewhere(Place::Header), "{name}: {value}");
        assert_eq!(sent, before);
        // Another bound service is elsewhere too.
        assert!(vault.inject(&to("api.github.com", "/user"), &mut sent).is_err());
    }
    let path = format!("/collect?k={own}");
    let error = vault.inject(&to("evil.example", &path), &mut Headers::new()).unwrap_err();
    assert_eq!(error, elsewhere(Place::Query));
    assert!(!error.to_string().contains(&own));
}

#[test]
fn a_placeholder_in_the_url_is_refused_at_its_own_service_too() {
    let vault = both();
    let path = format!("/v1/x?key={}", ph(&vault, "anthropic"));
    let error = vault.inject(&to("api.anthropic.com", &path), &mut Headers::new()).unwrap_err();
    assert_eq!(error, InjectError::PlaceholderInUrl { name: "anthropic".into() });
    assert_eq!(vault.check_url(&path).unwrap_err(), error);
    assert!(vault.check_url("/v1/x?key=other").is_ok());
}

#[test]
fn git_gets_basic_and_a_web_page_only_what_it_asked_for() {
    let vault = both();
    let git = to("github.com", "/o/r.git/info/refs?service=git-upload-pack");
    let mut sent = Headers::new();
    assert_eq!(vault.inject(&git, &mut sent).unwrap().credential, Some("github"));
    let basic = base64_padded(format!("x-access-token:{GIT}").as_bytes());
    assert_eq!(sent[0].1, [b"Basic ", &basic[..]].concat());

    let page = to("github.com", "/o/r");
    let mut sent = headers(&[("accept", "text/html")]);
    assert_eq!(vault.inject(&page, &mut sent).unwrap().credential, None);
    assert_eq!(sent.len(), 1);

    let mine = base64_padded(format!("me:{}", ph(&vault, "github")).as_bytes()).to_vec();
    let mut sent = headers(&[
        ("Authorization", &format!("basic {}", String::from_utf8(mine).unwrap())),
        ("x-api-key", "stale"),
    ]);
    assert_eq!(vault.inject(&page, &mut sent).unwrap().credential, Some("github"));
    let basic = base64_padded(format!("me:{GIT}").as_bytes());
    assert_eq!(sent, [(b"Authorization".to_vec(), [b"Basic ", &basic[..]].concat())]);
}

#[test]
fn a_placeholder_outside_auth_headers_is_not_replaced() {
    let vault = both();
    let own = ph(&vault, "github");
    let mut sent = headers(&[("user-agent", &own)]);
    let before = sent.clone();
    assert_eq!(vault.inject(&to("github.com", "/o/r"), &mut sent).unwrap().credential, None);
    assert_eq!(sent, before, "the credential must not land in a log of user agents");
}

#[test]
fn two_credentials_for_one_host_are_told_apart_by_placeholder_or_rule() {
    let vault = vault(&[("anthropic", KEY), ("anthropic-oauth", "sk-ant-oat01-REAL-0123456789")]);
    let api = to("api.anthropic.com", "/v1/messages");
    let error = vault.inject(&api, &mut Headers::new()).unwrap_err();
    assert!(matches!(error, InjectError::Ambiguous { .. }), "{error}");
    let mut sent = headers(&[("authorization", &format!("Bearer {}", ph(&vault, "anthropic-oauth")))]);
    assert_eq!(vault.inject(&api, &mut sent).unwrap().credential, Some("anthropic-oauth"));
    assert_eq!(sent, headers(&[("authorization", "Bearer sk-ant-oat01-REAL-0123456789")]));
    let mut sent = Headers::new();
    assert_eq!(vault.inject_named("anthropic", &api, &mut sent).unwrap().credential, Some("anthropic"));
    assert_eq!(sent, headers(&[("x-api-key", KEY)]));
}

#[test]
fn a_rule_can_choose_but_not_widen() {
    let vault = both();
    let nowhere = to("example.com", "/");
    assert_eq!(
        vault.inject_named("anthropic", &nowhere, &mut Headers::new()).unwrap_err(),
        InjectError::NotBound { name: "anthropic".into() }
    );
    assert_eq!(
        vault.inject_named("openai", &nowhere, &mut Headers::new()).unwrap_err(),
        InjectError::NoSuchCredential { name: "openai".into() }
    );
}

#[test]
fn the_guest_gets_placeholders_only() {
    let vault = both();
    let env: Vec<_> = vault.env().collect();
    assert_eq!(
        env.iter().map(|(name, _)| *name).collect::<Vec<_>>(),
        ["ANTHROPIC_API_KEY", "GH_TOKEN", "GITHUB_TOKEN"]
    );
    assert!(env.iter().all(|(_, value)| *value != KEY && *value != GIT));
    assert_eq!(env[1].1, env[2].1);
    assert!(!vault.is_empty() && Vault::builder().build().is_empty());
    assert_eq!(vault.bindings().count(), 2);
    assert!(vault.protection().kept_out_of_dumps);
    assert_eq!(vault.names().collect::<Vec<_>>(), ["anthropic", "github"]);
}

#[test]
fn answers_hold_the_placeholder_in_place_of_the_key() {
    let vault = both();
    assert_eq!(vault.scrub_value(b"application/json"), None);
    assert_eq!(vault.scrub_value(KEY.as_bytes()).unwrap(), ph(&vault, "anthropic").as_bytes());
    let (mut scrubber, mut out) = (vault.scrubber(), Vec::new());
    scrubber.push(format!("Authorization: Bearer {GIT}").as_bytes(), &mut out);
    scrubber.finish(&mut out);
    assert_eq!(out, format!("Authorization: Bearer {}", ph(&vault, "github")).as_bytes());
    // Basic, as an echo service would show it.
    let basic = base64_padded(format!("x-access-token:{GIT}").as_bytes()).to_vec();
    let scrubbed = vault.scrub_value(&basic).unwrap();
    assert!(scrubbed.windows(8).all(|piece| !basic[28..60].windows(8).any(|other| other == piece)));
}

#[test]
fn a_key_in_the_name_of_a_header_is_found_in_lower_case_too() {
    let vault = both();
    for key in [KEY, GIT] {
        for name in [format!("x-{key}"), format!("X-{key}-y").to_ascii_lowercase(), key.to_ascii_uppercase()]
        {
            assert!(vault.scrubber().is_in_name(&name), "{name}");
        }
    }
    assert!(!vault.scrubber().is_in_name("content-type"));
    assert!(!vault.scrubber().is_in_name(&ph(&vault, "github")));
}

#[test]
fn secrets_that_would_break_a_header_are_refused_at_insertion() {
    let bind = |value: Vec<u8>| {
        let binding = Binding::bearer("key", "a.example").unwrap();
        let mut builder = Vault::builder();
        builder
            .bind(binding, Secret::new(value), &mut crate::os_random)
            .map(|_| ())
            .map_err(|error| error.to_string())
    };
    for control in [&b"\r\n"[..], b"\n", b"\0", b"\t", b"\x7f"] {
        let error = bind([b"0123456789", control, b"x: y"].concat()).unwrap_err();
        assert!(error.contains("control character"), "{error}");
    }
    assert!(bind(b"0123456789\n".to_vec()).unwrap_err().contains("newline at the end"));
    assert!(bind(b" 0123456789".to_vec()).unwrap_err().contains("space"));
    assert!(bind(vec![b'k'; SECRET_BYTES_MIN - 1]).unwrap_err().contains("shorter"));
    assert!(bind(vec![b'k'; SECRET_BYTES_MIN]).is_ok());
    assert!(bind(vec![b'k'; SECRET_BYTES_MAX]).is_ok());
    assert!(bind(vec![b'k'; SECRET_BYTES_MAX + 1]).unwrap_err().contains("longer"));
}

#[test]
fn bindings_that_collide_are_refused() {
    let services = Services::builtin().unwrap();
    let github = services.get("github").unwrap().binding.clone();
    let mut builder = Vault::builder();
    builder.bind(github.clone(), secret(GIT), &mut crate::os_random).unwrap();
    let error = |binding| {
        let mut builder = Vault::builder();
        builder.bind(github.clone(), secret(GIT), &mut crate::os_random).unwrap();
        builder.bind(binding, secret(KEY), &mut crate::os_random).map(|_| ()).unwrap_err()
    };
    assert!(matches!(error(github.clone()), BindError::Twice { .. }));
    let mut other = Binding { name: "other".into(), ..github.clone() };
    assert!(matches!(error(other.clone()), BindError::VariableTwice { .. }));
    other.env = vec!["LD_PRELOAD".into()];
    assert!(matches!(error(other.clone()), BindError::Variable { .. }));
    other.name = "a b".into();
    assert!(matches!(error(other), BindError::Name));
    let anthropic = services.get("anthropic").unwrap().binding.clone();
    let mut builder = Vault::builder();
    let refused = builder.bind(anthropic, secret("sk-ant-api03-"), &mut crate::os_random).map(|_| ());
    assert!(matches!(refused.unwrap_err(), BindError::Prefix { .. }));
}

#[test]
fn a_credential_of_a_locked_store_has_its_placeholder_and_gets_its_value_later() {
    let services = Services::builtin().unwrap();
    let mut builder = Vault::builder();
    for name in ["anthropic", "github"] {
        builder.bind_locked(services.get(name).unwrap().binding.clone(), &mut crate::os_random).unwrap();
    }
    let vault = builder.build();
    let own = ph(&vault, "anthropic");
    assert!(vault.env().any(|(_, value)| value == own));
    let target = to("api.anthropic.com", "/v1/messages");
    let locked = InjectError::Locked { name: "anthropic".to_owned() };
    for mut sent in [headers(&[]), headers(&[("x-api-key", &own)])] {
        let before = sent.clone();
        assert_eq!(vault.inject(&target, &mut sent).unwrap_err(), locked);
        assert_eq!(vault.inject_named("anthropic", &target, &mut sent).unwrap_err(), locked);
        assert_eq!(sent, before);
    }
    assert_eq!(vault.version("anthropic"), None);
    let elsewhere = vault.inject(&to("evil.example", "/"), &mut headers(&[("x-api-key", &own)]));
    assert!(matches!(elsewhere, Err(InjectError::PlaceholderElsewhere { .. })));

    assert!(matches!(vault.rotate("anthropic", secret("short"), None), Err(BindError::TooShort { .. })));
    assert_eq!(vault.rotate("anthropic", secret(KEY), None).unwrap(), 1);
    let mut sent = headers(&[]);
    vault.inject(&target, &mut sent).unwrap();
    assert_eq!(sent, headers(&[("x-api-key", KEY)]));
    assert_eq!(vault.scrub_value(KEY.as_bytes()), Some(own.into_bytes()));
    assert_eq!(vault.rotate("anthropic", secret(GIT), None).unwrap(), 2);
}

#[test]
fn a_vault_can_be_shared_between_threads() {
    fn shared<T: Send + Sync>() {}
    shared::<Vault>();
    shared::<Scrubber>();
}

const TARGET_PATH: &str = "/v1/messages";

/// A vault with one credential whose first value is `value-00…`, on a clock that tests set.
fn on_a_clock(not_after_s: Option<u64>) -> (Vault, Arc<AtomicU64>) {
    let clock = Arc::new(AtomicU64::new(1_000));
    let (services, ours) = (Services::builtin().unwrap(), Arc::clone(&clock));
    let binding = services.get("anthropic").unwrap().binding.clone();
    let mut builder = Vault::builder();
    builder.bind_until(binding, secret(&value(0)), not_after_s, &mut crate::os_random).unwrap();
    builder.clock(move || ours.load(Ordering::Relaxed));
    (builder.build(), clock)
}

fn value(number: usize) -> String {
    format!("value-{number:02}-Rr8Zk2Qm5Xv7")
}

fn scrubbed_of(vault: &Vault, numbers: std::ops::Range<usize>) -> Vec<usize> {
    numbers.filter(|&number| vault.scrub_value(value(number).as_bytes()).is_some()).collect()
}

#[test]
fn replaced_values_are_scrubbed_until_a_week_is_over_or_there_are_too_many() {
    let (vault, clock) = on_a_clock(None);
    for number in 1..=OLD_VALUES_MAX + 3 {
        vault.rotate("anthropic", secret(&value(number)), None).unwrap();
    }
    assert_eq!(scrubbed_of(&vault, 0..30), (3..=OLD_VALUES_MAX + 3).collect::<Vec<_>>());
    clock.fetch_add(OLD_VALUE_S - 1, Ordering::Relaxed);
    vault.rotate("anthropic", secret(&value(20)), None).unwrap();
    assert_eq!(scrubbed_of(&vault, 0..30), (4..=20).collect::<Vec<_>>());
    clock.fetch_add(1, Ordering::Relaxed);
    vault.rotate("anthropic", secret(&value(21)), None).unwrap();
    assert_eq!(scrubbed_of(&vault, 0..30), [19, 20, 21]);
}

#[test]
fn replaced_values_with_an_end_are_scrubbed_until_then() {
    let (vault, clock) = on_a_clock(Some(1_100));
    for (number, end) in [(1, 1_300), (2, 1_200), (3, 9_000)] {
        vault.rotate("anthropic", secret(&value(number)), Some(end)).unwrap();
    }
    assert_eq!(scrubbed_of(&vault, 0..10), [0, 1, 2, 3]);
    clock.store(1_200, Ordering::Relaxed);
    vault.rotate("anthropic", secret(&value(4)), Some(1_201)).unwrap();
    assert_eq!(scrubbed_of(&vault, 0..10), [1, 3, 4]);
    // The last one is kept although it is over: answers to it may be under way.
    clock.store(1_400, Ordering::Relaxed);
    vault.rotate("anthropic", secret(&value(5)), Some(9_000)).unwrap();
    assert_eq!(scrubbed_of(&vault, 0..10), [3, 4, 5]);
    vault.rotate("anthropic", secret(&value(6)), Some(9_000)).unwrap();
    assert_eq!(scrubbed_of(&vault, 0..10), [3, 5, 6]);
}

/// As a store does that gives the same token again with another end, or two in turn.
#[test]
fn values_that_come_again_take_no_room() {
    let (vault, _) = on_a_clock(None);
    for number in 1..=OLD_VALUES_MAX + 20 {
        vault.rotate("anthropic", secret(&value(number % 3)), None).unwrap();
    }
    assert_eq!(scrubbed_of(&vault, 0..10), [0, 1, 2]);
    assert_eq!(vault.version("anthropic").unwrap().0, u64::try_from(OLD_VALUES_MAX).unwrap() + 21);
}

#[test]
fn a_scrubber_keeps_the_values_of_its_beginning_and_learns_those_that_come() {
    let (vault, _) = on_a_clock(None);
    let mut scrubber = vault.scrubber();
    let last = OLD_VALUES_MAX + 5;
    for number in 1..=last {
        vault.rotate("anthropic", secret(&value(number)), None).unwrap();
        let mut sent = headers(&[]);
        vault.inject(&to("api.anthropic.com", TARGET_PATH), &mut sent).unwrap();
        assert_eq!(sent, headers(&[("x-api-key", &value(number))]));
        vault.update(&mut scrubber);
        assert!(scrubber.scrub_value(value(number).as_bytes()).is_some());
    }
    assert_eq!(vault.scrub_value(value(0).as_bytes()), None);
    let mut out = Vec::new();
    scrubber.push(format!("{} {} {}", value(0), value(last), value(1)).as_bytes(), &mut out);
    scrubber.finish(&mut out);
    let own = ph(&vault, "anthropic");
    assert_eq!(String::from_utf8(out).unwrap(), format!("{own} {own} {}", value(1)));
}

#[test]
fn no_request_carries_what_no_answer_is_scrubbed_of() {
    let (vault, _) = on_a_clock(None);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for number in 1..60 {
                vault.rotate("anthropic", secret(&value(number)), None).unwrap();
            }
        });
        while vault.version("anthropic").unwrap().0 < 60 {
            let mut sent = headers(&[]);
            vault.inject(&to("api.anthropic.com", TARGET_PATH), &mut sent).unwrap();
            assert!(vault.scrub_value(&sent[0].1).is_some());
        }
    });
}
