//! The only way out of a sandbox: a proxy that asks, injects, forwards, redacts and records.
#![deny(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::string_slice,
    clippy::cast_possible_truncation
)]
#![forbid(unsafe_code)]

pub mod audit;
pub mod authority;
pub mod dns;
pub mod flow;
pub mod guard;
pub mod hooks;
pub mod id;
pub mod limits;
pub mod refuse;
pub mod wire;

#[cfg(feature = "shell")]
mod shell;
#[cfg(feature = "shell")]
pub mod tls;

pub use audit::audit_json_line;
pub use authority::{Authority, Host, HostName};
#[cfg(feature = "shell")]
pub use shell::{BuildError, Builder, Proxy};
#[cfg(feature = "hickory")]
pub use shell::{SystemResolve, SystemResolveError};
