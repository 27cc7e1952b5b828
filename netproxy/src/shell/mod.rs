//! The async half: streams, timers and libraries around the pure core. It obeys; it decides nothing.
//!
//! One request follows the folders in this order:
//!
//! ```text
//! proxy.rs     what an embedder builds, and hands connections to
//! door/        where a connection comes in: plain HTTP, CONNECT, SOCKS5, the transparent preface, DNS
//! passage/     what is inside a connection to one place: TLS, HTTP or other bytes
//! client/      a client's HTTP/1.1 or HTTP/2, taken apart into requests
//! exchange/    one request: understood, asked about, given its key, sent, searched, passed back
//! upstream/    the other side: names, addresses, connections, and HTTP towards them
//! stream/      bytes under way, whichever side they come from
//! ```
//!
//! Beside them: `shared.rs` (what all connections of a sandbox have in common), `control.rs` (drains and changes of the
//! policy), `asking.rs` (verdicts), `limiter.rs`, `recordable.rs` and `ledger.rs` (the audit record), `answer.rs`
//! (refusals outside of an HTTP server), `trace.rs`.

mod answer;
mod asking;
mod client;
mod control;
mod door;
mod exchange;
mod ledger;
mod limiter;
mod passage;
mod proxy;
mod recordable;
mod shared;
mod stream;
mod trace;
mod upstream;

pub use proxy::{BuildError, Builder, Proxy};
pub use upstream::proxy::{ProxyCredentials, UpstreamProxy, UpstreamProxyError};
#[cfg(feature = "hickory")]
pub use upstream::resolve::{SystemResolve, SystemResolveError};
