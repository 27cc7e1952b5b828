//! The way out, with real clients: what the policy allows, and nothing else.

use std::fs;
use std::path::Path;
use std::process::Output;
use std::sync::atomic::Ordering;

use serde_json::Value;

use crate::program::{run, run_in, text};
use crate::upstream::{self, HOST, Upstream};

/// Runs a shell script in a sandbox that may reach the upstream's `/ok` paths.
pub fn with_upstream(folder: &Path, upstream: &Upstream, options: &[&str], script: &str) -> Output {
    let usual = upstream_options(folder, upstream);
    let all: Vec<&str> = usual.iter().map(String::as_str).chain(options.iter().copied()).collect();
    run_in(folder, &all, &["/bin/sh", "-c", script], b"")
}

/// The options for that: a policy in `folder`, and `audit.jsonl` there.
pub fn upstream_options(folder: &Path, upstream: &Upstream) -> Vec<String> {
    let policy = folder.join("policy.toml");
    let port = upstream.address.port();
    let text = format!(
        "version = 1\n[[allow]]\nid = \"ok\"\nhost = \"{HOST}\"\ncidr = \"127.0.0.1/32\"\nports = [{port}]\npaths = [\"/ok/**\"]\n"
    );
    fs::write(&policy, text).unwrap();
    let path = |path: &Path| path.to_str().unwrap().to_owned();
    let mut all = vec!["--no-workspace".to_owned()];
    for (option, value) in [
        ("--policy", path(&policy)),
        ("--resolve", format!("{HOST}:127.0.0.1")),
        ("--upstream-ca", path(&upstream.ca_file)),
        ("--audit", path(&folder.join("audit.jsonl"))),
    ] {
        all.extend([option.to_owned(), value]);
    }
    all
}

