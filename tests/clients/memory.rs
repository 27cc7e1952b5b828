//! Where a key is in the memory of a running `inject-proxy` after it was used.

use std::fs;
use std::io;
use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::check::HELLO;
use crate::process_memory::{assert_finds, memory_of, places};
use crate::proxy::KEY;
use crate::tools::{find, need, skip};
use crate::world::{KEYED, World, shown};

/// Where the key is, and whether it is safe there.
type Place = (String, bool);

/// How long closing may take on a busy machine.
const CLOSED_WITHIN: Duration = Duration::from_secs(20);

#[test]
fn a_used_key_is_left_in_locked_memory_only() {
    const TEST: &str = "a_used_key_is_left_in_locked_memory_only";
    let Some(_) = need(TEST, "curl", find("curl")) else { return };
    let mut world = World::start();
    let pid = world.proxy().pid();
    let auth = format!("Authorization: Bearer {}", world.placeholder());
    let basic = format!("user:{}", world.placeholder());
    let ask = |version: &str| {
        for credential in [["-H", auth.as_str()], ["-u", basic.as_str()]] {
            let mut curl = world.client("curl".as_ref());
            curl.args(["-sS", "--fail-with-body", version]).args(credential).arg(world.url(KEYED, "/hello"));
            assert!(shown(&curl.output().unwrap()).contains(HELLO), "{version}");
        }
    };
    ask("--http1.1");
    // The connection to the upstream is kept, but nothing of a request that was sent.
    let found = match settled(pid) {
        Ok(found) => found,
        // What the user's other processes meet too. Root sees more.
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
            return skip(TEST, &format!("only root may read a hardened process ({error})"));
        }
        Err(error) => panic!("{error}"),
    };
    assert_eq!(found.1, [], "beyond locked memory, over HTTP/1.1");
    ask("--http2");
    assert_eq!(world.seen(KEYED).len(), 4);
    // Connections over HTTP/2 are kept, and so are the buffers that a head was written from. A policy that changed closes
    // them.
    let file = world.folder.path().join("policy.toml");
    let policy = fs::read_to_string(&file).unwrap();
    fs::write(&file, format!("{policy}\n# changed\n")).unwrap();
    world.proxy().signal(Signal::HUP);
    while !world.proxy().next_message().contains("loaded again") {}
    let (safe, open) = settled(pid).unwrap();
    // The search is able to find: the vault's copy, and every other form.
    assert!(safe.iter().any(|(place, _)| place.starts_with("as it is in ")), "{safe:?}");
    assert_finds(KEY);
    assert_eq!(open, [], "beyond locked memory");
}

/// Where the key is, in safe places and others, once it is in no others, or they had time enough.
fn settled(pid: u32) -> io::Result<(Vec<Place>, Vec<Place>)> {
    // A connection that was told to close ends a moment after that was said.
    let end = Instant::now() + CLOSED_WITHIN;
    loop {
        let regions = memory_of(pid)?;
        let (safe, open): (Vec<_>, Vec<_>) =
            places(&regions, KEY).into_iter().partition(|(_, is_safe)| *is_safe);
        if open.is_empty() || Instant::now() > end {
            return Ok((safe, open));
        }
    }
}
