//! The three calls that every client makes, and what must be true of them.

use std::process::Command;

use crate::proxy::KEY;
use crate::upstream::Seen;
use crate::world::{ALLOWED, DENIED, KEYED, World, shown};

/// What the upstream answers under `/hello`.
pub const HELLO: &str = "hello from the upstream";

/// One call of a client.
pub struct Call {
    pub url: String,
    /// Value of an `Authorization` header to send: a placeholder.
    pub authorization: Option<String>,
}

/// Makes the three calls. `client` builds the command of one; `reason` is what a person reads in the output of the
/// denied one.
pub fn three_calls(reason: &str, client: impl Fn(&World, &Call) -> Command) {
    three_calls_in(World::start(), reason, client);
}

/// The same in a world of the test's own. Gives what the client said of each call, and what the upstream saw.
pub fn three_calls_in(
    mut world: World,
    reason: &str,
    client: impl Fn(&World, &Call) -> Command,
) -> ([String; 3], Vec<Seen>) {
    let call = |host: &str, path: &str, authorization| Call { url: world.url(host, path), authorization };

    let output = client(&world, &call(ALLOWED, "/hello", None)).output().unwrap();
    let allowed = shown(&output);
    assert!(output.status.success() && allowed.contains(HELLO), "allowed: {allowed}");

    let output = client(&world, &call(DENIED, "/hello", None)).output().unwrap();
    let denied = shown(&output);
    assert!(!output.status.success(), "denied, and the client did not mind: {denied}");
    assert!(denied.contains(reason), "denied, without {reason:?}: {denied}");

    let placeholder = world.placeholder();
    let authorization = format!("Bearer {placeholder}");
    let output = client(&world, &call(KEYED, "/echo", Some(authorization))).output().unwrap();
    let keyed = shown(&output);
    assert!(output.status.success(), "keyed: {keyed}");
    // The upstream echoes what it got; on the way back the key becomes the placeholder again.
    assert!(keyed.contains(&placeholder) && !keyed.contains(KEY), "keyed: {keyed}");

    let log = world.stop();
    assert_eq!(log.denials(DENIED).len(), 1, "attempts at a denied host: {:?}", log.denials(DENIED));
    assert!(world.seen(DENIED).is_empty(), "the denied host was reached");
    assert_eq!(log.requests(ALLOWED).len(), 1);
    assert_eq!(
        log.requests(KEYED).iter().map(|line| &line["credential"]).collect::<Vec<_>>(),
        [world.credential()]
    );
    let seen = world.seen(KEYED);
    assert_eq!(seen.len(), 1);
    assert_eq!(seen[0].authorization.as_deref(), Some(format!("Bearer {KEY}").as_str()));
    ([allowed, denied, keyed], world.upstream.seen())
}
