//! One request that gets its credential: a vault of eight, the headers of an ordinary client.

use credvault::{Binding, Scheme, Secret, Target, Vault};
use divan::{Bencher, black_box};

fn main() {
    divan::main();
}

type Headers = Vec<(Vec<u8>, Vec<u8>)>;

fn vault() -> Vault {
    let mut builder = Vault::builder();
    let mut state = 1_u32;
    let mut random = |buf: &mut [u8]| {
        buf.fill_with(|| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            state.to_le_bytes()[3]
        });
        Ok(())
    };
    for n in 0..8 {
        let binding =
            Binding::bearer(&format!("KEY_{n}"), &format!("api{n}.example.com")).expect("a binding");
        let secret = Secret::new(format!("sk-live-{n}-0123456789abcdef0123456789abcdef").into_bytes());
        builder.bind(binding, secret, &mut random).expect("a credential");
    }
    builder.build()
}

fn target(host: &str) -> Target<'_> {
    Target { scheme: Scheme::Https, host, port: 443, method: "POST", path: "/v1/messages" }
}

/// `authorization` as the guest sends it, with its placeholder, and what else clients send.
fn headers(vault: &Vault) -> Headers {
    let placeholder = vault.placeholder("KEY_5").expect("bound").as_str();
    let bearer = format!("Bearer {placeholder}");
    let fields = [
        ("host", "api5.example.com"),
        ("user-agent", "anthropic-sdk-python/0.60.0"),
        ("accept", "application/json"),
        ("accept-encoding", "gzip, deflate"),
        ("content-type", "application/json"),
        ("content-length", "5321"),
        ("x-request-id", "6f1c0d52-9c0f-4b0e-8a8e-1c2d3e4f5a6b"),
        ("authorization", &bearer),
    ];
    fields.iter().map(|(name, value)| (name.as_bytes().to_vec(), value.as_bytes().to_vec())).collect()
}

#[divan::bench]
fn one_header(bencher: Bencher<'_, '_>) {
    let vault = vault();
    let headers = headers(&vault);
    let mut once = headers.clone();
    assert_eq!(
        vault.inject(&target("api5.example.com"), &mut once).expect("bound").credential,
        Some("KEY_5")
    );
    assert_ne!(once, headers);
    bencher
        .with_inputs(|| headers.clone())
        .bench_refs(|headers| vault.inject(black_box(&target("api5.example.com")), headers).is_ok());
}

/// A request to somewhere without a credential: only looked through for placeholders.
#[divan::bench]
fn no_credential(bencher: Bencher<'_, '_>) {
    let vault = vault();
    let mut headers = headers(&vault);
    headers.pop();
    assert_eq!(vault.inject(&target("other.example"), &mut headers).expect("clean").credential, None);
    bencher.bench_local(|| vault.inject(black_box(&target("other.example")), &mut headers).is_ok());
}

/// A placeholder on its way elsewhere is found and refused.
#[divan::bench]
fn refused(bencher: Bencher<'_, '_>) {
    let vault = vault();
    let mut headers = headers(&vault);
    assert!(vault.inject(&target("evil.example"), &mut headers).is_err());
    bencher.bench_local(|| vault.inject(black_box(&target("evil.example")), &mut headers).is_err());
}
