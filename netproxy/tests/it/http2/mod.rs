//! HTTP/2 on both sides.

pub mod client;
mod crowd;
mod doors;
mod ends;
mod floods;
mod forwarding;
pub mod frames;
mod malformed;
pub mod memory;
mod misbehaving;
mod random;
mod refusals;
mod retries;
mod uploads;
pub mod upstream;
mod waiting;

use std::sync::Arc;

use netproxy::Builder;

use crate::hooks::Rules;
use crate::world::{NAMES, World};

pub const H2: &[u8] = b"h2";
pub const HTTP1: &[u8] = b"http/1.1";

/// A world whose TLS upstream offers these protocols.
async fn world(alpn: &[&[u8]]) -> Arc<World> {
    world_with(alpn, |builder| builder).await
}

pub async fn world_with(alpn: &[&[u8]], more: impl FnOnce(Builder) -> Builder) -> Arc<World> {
    let tls = upstream::start(NAMES, alpn).await;
    World::build_over(tls, |names| names, |ports| Rules { ports }, more).await
}
