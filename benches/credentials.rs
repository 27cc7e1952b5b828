//! A credential found again, and a request signed: what a call costs beside putting a header in (`inject.rs`).

use credvault::{Binding, CommandSource, Companion, Payload, Scheme, Secret, Target, Vault};
use divan::{Bencher, black_box};

fn main() {
    divan::main();
}

type Headers = Vec<(Vec<u8>, Vec<u8>)>;

fn vault(bindings: Vec<(Binding, &str)>) -> Vault {
    let mut builder = Vault::builder();
    builder.clock(|| 1_000);
    for (binding, value) in bindings {
        let secret = Secret::new(value.as_bytes().to_vec());
        builder.bind(binding, secret, &mut credvault::os_random).expect("a credential");
    }
    builder.build()
}

/// The answer of a command that is still kept: nothing is run, nothing copied.
#[divan::bench]
fn lookup_of_a_kept_answer(bencher: Bencher<'_, '_>) {
    let words = ["printf", "%s", "sk-live-0123456789abcdef"].map(str::to_owned).to_vec();
    let source = CommandSource::new(words, 10_000, 60).expect("words");
    assert_eq!(source.fetch(1_000).expect("printf").expose(), b"sk-live-0123456789abcdef");
    bencher.bench_local(|| source.fetch(black_box(1_001)).is_ok());
}

/// The last of eight credentials, by its name.
#[divan::bench]
fn lookup_in_a_vault(bencher: Bencher<'_, '_>) {
    let binding =
        |n| Binding::bearer(&format!("KEY_{n}"), &format!("api{n}.example.com")).expect("a binding");
    let vault = vault((0..8).map(|n| (binding(n), "sk-live-0123456789abcdef")).collect());
    assert_eq!(vault.version("KEY_7"), Some((1, None)));
    bencher.bench_local(|| vault.version(black_box("KEY_7")));
}

/// A request with a body of 1 KiB, as an AWS SDK sends it, signed anew with the real keys.
#[divan::bench]
fn sigv4_of_1_kib(bencher: Bencher<'_, '_>) {
    let vault = vault(vec![(aws(), "AKIDEXAMPLEEXAMPLE:wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY")]);
    let headers = signed_by_the_client(&vault);
    let target = Target {
        scheme: Scheme::Https,
        host: "bedrock.example.com",
        port: 443,
        method: "POST",
        path: "/model/a%3Ab/invoke?trace=on",
    };
    let body = [b'x'; 1024];
    let mut once = headers.clone();
    let outcome = vault.inject_with(&target, &mut once, Payload::Bytes(&body)).expect("signed");
    assert_eq!(outcome.credential, Some("AWS"));
    assert_ne!(once, headers);
    bencher.with_inputs(|| headers.clone()).bench_refs(|headers| {
        vault.inject_with(black_box(&target), headers, Payload::Bytes(black_box(&body))).is_ok()
    });
}

fn aws() -> Binding {
    let mut binding = Binding::bearer("AWS", "bedrock.example.com").expect("a binding");
    for endpoint in &mut binding.endpoints {
        endpoint.injection = "aws-sigv4".parse().expect("an injection");
    }
    binding.env = vec!["AWS_ACCESS_KEY_ID".to_owned()];
    binding.placeholder = "AKIA{16:base32}".parse().expect("a format");
    binding.companions = vec![Companion {
        env: vec!["AWS_SECRET_ACCESS_KEY".to_owned()],
        placeholder: "{40:alnum}".parse().expect("a format"),
    }];
    binding
}

fn signed_by_the_client(vault: &Vault) -> Headers {
    let id = vault.placeholder("AWS").expect("bound");
    let authorization = format!(
        "AWS4-HMAC-SHA256 Credential={id}/20260101/eu-west-1/bedrock/aws4_request, \
         SignedHeaders=content-type;host;x-amz-date, Signature={}",
        "0".repeat(64)
    );
    let fields = [
        ("host", "bedrock.example.com"),
        ("user-agent", "Boto3/1.40 md/Botocore#1.40 ua/2.1 os/linux md/arch#x86_64 lang/python#3.12"),
        ("content-type", "application/json"),
        ("content-length", "1024"),
        ("x-amz-date", "20260101T000000Z"),
        ("authorization", &authorization),
    ];
    fields.iter().map(|(name, value)| (name.as_bytes().to_vec(), value.as_bytes().to_vec())).collect()
}
