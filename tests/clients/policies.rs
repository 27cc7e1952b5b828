//! What a policy can be beside yes and no: a rehearsal, and a question to the user.

use std::fs;
use std::process::Command;

use rustix::process::Signal;

use crate::proxy::{self, KEY};
use crate::tools::{find, need};
use crate::world::{ALLOWED, DENIED, KEYED, World, shown};

#[test]
fn what_an_audit_policy_refuses_passes_without_the_key_and_is_recorded() {
    let Some(_) = need("what_an_audit_policy_refuses…", "curl", find("curl")) else { return };
    let mut world = World::start();
    let file = world.folder.path().join("policy.toml");
    let text = fs::read_to_string(&file).unwrap();
    let audit = text.replacen("version = 1\n", "version = 1\nmode = \"audit\"\n", 1);
    fs::write(
        &file,
        audit.replace("credential = \"API_KEY\"", "credential = \"API_KEY\"\nmethods = [\"GET\"]"),
    )
    .unwrap();
    world.proxy().signal(Signal::HUP);
    loop {
        let said = world.proxy().next_message();
        assert!(!said.contains("not loaded"), "{said}");
        if said.contains("NOT ENFORCED") {
            break;
        }
    }
    let bearer = format!("Authorization: Bearer {}", world.placeholder());
    let status = |method: &str, url: &str, header: &str| {
        let mut curl = world.client("curl".as_ref());
        curl.args(["-sS", "-o", "/dev/null", "-w", "%{http_code}", "-X", method, "-H", header, url]);
        shown(&curl.output().unwrap())
    };
    // A deny rule, a method that no rule allows, and the same allowed.
    // The upstream's own 404: it was reached.
    assert_eq!(status("GET", &world.url(ALLOWED, "/closed/x"), "x: y"), "404");
    assert_ne!(status("POST", &world.url(KEYED, "/hello"), &bearer), "403");
    assert_eq!(status("GET", &world.url(KEYED, "/hello"), &bearer), "200");
    let sent: Vec<_> = world.seen(KEYED).into_iter().map(|seen| seen.authorization.unwrap()).collect();
    assert_eq!(sent, [format!("Bearer {}", world.placeholder()), format!("Bearer {KEY}")]);
    // Never passed: a private address that no rule names, and a placeholder that goes elsewhere.
    assert_eq!(status("GET", &world.url(DENIED, "/hello"), "x: y"), "403");
    assert_eq!(status("GET", &world.url(ALLOWED, "/closed/x"), &bearer), "403");
    let log = world.stop();
    let lines = log.lines.iter().filter(|line| line["layer"] != "policy" && line["layer"] != "tls");
    let told: Vec<_> =
        lines.map(|line| format!("{} {} {}", line["verdict"], line["rule"], line["error"])).collect();
    assert_eq!(
        told,
        [
            r#""would_deny" "closed" "blocked_by_policy""#,
            r#""would_deny" null "blocked_by_policy""#,
            r#""allow" "keyed" null"#,
            r#""deny" null "address_prohibited""#,
            r#""deny" "closed" "credential_refused""#,
        ]
    );
    assert!(
        log.lines.iter().all(|line| line["layer"] == "policy" || line["generation"] == 2),
        "{:?}",
        log.lines
    );
}

#[test]
fn without_a_terminal_nobody_can_be_asked() {
    let Some(setsid) = need("without_a_terminal…", "setsid", find("setsid")) else { return };
    let folder = tempfile::tempdir().unwrap();
    let policy = folder.path().join("policy.toml");
    fs::write(&policy, "version = 1\n").unwrap();
    // A session of its own has no controlling terminal.
    let mut command = Command::new(setsid);
    command
        .arg("--wait")
        .arg(proxy::path())
        .args(["--listen", "127.0.0.1:0", "--ask", "--policy"])
        .arg(&policy);
    let output = command.output().unwrap();
    assert_eq!(output.status.code(), Some(2), "{}", shown(&output));
    assert!(shown(&output).contains("--ask needs a terminal"), "{}", shown(&output));
}
