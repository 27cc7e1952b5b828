//! Tokens that the host gets and renews: the guest has a placeholder, and the refresh token never leaves the host but to
//! its own server.

use std::process::Output;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use crate::proxy::KEY;
use crate::tools::{find, need};
use crate::world::{ALLOWED, World, shown};

fn world() -> World {
    let world = World::with(&["--service", "mock=HOST_SIDE_KEY", "--services", "{services}"]);
    world.upstream.put("/api/x", "text/plain", "answered");
    world
}

fn curl(world: &World, options: &[&str], path: &str) -> Output {
    let mut command = world.client("curl".as_ref());
    command.args(["-sS", "--fail-with-body"]).args(options).arg(world.url(ALLOWED, path)).output().unwrap()
}

/// The placeholder of the refresh token.
fn refresh(world: &World) -> &str {
    &world.variables()["MOCK_REFRESH_TOKEN"]
}

/// What never is so fails.
fn wait_until(mut is_so: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !is_so() {
        assert!(begun.elapsed() < Duration::from_secs(120), "it never is so");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// What the service was shown, and how often the token server was asked.
fn seen(world: &World) -> (Vec<String>, usize) {
    let seen = world.seen(ALLOWED);
    let shown =
        seen.iter().filter(|seen| seen.path == "/api/x").filter_map(|seen| seen.authorization.clone());
    (shown.collect(), seen.iter().filter(|seen| seen.path == "/oauth/token").count())
}

#[test]
fn a_token_is_renewed_with_the_refresh_token_that_replaced_the_first() {
    let Some(_) = need("a_token_is_renewed…", "curl", find("curl")) else { return };
    let mut world = world();
    let placeholder = world.variables()["MOCK_TOKEN"].clone();
    let header = format!("Authorization: Bearer {placeholder}");
    // The first token ends too soon to be used for long, the second does not.
    for options in [&[][..], &["-H", &header], &["--http2"]] {
        let output = curl(&world, options, "/api/x");
        assert!(output.status.success() && shown(&output) == "answered", "{}", shown(&output));
    }
    let tokens = ["1", "2", "2"].map(|number| format!("Bearer access-token-{number}"));
    assert_eq!(seen(&world), (tokens.to_vec(), 2));
    let log = world.stop();
    assert!(log.requests(ALLOWED).iter().all(|line| line["credential"] == "mock"));
    assert!(
        log.requests(ALLOWED).iter().all(|line| line["path"] != "/oauth/token"),
        "not a request of the guest's"
    );
}

#[test]
fn requests_at_once_share_one_renewal_and_an_answer_with_the_token_is_masked() {
    let Some(_) = need("requests_at_once…", "curl", find("curl")) else { return };
    let world = world();
    let url = world.url(ALLOWED, "/api/x");
    // Past the token that ends soon.
    assert!(curl(&world, &[], "/api/x").status.success());
    let urls = vec![url.as_str(); 12];
    let mut command = world.client("curl".as_ref());
    let output = command.args(["-sS", "--parallel", "--parallel-immediate"]).args(urls).output().unwrap();
    assert_eq!(String::from_utf8(output.stdout).unwrap(), "answered".repeat(12));
    let (shown_tokens, asked) = seen(&world);
    assert_eq!((shown_tokens.len(), asked), (13, 2));
    assert!(shown_tokens[1..].iter().all(|token| token == "Bearer access-token-2"), "{shown_tokens:?}");
    world.upstream.put("/api/echo", "text/plain", "it is access-token-2");
    let text = shown(&curl(&world, &[], "/api/echo"));
    assert!(!text.contains("access-token-2") && text.contains(&world.variables()["MOCK_TOKEN"]), "{text}");
}

#[test]
fn a_tool_of_the_guest_that_renews_by_itself_gets_placeholders() {
    let Some(_) = need("a_tool_of_the_guest…", "curl", find("curl")) else { return };
    let world = world();
    let [access, refresh] = ["MOCK_TOKEN", "MOCK_REFRESH_TOKEN"].map(|name| world.variables()[name].clone());
    let form = format!("grant_type=refresh_token&refresh_token={refresh}&client_id=client");
    // The second is given the token in use, in the server's place.
    for _ in 0..2 {
        let text = shown(&curl(&world, &["-d", &form], "/oauth/token"));
        // A text that has the token in it is masked whole.
        assert!(text.matches(access.as_str()).count() == 1 && !text.contains("you got"), "{text}");
        let json: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!(
            (&json["access_token"], &json["refresh_token"]),
            (&access.as_str().into(), &refresh.as_str().into())
        );
        assert!(!text.contains("access-token-") && !text.contains("refresh-token-"), "{text}");
    }
    // It ends too soon for the host, who knows what replaced the refresh token.
    assert!(curl(&world, &["-H", &format!("Authorization: Bearer {access}")], "/api/x").status.success());
    assert_eq!(seen(&world), (vec!["Bearer access-token-2".to_owned()], 2));
    // The placeholder is good in that body only.
    let elsewhere = curl(&world, &["-H", &format!("X-Note: {refresh}")], "/api/x");
    assert!(shown(&elsewhere).contains("credential_refused"), "{}", shown(&elsewhere));
    // A login of somebody else's would take the place of the user's.
    let theirs = "grant_type=refresh_token&refresh_token=theirs";
    for (body, path) in [
        (theirs, "/oauth/token"),
        ("grant_type=authorization_code&code=theirs", "/oauth/token"),
        (&form, "/oauth/token?refresh_token=theirs"),
    ] {
        let refused = shown(&curl(&world, &["-d", body], path));
        assert!(refused.contains("credential_refused") && refused.contains("own login"), "{refused}");
    }
    assert_eq!(seen(&world).1, 2, "nothing of it was sent");
}

#[test]
fn a_tool_of_the_guest_that_is_killed_while_it_renews_loses_no_login() {
    let Some(_) = need("a_tool_of_the_guest_that_is_killed…", "curl", find("curl")) else { return };
    let world = world();
    let form = format!("grant_type=refresh_token&refresh_token={}&client_id=client", refresh(&world));
    world.upstream.hold_tokens(true);
    let mut tool = world.client("curl".as_ref());
    // Over HTTP/1.1 the proxy would see only when it answers that nobody waits any more.
    let tool = tool.args(["-sS", "--http2", "-d", &form]).arg(world.url(ALLOWED, "/oauth/token"));
    let mut tool = tool.spawn().unwrap();
    wait_until(|| seen(&world).1 == 1);
    // Which ends curl as well.
    kill_process(Pid::from_child(&tool), Signal::TERM).unwrap();
    tool.wait().unwrap();
    let log = world.folder.path().join("audit.jsonl");
    wait_until(|| std::fs::read_to_string(&log).unwrap().contains("client_went_away"));
    world.upstream.hold_tokens(false);
    // The answer was lost on the tool, and not on the host: it can renew once more, in the tool's place too.
    let output = curl(&world, &["-d", &form], "/oauth/token");
    assert!(output.status.success(), "{}", shown(&output));
    assert!(curl(&world, &[], "/api/x").status.success());
    assert_eq!(seen(&world), (vec!["Bearer access-token-2".to_owned()], 2));
}

#[test]
fn a_token_server_that_refuses_is_named_as_the_reason() {
    let Some(_) = need("a_token_server…", "curl", find("curl")) else { return };
    let world = world();
    world.upstream.put("/oauth/token", "application/json", r#"{"error":"invalid_grant"}"#);
    for _ in 0..2 {
        let text = shown(&curl(&world, &[], "/api/x"));
        assert!(text.contains("credential_refused") && text.contains("mock"), "{text}");
        assert!(!text.contains(KEY), "{text}");
    }
    // The second request did not ask again: the server is left in peace for a while.
    assert_eq!(seen(&world), (Vec::new(), 1));
}
