//! `agent-sandbox policy …`: answers without a guest, in text and JSON, with exit codes that scripts can use.

use std::fs;
use std::path::Path;

use serde_json::Value;
use tempfile::TempDir;

use crate::program::{command, finish, text};

const POLICY: &str = r#"
version = 1
[[allow]]
id = "api"
host = "api.example.com"
methods = ["GET", "POST"]
paths = ["/v1/**"]
credential = "KEY"

[[allow]]
id = "old"
host = "old.example.com"
expires = "2026-06-01T00:00:00Z"

[[allow]]
id = "near"
host = "near.test"
cidr = "127.0.0.0/8"

[[deny]]
id = "no-admin"
host = "**.example.com"
paths = ["/v1/admin/**"]

[[test]]
request = "POST https://api.example.com/v1/x"
expect = "allow"
rule = "api"

[[test]]
request = "GET https://api.example.com/v1/admin/users"
expect = "deny"
rule = "no-admin"
"#;

fn folder(policy: &str) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("p.toml"), policy).unwrap();
    folder
}

/// Runs `agent-sandbox policy ARGUMENTS`: exit code, standard output, standard error.
fn ask(folder: &Path, arguments: &[&str]) -> (i32, String, String) {
    let arguments: Vec<&str> = ["policy"].iter().chain(arguments).copied().collect();
    let output = finish(command(folder, &arguments).spawn().unwrap());
    (output.status.code().unwrap(), text(&output.stdout), text(&output.stderr))
}

fn json(folder: &Path, arguments: &[&str]) -> (i32, Value) {
    let arguments: Vec<&str> = arguments.iter().chain(&["--json"]).copied().collect();
    let (code, said, errors) = ask(folder, &arguments);
    (code, serde_json::from_str(&said).unwrap_or_else(|error| panic!("{error}: {said}{errors}")))
}

#[test]
fn check_answers_as_the_proxy_would() {
    let folder = folder(POLICY);
    for (question, more, expected) in [
        (["POST", "https://API.example.com/v1/x?q=1"], &[][..], (0, "rule \"api\" (p.toml:3)")),
        (["POST", "https://api.example.com/v2"], &[], (1, "whose `paths` does not match")),
        (["GET", "https://api.example.com/v1/ADMIN"], &[], (1, "rule \"no-admin\"")),
        (["get", "https://api.example.com/v1/x"], &[], (1, "not an upper-case token")),
        (["GET", "https://old.example.com/"], &["--at", "2026-05-31T23:59:59Z"], (0, "rule \"old\"")),
        (["GET", "https://old.example.com/"], &["--at", "2026-06-01T00:00:00Z"], (1, "`expires` is over")),
        (["CONNECT", "api.example.com:443"], &[], (0, "rule \"api\"")),
        (["DNS", "evil.test"], &[], (1, "no rule allows it")),
        (["GET", "https://near.test/"], &["--address", "127.0.0.1"], (0, "127.0.0.1")),
        (["GET", "https://near.test/"], &["--address", "192.168.0.1"], (1, "no rule names this private")),
        (["GET", "https://near.test/"], &["--address", "::ffff:127.0.0.1"], (0, "special: ")),
        (["GET", "https://127.0.0.1/"], &[], (1, "no rule allows it")),
    ] {
        let arguments: Vec<&str> =
            ["check", "--policy", "p.toml"].iter().chain(&question).chain(more).copied().collect();
        let (code, said, errors) = ask(folder.path(), &arguments);
        assert_eq!(code, expected.0, "{question:?}: {said}{errors}");
        assert!(said.contains(expected.1), "{question:?}: {said}");
        let (code, object) = json(folder.path(), &arguments);
        assert_eq!(code, expected.0);
        assert_eq!(object["allowed"], code == 0);
        assert_eq!(object["verdict"]["effect"], if code == 0 { "allow" } else { "deny" });
        assert!(said.starts_with(object["text"].as_str().unwrap()), "{said}\n{object}");
    }
    let (_, object) =
        json(folder.path(), &["check", "POST", "https://api.example.com/v1/x", "--policy", "p.toml"]);
    assert_eq!(object["verdict"]["credential"], "KEY");
    assert_eq!(object["verdict"]["rule"]["line"], 3);
}