pub fn audit(folder: &Path) -> Vec<Value> {
    let log = fs::read_to_string(folder.join("audit.jsonl")).unwrap();
    log.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn twenty_clients_at_once_all_get_their_answer() {
    let folder = tempfile::tempdir().unwrap();
    let upstream = upstream::start(folder.path());
    let url = format!("https://{HOST}:{}/ok/", upstream.address.port());
    let script = format!(
        "seq 20 | xargs -P 20 -I N curl -sS --retry 0 -o /dev/null -w '%{{http_code}}\\n' {url}N | sort | uniq -c"
    );
    let output = with_upstream(folder.path(), &upstream, &[], &script);
    assert_eq!(text(&output.stdout).trim(), "20 200", "{}", text(&output.stderr));
    assert_eq!(upstream.requests.load(Ordering::SeqCst), 20);
    assert_eq!(
        audit(folder.path())
            .iter()
            .filter(|line| line["verdict"] == "allow" && line["layer"] == "http")
            .count(),
        20
    );
}

#[test]
fn a_key_from_the_host_is_swapped_in_and_scrubbed_out() {
    let folder = tempfile::tempdir().unwrap();
    let upstream = upstream::start(folder.path());
    let key = crate::program::HOST_SIDE_KEY;
    let script = format!(
        "curl -sS -H \"Authorization: Bearer $API_KEY\" https://{HOST}:{port}/ok/echo; env | grep ^API_KEY=",
        port = upstream.address.port()
    );
    let secret = format!("API_KEY=env:HOST_SIDE_KEY@{HOST}:{}", upstream.address.port());
    let output = with_upstream(folder.path(), &upstream, &["--secret", &secret], &script);
    let printed = text(&output.stdout);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    assert!(!printed.contains(key), "{printed}");
    let placeholder = printed.lines().find_map(|line| line.strip_prefix("API_KEY=")).unwrap();
    // The upstream echoed the head it got: with the key, which the guest sees as its placeholder.
    assert!(
        printed
            .to_ascii_lowercase()
            .contains(&format!("authorization: bearer {placeholder}").to_ascii_lowercase())
    );
    let line = audit(folder.path()).into_iter().find(|line| line["layer"] == "http").unwrap();
    assert_eq!((line["credential"].as_str(), line["redactions"].as_u64()), (Some("API_KEY"), Some(1)));
}

/// The command line alone, without a policy: the places of the keys and nothing else.
#[test]
fn a_secret_without_a_policy_opens_its_own_place_only() {
    let secret = format!("API_KEY=env:HOST_SIDE_KEY@{HOST}");
    let code = |url: &str| format!("curl -sS -o /dev/null -w '%{{http_code}} ' {url}; ");
    let script = format!(
        "echo $API_KEY; curl -sS https://{HOST}/ | grep -o '\"error\":\"[a-z_]*\"'; {}{}",
        code("https://other.test/"),
        code(&format!("https://{HOST}:8443/"))
    );
    let resolve = format!("{HOST}:127.0.0.1");
    let output = run(&["--secret", &secret, "--resolve", &resolve], &["/bin/sh", "-c", &script]);
    let printed = text(&output.stdout);
    let mut lines = printed.lines();
    assert!(lines.next().unwrap().starts_with("sbx-"), "{printed}{}", text(&output.stderr));
    // Allowed by name, and then the upstream's loopback address is not: what a policy's `cidr` is for.
    assert_eq!(lines.next(), Some("\"error\":\"address_prohibited\""));
    assert_eq!(lines.next(), Some("403 403 "));
}

#[test]
fn a_rule_can_deny_a_public_address_of_an_allowed_name() {
    let folder = tempfile::tempdir().unwrap();
    let policy = folder.path().join("policy.toml");
    let rules =
        "version = 1\n[[allow]]\nhost = \"named.test\"\n[[deny]]\nid = \"net\"\ncidr = \"198.51.101.0/24\"\n";
    fs::write(&policy, rules).unwrap();
    let options =
        ["--policy", policy.to_str().unwrap(), "--resolve", "named.test:198.51.101.7", "--no-workspace"];
    let output = run_in(folder.path(), &options, &["curl", "-sS", "https://named.test/"], b"");
    let answer: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((answer["status"].as_u64(), answer["error"].as_str()), (Some(403), Some("blocked_by_policy")));
}

#[test]
fn a_refused_python_client_tries_once_and_shows_why() {
    let folder = tempfile::tempdir().unwrap();
    let upstream = upstream::start(folder.path());
    let program = "import urllib.request, urllib.error\n\
        try: urllib.request.urlopen('https://refused.test/x')\n\
        except urllib.error.HTTPError as e: print(e.code, e.read().decode())";
    let script = format!("python3 - <<'PY'\n{program}\nPY");
    let output = with_upstream(folder.path(), &upstream, &[], &script);
    let printed = text(&output.stdout);
    assert!(printed.starts_with("403 {"), "{printed}{}", text(&output.stderr));
    let answer: Value = serde_json::from_str(&printed["403 ".len()..]).unwrap();
    assert_eq!((answer["host"].as_str(), answer["retryable"].as_bool()), (Some("refused.test"), Some(false)));
    let denials: Vec<Value> =
        audit(folder.path()).into_iter().filter(|line| line["verdict"] == "deny").collect();
    assert_eq!(denials.len(), 1);
    assert_eq!(denials[0]["decision_id"], answer["decision_id"]);
}

#[test]
fn a_refused_git_clone_ends_at_once() {
    let output = run(&[], &["git", "clone", "https://refused.test/x.git", "/tmp/x"]);
    assert_eq!(output.status.code(), Some(128));
    assert!(text(&output.stderr).contains("403"), "{}", text(&output.stderr));
}

#[test]
fn without_policy_nothing_can_be_reached() {
    let output = run(&[], &["curl", "-sS", "-o", "/dev/null", "-w", "%{http_code}", "https://example.com/"]);
    assert_eq!(text(&output.stdout), "403");
}
