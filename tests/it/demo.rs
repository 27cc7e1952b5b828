//! Each line of the demo, and its machine-readable form.

use serde_json::Value;

use crate::program::{command, finish, one_guest, text};

#[test]
fn every_promise_of_the_demo_holds() {
    let _guest = one_guest();
    let folder = tempfile::tempdir().unwrap();
    let audit = folder.path().join("audit.jsonl");
    let output = finish(
        command(
            folder.path(),
            &["demo", "--yes", "--kernel", "debian-6.12", "--json", "--audit", audit.to_str().unwrap()],
        )
        .spawn()
        .unwrap(),
    );
    let report: Value = serde_json::from_slice(&output.stdout)
        .unwrap_or_else(|error| panic!("{error}: {}{}", text(&output.stdout), text(&output.stderr)));
    let failed: Vec<&Value> =
        report["checks"].as_array().unwrap().iter().filter(|check| check["ok"] != true).collect();
    assert!(failed.is_empty(), "{failed:#?}");
    assert_eq!(output.status.code(), Some(0));
    assert_eq!(report["ok"], true);
    assert!(["kvm", "qemu"].contains(&report["engine"].as_str().unwrap()));
    assert!(report["kernel"].as_str().unwrap().starts_with(|c: char| c.is_ascii_digit()));
    let names: Vec<&str> =
        report["checks"].as_array().unwrap().iter().map(|check| check["name"].as_str().unwrap()).collect();
    let expected = [
        "no key in the guest, only a placeholder",
        "a request with the placeholder gets the key, events stream",
        "an echo of the key is redacted",
        "a program that knows no proxy gets the key too",
        "a host that is not allowed",
        "another port of an allowed host",
        "a method that is not allowed",
        "a path that is not allowed",
        "a literal address",
        "no other way out: TCP, UDP, ICMP, DNS",
        "the audit log has each of these, and no secret",
    ];
    assert_eq!(names, expected);
    // The log itself, read without the program's help.
    let log = std::fs::read_to_string(&audit).unwrap();
    let lines: Vec<Value> = log.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert!(!log.contains("sk-demo-"));
    for line in &lines {
        assert!(
            line["decision_id"].is_string() && line["ms_total"].is_number() && line["bytes_down"].is_number(),
            "{line}"
        );
    }
    let injected: Vec<&Value> = lines.iter().filter(|line| line["credential"] == "DEMO_API_KEY").collect();
    assert_eq!(injected.len(), 3);
    assert!(injected.iter().all(|line| line["rule"] == "model-api" && line["status"] == 200));
}
