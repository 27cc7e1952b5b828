//! The only way out of a sandbox: a proxy that asks, injects, forwards, redacts and records.
//!
//! Programs in a sandbox reach the network through one stream to a `Proxy`. It understands each request,
//! asks the embedder whether it may go, puts credentials in that the program never sees, and keeps a record.
//! What is refused is refused with an answer that says so, once, in the language the client speaks.
//!
//! ```text
//!  client stream ─► wire     strict heads; ambiguous framing is refused, never repaired
//!                   flow     one Authority: CONNECT, SNI, Host and URL agree, or 421
//!                   hooks    Authorize ─ deny ─► refuse   403 inside TLS, NXDOMAIN, audit record
//!                              │ allow
//!                   guard    Resolve once, judge every address ─► Checked
//!                   dial     only what is Checked; certificate verified
//!                   hooks    Inject ─► upstream ─► Redact ─► client, streamed;  Audit: one record
//! ```
//!
//! # What it never does
//!
//! - Allow by default: without an [`hooks::Authorize`], [`hooks::DenyAll`] answers.
//! - Resolve or dial for a refused request; dial an address that [`guard`] has not judged.
//! - Copy a request through: each is written anew from what was judged.
//! - Log, echo or keep a header value, a query or a body.
//!
//! # Example
//!
//! A proxy that nobody gave a policy to, and what a client hears from it:
//!
//! ```
//! # #[cfg(feature = "shell")] {
//! use netproxy::Proxy;
//! use tokio::io::{AsyncReadExt, AsyncWriteExt};
//!
//! # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
//! let proxy = Proxy::builder().name("example").build().unwrap();
//! assert!(proxy.ca_certificate_pem().starts_with("-----BEGIN CERTIFICATE-----"));
//!
//! let (mut client, far) = tokio::io::duplex(4096);
//! tokio::spawn(async move { proxy.serve(far).await });
//! client.write_all(b"GET http://example.com/ HTTP/1.1\r\nHost: example.com\r\n\r\n").await.unwrap();
//! let mut answer = String::new();
//! client.read_to_string(&mut answer).await.unwrap();
//! assert!(answer.starts_with("HTTP/1.1 403 Blocked by the sandbox's network policy\r\n"));
//! assert!(answer.contains("proxy-status: agent-sandbox; error=http_request_denied;"));
//! assert!(answer.contains(r#""error":"blocked_by_policy","retryable":false"#));
//! # });
//! # }
//! ```
//!
//! # Features
//!
//! - `coding` (in `shell`): decoders of gzip, deflate, br and zstd.
//! - `shell` (default): tokio, hyper and rustls around the core. Without it the crate has no I/O.
//! - `tracing`: a span per connection, and one per decision with id, verdict, host and status; targets begin with
//!   `netproxy`. Never header values, paths, queries or bodies. What other crates trace is theirs: filter by target.
//! - `hickory` (default): `SystemResolve`, the DNS servers of this machine.
//! - `aws-lc-rs` (default) or `ring`: where the cryptography comes from.
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
#[cfg(feature = "coding")]
pub mod coding;
pub mod dns;
pub mod flow;
pub mod guard;
pub mod hooks;
pub mod http2;
pub mod id;
pub mod limits;
pub mod metrics;
pub mod rate;
pub mod refuse;
#[cfg(feature = "shell")]
mod shell;
#[cfg(feature = "shell")]
pub mod tls;
pub mod trailers;
pub mod wire;

pub use audit::audit_json_line;
pub use authority::{Authority, AuthorityError, Host, HostName};
#[cfg(feature = "shell")]
pub use shell::{BuildError, Builder, Proxy, ProxyCredentials, UpstreamProxy, UpstreamProxyError};
#[cfg(feature = "hickory")]
pub use shell::{SystemResolve, SystemResolveError};