#[test]
fn what_cannot_be_told_is_exit_code_2() {
    let folder = folder("version = 1\n[[allow]]\nhost = 1\n");
    let good = folder.path().join("good.toml");
    fs::write(&good, POLICY).unwrap();
    for (arguments, expected) in [
        (&["check", "GET", "https://a.test/", "--policy", "p.toml"][..], "p.toml:3"),
        (&["check", "GET", "https://a.test/", "--policy", "none.toml"], "none.toml"),
        (
            &["check", "GET", "https://a.test/", "--at", "tomorrow", "--policy", "good.toml"],
            "2027-01-31T12:00:00Z",
        ),
        (&["check", "GET", "https://a.test/"], "--policy"),
        (&["check", "GET", "a.test", "--policy", "good.toml"], "https://"),
        (&["check", "GET", "https://a.test/../x", "--policy", "good.toml"], "'.' or '..' segment"),
        (&["test", "--policy", "p.toml"], "p.toml:3"),
        (&["lint", "--policy", "p.toml"], "p.toml:3"),
        (&["nonsense"], "nonsense"),
    ] {
        let (code, said, errors) = ask(folder.path(), arguments);
        assert_eq!((code, &*said), (2, ""), "{arguments:?}: {errors}");
        assert!(errors.contains(expected), "{arguments:?}: {errors}");
        assert!(errors.lines().count() <= 24, "{errors}");
    }
}

#[test]
fn layers_are_one_policy() {
    let folder = folder(POLICY);
    let ceiling = "version = 1\nceiling = true\n[[allow]]\nid = \"bound\"\nhost = \"**.example.com\"\nmethods = [\"GET\"]\n";
    fs::write(folder.path().join("org.toml"), ceiling).unwrap();
    let arguments =
        ["check", "POST", "https://api.example.com/v1/x", "--policy", "p.toml", "--policy", "org.toml"];
    let (code, object) = json(folder.path(), &arguments);
    assert_eq!((code, &object["verdict"]["cause"]["kind"]), (1, &"ceiling".into()));
    assert_eq!(object["verdict"]["layer"], "org.toml");
}

#[test]
fn tests_are_counted_and_those_that_fail_are_explained() {
    let good = folder(POLICY);
    let (code, said, _) = ask(good.path(), &["test", "--policy", "p.toml"]);
    assert_eq!(code, 0, "{said}");
    assert!(said.contains("2 tests: 2 passed, 0 failed"), "{said}");
    let bad = folder(&POLICY.replacen("expect = \"deny\"", "expect = \"allow\"", 1));
    let (code, said, _) = ask(bad.path(), &["test", "--policy", "p.toml"]);
    assert_eq!(code, 1, "{said}");
    assert!(
        said.contains("✗ p.toml:30") && said.contains("expected allow by rule \"no-admin\", got denied"),
        "{said}"
    );
    let (code, object) = json(bad.path(), &["test", "--policy", "p.toml"]);
    assert_eq!((code, &object["passed"], &object["failed"]), (1, &1.into(), &1.into()));
    assert_eq!(object["tests"][1]["line"], 30);
    assert_eq!(object["tests"][1]["passed"], false);
    // Such a policy is not enforced, and not asked as if it were.
    let (code, _, errors) = ask(bad.path(), &["check", "GET", "https://a.test/", "--policy", "p.toml"]);
    assert_eq!(code, 2);
    assert!(errors.contains("p.toml:30"), "{errors}");
}

#[test]
fn lint_tells_place_and_remedy_and_warns_by_its_exit_code() {
    let folder = folder(POLICY);
    let arguments = ["lint", "--policy", "p.toml", "--at", "2026-05-01T00:00:00Z"];
    let (code, said, _) = ask(folder.path(), &arguments);
    assert_eq!(code, 0, "{said}");
    assert!(said.contains("p.toml:10: note: rule \"old\" decides none"), "{said}");
    assert!(said.contains("4 rules: 0 errors, 0 warnings, 2 notes"), "{said}");
    let (code, object) = json(folder.path(), &["lint", "--policy", "p.toml", "--at", "2026-07-01T00:00:00Z"]);
    assert_eq!((code, &object["warnings"]), (1, &1.into()));
    let finding = &object["findings"][0];
    assert_eq!(
        (&finding["code"], &finding["rule"]["id"], &finding["rule"]["line"]),
        (&"expired".into(), &"old".into(), &10.into())
    );
}

/// Lines as the proxy writes them, with what matters here.
fn audit(folder: &Path) {
    let line = |layer: &str, verdict: &str, rule: Value, request: (&str, &str, &str)| {
        let error = if verdict == "deny" { Value::from("blocked_by_policy") } else { Value::Null };
        let (method, host, path) = request;
        let mut line = serde_json::json!({
            "v": 1, "layer": layer, "verdict": verdict, "rule": rule, "error": error, "scheme": "https",
            "host": host, "port": 443, "method": method, "path": path,
        });
        line.as_object_mut().unwrap().retain(|_, value| !value.is_null());
        line.to_string()
    };
    let none = Value::Null;
    let lines = [
        line("http", "allow", "api".into(), ("POST", "api.example.com", "/v1/x")),
        line("http", "deny", none.clone(), ("POST", "new.test", "/v1/items/1")),
        line("http", "deny", none.clone(), ("POST", "new.test", "/v1/items/2")),
        line("http", "deny", none.clone(), ("POST", "new.test", "/v1/items/2")),
        line("http", "deny", "no-admin".into(), ("GET", "api.example.com", "/v1/admin/x")),
        line("http", "deny", none, ("GET", "gist.github.com", "/")),
        "torn {".to_owned(),
    ];
    fs::write(folder.join("audit.jsonl"), lines.join("\n")).unwrap();
}

