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
//! # From an empty project to a proxy
//!
//! `cargo add --path CHECKOUT/netproxy`, where CHECKOUT is a clone of this repository (it is on no registry), and
//! `cargo add tokio --features io-util,macros,net,rt-multi-thread`. A proxy that lets `GET`s of one host pass, and what a
//! client hears that asks for another:
//!
//! ```
//! # #[cfg(all(feature = "shell", feature = "hickory"))] {
//! use netproxy::hooks::{Allow, Authorize, ConnectFacts, Deny, RequestFacts, Verdict};
//! use netproxy::{HostName, Proxy, SystemResolve};
//! use tokio::io::{AsyncReadExt, AsyncWriteExt};
//!
//! struct OneHost;
//!
//! fn only(allowed: bool) -> Verdict {
//!     if allowed { Allow::by("example-only").into() } else { Deny::unmatched("only GETs of example.com").into() }
//! }
//!
//! impl Authorize for OneHost {
//!     fn connect(&self, facts: &ConnectFacts<'_>) -> Verdict {
//!         only(facts.authority.to_string() == "example.com:443")
//!     }
//!     fn request(&self, facts: &RequestFacts<'_>) -> Verdict {
//!         only(facts.authority.to_string() == "example.com:443" && facts.method == "GET" && !facts.websocket)
//!     }
//!     fn dns_name(&self, name: &HostName) -> Verdict {
//!         only(name.as_str() == "example.com")
//!     }
//! }
//!
//! /// Programs reach it with `https_proxy=http://127.0.0.1:3128`, and trust its certificate.
//! async fn listen() -> Result<(), Box<dyn std::error::Error>> {
//!     let listener = tokio::net::TcpListener::bind("127.0.0.1:3128").await?;
//!     let builder = Proxy::builder().name("example").authorize(OneHost).resolve(SystemResolve::new());
//!     // Never reached through itself.
//!     let proxy = builder.own_listener(listener.local_addr()?).build()?;
//!     std::fs::write("sandbox-ca.pem", proxy.ca_certificate_pem())?;
//!     loop {
//!         let ((stream, _), proxy) = (listener.accept().await?, proxy.clone());
//!         // Small answers would wait for the client's delayed acknowledgement (40 ms).
//!         if stream.set_nodelay(true).is_ok() {
//!             tokio::spawn(async move { proxy.serve(stream).await });
//!         }
//!     }
//! }
//!
//! # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
//! let proxy = Proxy::builder().authorize(OneHost).build().unwrap();
//! let (mut client, far) = tokio::io::duplex(4096);
//! tokio::spawn(async move { proxy.serve(far).await });
//! client.write_all(b"GET http://other.example/ HTTP/1.1\r\nHost: other.example\r\n\r\n").await.unwrap();
//! let mut answer = String::new();
//! client.read_to_string(&mut answer).await.unwrap();
//! assert!(answer.starts_with("HTTP/1.1 403 Blocked by the sandbox's network policy\r\n"));
//! assert!(answer.contains("proxy-status: agent-sandbox; error=http_request_denied;"));
//! assert!(answer.contains(r#""error":"blocked_by_policy","retryable":false"#));
//! assert!(answer.contains("only GETs of example.com"));
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
mod charset;
#[cfg(feature = "coding")]
pub mod coding;
pub mod dns;
mod fields;
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
