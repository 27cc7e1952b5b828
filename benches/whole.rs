//! What one allowed request costs beyond being forwarded: the decision, the credential, the line of the audit log.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use credvault::{Binding, Secret, Target, Vault};
use divan::{Bencher, black_box};
use netproxy::audit::{Layer, Outcome, Record, audit_json_line};
use netproxy::id::DecisionId;
use policy::{Facts, Host, Rule, Ruleset, RulesetBuilder, Scheme, decide};

fn main() {
    divan::main();
}

type Headers = Vec<(Vec<u8>, Vec<u8>)>;

const PATH: &str = "/v1/messages";

fn rules() -> Ruleset {
    let mut rules = (0..10).map(|n| {
        let rule = Rule::allow().host(format!("api{n}.example.com")).method("GET").method("POST");
        rule.path("/v1/**").credential(format!("KEY_{n}"))
    });
    let builder = rules.try_fold(RulesetBuilder::new(), RulesetBuilder::rule);
    builder.expect("rules that load").build()
}

fn vault() -> Vault {
    let mut builder = Vault::builder();
    // The same every time, and long enough that no two placeholders are one.
    let mut state = 1_u64;
    let mut random = |buf: &mut [u8]| {
        buf.fill_with(|| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            state.to_be_bytes()[0]
        });
        Ok(())
    };
    for n in 0..8 {
        let binding = Binding::bearer(&format!("KEY_{n}"), &format!("api{n}.example.com"));
        let secret = Secret::new(format!("sk-live-{n}-0123456789abcdef0123456789abcdef").into_bytes());
        builder.bind(binding.expect("a binding"), secret, &mut random).expect("a credential");
    }
    builder.build()
}

fn headers(vault: &Vault) -> Headers {
    let bearer = format!("Bearer {}", vault.placeholder("KEY_5").expect("bound").as_str());
    let fields = [
        ("host", "api5.example.com"),
        ("user-agent", "anthropic-sdk-python/0.60.0"),
        ("accept", "application/json"),
        ("content-type", "application/json"),
        ("authorization", &bearer),
    ];
    fields.iter().map(|(name, value)| (name.as_bytes().to_vec(), value.as_bytes().to_vec())).collect()
}

fn one(rules: &Ruleset, vault: &Vault, headers: &mut Headers) -> String {
    let facts = Facts::http(Scheme::Https, Host::Name("api5.example.com"), 443, "POST", PATH);
    let verdict = decide(rules, &facts);
    let rule = verdict.rule.map(|rule| Arc::from(rule.id));
    let host = "api5.example.com";
    let target = Target { scheme: credvault::Scheme::Https, host, port: 443, method: "POST", path: PATH };
    let credential = vault.inject(&target, headers).expect("bound").credential;
    let id = DecisionId::new(1, [7; 10]);
    let mut record = Record::new(SystemTime::UNIX_EPOCH, id, Layer::Http, Outcome::Allow);
    record.rule = rule;
    record.host = Some(host.into());
    record.port = Some(443);
    record.method = Some("POST".into());
    record.path = Some(PATH.into());
    record.status = Some(200);
    record.credential = credential.map(Arc::from);
    record.ms_total = netproxy::audit::milliseconds(Duration::from_micros(1234));
    audit_json_line(&record)
}

#[divan::bench]
fn decision_injection_and_audit(bencher: Bencher<'_, '_>) {
    let (rules, vault) = (rules(), vault());
    let fresh = headers(&vault);
    let line = one(&rules, &vault, &mut fresh.clone());
    assert!(line.contains("\"credential\":\"KEY_5\""), "{line}");
    bencher
        .with_inputs(|| fresh.clone())
        .bench_refs(|headers| one(black_box(&rules), black_box(&vault), headers));
}