#[test]
fn diff_tells_what_of_a_log_would_fare_otherwise() {
    let folder = folder(POLICY);
    audit(folder.path());
    let other = POLICY.replace("\"KEY\"", "\"OTHER\"") + "[[allow]]\nid = \"new\"\nhost = \"new.test\"\n";
    fs::write(folder.path().join("q.toml"), other).unwrap();
    let (code, said, errors) = ask(folder.path(), &["diff", "p.toml", "q.toml", "--audit", "audit.jsonl"]);
    assert_eq!(code, 1, "{said}{errors}");
    assert!(said.contains("allowed   POST https://new.test/v1/items/2 (2 times)\n"), "{said}");
    assert!(said.contains("    before: denied: ") && said.contains("credential OTHER"), "{said}");
    assert!(
        said.contains("3 of 5 attempts change: 2 allowed, 0 denied, 1 otherwise\n1 line skipped"),
        "{said}"
    );
    let (code, object) = json(folder.path(), &["diff", "q.toml", "p.toml", "--audit", "audit.jsonl"]);
    assert_eq!((code, &object["denied"], &object["otherwise"]), (1, &2.into(), &1.into()));
    assert_eq!(object["changes"][1]["before"]["rule"]["id"], "new");
    let (code, said, _) = ask(folder.path(), &["diff", "p.toml", "p.toml", "--audit", "audit.jsonl"]);
    assert_eq!(code, 0, "{said}");
    let (code, _, errors) = ask(folder.path(), &["diff", "p.toml", "q.toml", "--audit", "none.jsonl"]);
    assert!(code == 2 && errors.contains("none.jsonl"), "{errors}");
}

#[test]
fn what_is_suggested_can_be_used_at_once() {
    let folder = folder(POLICY);
    audit(folder.path());
    let (code, said, errors) = ask(folder.path(), &["suggest", "audit.jsonl", "--policy", "p.toml"]);
    assert_eq!(code, 1, "one was denied by a rule: {said}{errors}");
    assert!(said.contains("paths = [\"/v1/items/*\"]") && said.contains("# Look twice: "), "{said}");
    assert!(
        said.contains("# Left out: GET https://api.example.com/v1/admin/x: denied by rule \"no-admin\""),
        "{said}"
    );
    fs::write(folder.path().join("more.toml"), said).unwrap();
    for (url, expected) in [("https://new.test/v1/items/3", 0), ("https://new.test/v2", 1)] {
        let arguments = ["check", "POST", url, "--policy", "p.toml", "--policy", "more.toml"];
        let (code, said, errors) = ask(folder.path(), &arguments);
        assert_eq!(code, expected, "{said}{errors}");
    }
    let (code, object) = json(folder.path(), &["suggest", "audit.jsonl"]);
    assert_eq!((code, object["rules"].as_array().unwrap().len()), (1, 2));
    assert_eq!(object["left_out"][0]["request"], "GET https://api.example.com/v1/admin/x");
    let both = ["suggest", "audit.jsonl", "--policy", "p.toml", "--policy", "more.toml"];
    let (_, object) = json(folder.path(), &both);
    assert_eq!((&object["already_allowed"], object["rules"].as_array().unwrap().len()), (&3.into(), 0));
}

#[test]
fn show_and_schema_are_for_people_and_editors() {
    let folder = folder(POLICY);
    let (code, said, _) = ask(folder.path(), &["show", "--policy", "p.toml"]);
    assert_eq!(code, 0);
    assert!(
        said.starts_with(
            "p.toml\n  allow api (p.toml:3)\n        host api.example.com; ports 443; scheme https;"
        ),
        "{said}"
    );
    let (_, object) = json(folder.path(), &["show", "--policy", "p.toml"]);
    assert_eq!(object["rules"][3]["paths"], serde_json::json!(["/v1/admin/**"]));
    let (code, schema) = json(folder.path(), &["schema"]);
    assert_eq!(code, 0);
    assert!(schema["properties"]["allow"].is_object(), "{schema}");
}

#[test]
fn words_of_a_policy_do_not_drive_the_terminal() {
    let folder =
        folder("version = 1\n[[test]]\nrequest = \"GET https://a.test/\\u001b[2J\"\nexpect = \"allow\"\n");
    let (code, said, errors) = ask(folder.path(), &["test", "--policy", "p.toml"]);
    assert_eq!(code, 1, "{errors}");
    assert!(!said.contains('\u{1b}') && said.contains("\\x1b[2J"), "{said:?}");
}
