//! git over https: clone and push, the latter in chunks.

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use crate::proxy::KEY;
use crate::tools::{find, need};
use crate::world::{ALLOWED, DENIED, KEYED, World, shown};

fn git(world: &World, arguments: &[&str]) -> Output {
    let mut command: Command = world.client("git".as_ref());
    for role in ["AUTHOR", "COMMITTER"] {
        command.env(format!("GIT_{role}_NAME"), "t").env(format!("GIT_{role}_EMAIL"), "t@example.com");
    }
    command.env("GIT_CONFIG_NOSYSTEM", "1").args(["-c", "init.defaultBranch=main"]).args(arguments);
    command.output().unwrap()
}

fn git_ok(world: &World, arguments: &[&str]) -> String {
    let output = git(world, arguments);
    assert!(output.status.success(), "git {arguments:?}: {}", shown(&output));
    shown(&output)
}

/// A bare repository on the upstream, and a clone of it with one commit that was pushed.
fn with_repository(world: &World) {
    let bare = world.folder.path().join("git/demo.git");
    git_ok(world, &["init", "-q", "--bare", bare.to_str().unwrap()]);
    git_ok(world, &["-C", bare.to_str().unwrap(), "config", "http.receivepack", "true"]);
}

fn commit(world: &World, clone: &str, content: &[u8]) {
    fs::write(Path::new(&world.home()).join(clone).join("file"), content).unwrap();
    git_ok(world, &["-C", clone, "add", "file"]);
    git_ok(world, &["-C", clone, "commit", "-qm", "a file"]);
}

#[test]
fn git_clones_and_pushes() {
    let Some(_) = need("git_clones_and_pushes", "git", find("git")) else { return };
    let mut world = World::start();
    with_repository(&world);
    git_ok(&world, &["clone", "-q", &world.url(ALLOWED, "/git/demo.git"), "one"]);
    // What does not compress, and more than the buffer: git sends it in chunks.
    let noise: Vec<u8> = (0..200_000u32).flat_map(|n| n.wrapping_mul(2_654_435_761).to_le_bytes()).collect();
    commit(&world, "one", &noise);
    git_ok(&world, &["-C", "one", "-c", "http.postBuffer=65536", "push", "-q", "origin", "HEAD:main"]);
    git_ok(&world, &["clone", "-q", "-b", "main", &world.url(ALLOWED, "/git/demo.git"), "two"]);
    assert_eq!(fs::read(world.home().join("two/file")).unwrap(), noise);
    let pushed = world.seen(ALLOWED);
    assert!(pushed.iter().any(|seen| seen.method == "POST" && seen.path.ends_with("git-receive-pack")));
    world.stop();
}

#[test]
fn git_is_refused_once_and_says_why() {
    let Some(_) = need("git_is_refused…", "git", find("git")) else { return };
    let mut world = World::start();
    let output = git(&world, &["clone", &world.url(DENIED, "/git/demo.git"), "no"]);
    let text = shown(&output);
    assert!(!output.status.success() && text.contains("403"), "{text}");
    assert!(
        text.contains("remote: Blocked by the sandbox's network policy")
            && text.contains("no rule allows it")
    );
    assert_eq!(world.stop().denials(DENIED).len(), 1);
}

#[test]
fn a_push_is_refused_once_and_says_why() {
    let Some(_) = need("a_push_is_refused…", "git", find("git")) else { return };
    let mut world = World::start();
    git_ok(&world, &["init", "-q", "one"]);
    commit(&world, "one", b"not to leave");
    let output = git(&world, &["-C", "one", "push", &world.url(DENIED, "/git/demo.git"), "HEAD:main"]);
    let text = shown(&output);
    assert!(!output.status.success() && text.contains("403"), "{text}");
    assert!(text.contains("remote: Blocked by the sandbox's network policy"), "{text}");
    assert!(text.contains("no rule allows it"), "{text}");
    let log = world.stop();
    assert_eq!(log.denials(DENIED).len(), 1, "{:?}", log.denials(DENIED));
    assert!(world.seen(DENIED).is_empty());
}

#[test]
fn a_push_gets_the_key() {
    let Some(_) = need("a_push_gets_the_key", "git", find("git")) else { return };
    let mut world = World::start();
    with_repository(&world);
    git_ok(&world, &["init", "-q", "one"]);
    commit(&world, "one", b"pushed with a key");
    let header = format!("http.extraHeader=Authorization: Bearer {}", world.placeholder());
    let url = world.url(KEYED, "/private/git/demo.git");
    let output = git_ok(&world, &["-C", "one", "-c", &header, "push", &url, "HEAD:main"]);
    assert!(!output.contains(KEY));
    let bare = world.folder.path().join("git/demo.git");
    let pushed = git_ok(&world, &["-C", bare.to_str().unwrap(), "show", "main:file"]);
    assert_eq!(pushed, "pushed with a key");
    let (seen, bearer) = (world.seen(KEYED), format!("Bearer {KEY}"));
    assert!(seen.iter().all(|seen| seen.authorization.as_ref() == Some(&bearer)), "{seen:?}");
    assert!(seen.iter().any(|seen| seen.method == "POST" && seen.path.ends_with("git-receive-pack")));
    assert_eq!(world.stop().requests(KEYED).len(), seen.len());
}

#[test]
fn git_gets_the_key() {
    let Some(_) = need("git_gets_the_key", "git", find("git")) else { return };
    let mut world = World::start();
    with_repository(&world);
    let header = format!("http.extraHeader=Authorization: Bearer {}", world.placeholder());
    let output = git_ok(&world, &["-c", &header, "clone", &world.url(KEYED, "/git/demo.git"), "one"]);
    assert!(!output.contains(KEY));
    let seen = world.seen(KEYED);
    let bearer = format!("Bearer {KEY}");
    assert!(
        !seen.is_empty() && seen.iter().all(|seen| seen.authorization.as_ref() == Some(&bearer)),
        "{seen:?}"
    );
    let log = world.stop();
    assert_eq!(log.requests(KEYED).len(), seen.len());
}
