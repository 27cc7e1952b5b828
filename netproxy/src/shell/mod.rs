//! The async half: streams, timers and libraries around the pure core. It obeys; it decides nothing.

mod answer;
mod asking;
mod body;
mod buffer;
mod connect;
mod control;
mod crew;
mod crowd;
mod dial;
mod distrust;
mod dns;
mod exchange;
mod front;
mod held;
mod http1;
mod http2;
mod incoming;
mod inject;
mod leash;
mod ledger;
mod limiter;
mod local;
mod multiplex;
mod opaque;
mod outgoing;
mod own_answer;
mod paced;
mod passage;
mod pool;
mod preface;
mod proxy;
mod reach;
mod receiving;
mod recordable;
#[cfg(feature = "hickory")]
mod renewed;
#[cfg(feature = "hickory")]
mod resolve;
mod rewind;
mod search;
mod sender;
mod shared;
mod silence;
mod socks;
mod stall;
mod strict_io;
mod token;
mod trace;
mod tunnel;
mod upload;
mod upstream;
mod upstream_proxy;
mod websocket;

pub use proxy::{BuildError, Builder, Proxy};
#[cfg(feature = "hickory")]
pub use resolve::{SystemResolve, SystemResolveError};
pub use upstream_proxy::{ProxyCredentials, UpstreamProxy, UpstreamProxyError};
