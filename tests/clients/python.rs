//! Python: the HTTP libraries, and two model SDKs.

use std::process::Command;

use crate::check::{three_calls, three_calls_in};
use crate::proxy::KEY;
use crate::tools::{need, python, scenario};
use crate::upstream::Over;
use crate::world::{ALLOWED, DENIED, KEYED, World, shown};

/// `get.py LIBRARY URL [AUTHORIZATION]`
fn library(name: &str, reason: &str) {
    let Some(python) = need(name, "Python with packages", python()) else { return };
    three_calls(reason, |world, call| {
        let mut command = script(world, &python, "get.py");
        command.arg(name).arg(&call.url).args(&call.authorization);
        command
    });
}

fn script(world: &World, python: &std::path::Path, name: &str) -> Command {
    let mut command = world.client(python);
    // Nothing is written beside our scripts.
    command.env("PYTHONDONTWRITEBYTECODE", "1").arg(scenario(name));
    command
}

#[test]
fn python_urllib() {
    library("urllib", "blocked_by_policy");
}

#[test]
fn python_requests() {
    library("requests", "blocked_by_policy");
}

#[test]
fn python_requests_in_the_clear() {
    const TEST: &str = "python_requests_in_the_clear";
    let Some(python) = need(TEST, "Python with packages", python()) else { return };
    let (said, seen) = three_calls_in(World::plain(), "blocked_by_policy", |world, call| {
        let mut command = script(world, &python, "get.py");
        command.arg("requests").arg(&call.url).args(&call.authorization);
        command
    });
    assert!(said[1].contains("403"), "{said:?}");
    assert!(seen.iter().all(|seen| seen.over == Over::Plain), "{seen:?}");
}

/// On the web's own port the refusal is an answer inside of TLS.
#[test]
fn python_requests_by_socks_is_told_why_on_the_port_of_https() {
    const TEST: &str = "python_requests_by_socks_is_told_why_on_the_port_of_https";
    let Some(python) = need(TEST, "Python with packages", python()) else { return };
    let mut world = World::start();
    let mut command = script(&world, &python, "get.py");
    let output = command.args(["requests_and_socks", &format!("https://{DENIED}/hello")]).output().unwrap();
    assert!(shown(&output).contains("blocked_by_policy"), "{}", shown(&output));
    assert_eq!(world.stop().denials(DENIED).len(), 1);
}

#[test]
fn python_requests_and_socks() {
    library("requests_and_socks", "not allowed by ruleset");
}

/// `web_socket.py URL [AUTHORIZATION]`
#[test]
fn python_websockets() {
    let Some(python) = need("python_websockets", "Python with packages", python()) else { return };
    let mut world = World::start();
    let placeholder = world.placeholder();
    let bearer = format!("Bearer {placeholder}");
    let run = |host: &str, authorization: Option<&str>| {
        let mut command = script(&world, &python, "web_socket.py");
        command.arg(world.url(host, "/socket").replace("https:", "wss:")).args(authorization);
        command.output().unwrap()
    };
    let output = run(ALLOWED, None);
    let text = shown(&output);
    assert!(output.status.success() && text.contains("said by the client"), "{text}");
    let output = run(DENIED, None);
    let text = shown(&output);
    assert!(!output.status.success() && text.contains("blocked_by_policy"), "{text}");
    // The first message tells the head that arrived: there, the key is the placeholder again.
    let output = run(KEYED, Some(&bearer));
    let text = shown(&output);
    assert!(output.status.success() && text.contains(&placeholder) && !text.contains(KEY), "{text}");
    let log = world.stop();
    assert_eq!(log.denials(DENIED).len(), 1, "{:?}", log.denials(DENIED));
    assert!(world.seen(DENIED).is_empty());
    assert_eq!(world.seen(KEYED)[0].authorization.as_deref(), Some(format!("Bearer {KEY}").as_str()));
}

#[test]
fn python_urllib3() {
    library("urllib3", "blocked_by_policy");
}

#[test]
fn python_httpx() {
    library("httpx", "blocked_by_policy");
}

#[test]
fn python_aiohttp() {
    library("aiohttp", "blocked_by_policy");
}

/// `model.py SDK BASE_URL whole|stream KEY`, with the placeholder for a key.
fn sdk(name: &str) {
    let Some(python) = need(name, "Python with packages", python()) else { return };
    let mut world = World::start();
    let run = |host: &str, how: &str| {
        let mut command = script(&world, &python, "model.py");
        command.args([name, &world.url(host, ""), how, &world.placeholder()]);
        command.output().unwrap()
    };
    for how in ["whole", "stream"] {
        let output = run(KEYED, how);
        assert_eq!(shown(&output).trim(), "one two three", "{how}");
        assert!(output.status.success());
    }
    let output = run(DENIED, "stream");
    let text = shown(&output);
    assert!(!output.status.success() && text.contains("PermissionDenied"), "{text}");
    assert!(text.contains("blocked_by_policy"), "{text}");
    let log = world.stop();
    assert_eq!(log.denials(DENIED).len(), 1, "{:?}", log.denials(DENIED));
    assert_eq!(log.requests(KEYED).len(), 2);
    for seen in world.seen(KEYED) {
        // Which of the two headers it is has changed between versions of the SDKs.
        let bearer = format!("Bearer {KEY}");
        assert!(seen.authorization == Some(bearer) || seen.api_key.as_deref() == Some(KEY), "{seen:?}");
    }
}

#[test]
fn python_openai_sdk() {
    sdk("openai");
}

#[test]
fn python_anthropic_sdk() {
    sdk("anthropic");
}
