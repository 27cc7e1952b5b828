//! PID 1 of a sandbox guest, the protocol it speaks over vsock, and the host-side client of that protocol.
//!
//! # What it does
//!
//! The static binary `guest-agent` is `/init` of the guest's initramfs. It loads modules, connects to the
//! host, is told by one [`proto::Configure`] what the guest shall look like, assembles that root, carries
//! HTTP proxy and DNS traffic from guest loopback to the host, and runs programs on request.
//!
//! ```text
//!   host                                   guest
//!   client::Control  ── vsock host:1024 ──  boot: Hello, Configure → Ready, Shutdown
//!   client::exec     ── vsock guest:1024 ─  exec: one connection per program
//!   netproxy         ── vsock host:3128 ──  proxy end on 127.0.0.1:3128
//!                                           transparent end: TCP to any address
//!   netproxy (DNS)   ── vsock host:53 ────  DNS end on 127.0.0.1:53, UDP and TCP
//! ```
//!
//! # What it never does
//!
//! It decides nothing about what is allowed, terminates no TLS, and never sees a real secret. The client treats
//! the guest as hostile: every length is bounded, no answer makes it panic or grow without limit.
//!
//! # Features
//!
//! `client` (default) is the host's side; `server` is what runs in the guest; the protocol is always there.
//!
//! # Example
//!
//! The protocol is plain functions over bytes:
//!
//! ```
//! use guest_agent::proto::{ExecOutput, Exit, frame};
//!
//! let mut wire = Vec::new();
//! ExecOutput::Stdout(b"hello\n").encode(&mut wire)?;
//! ExecOutput::Exited(Exit::code(0)).encode(&mut wire)?;
//!
//! let frame::Split::Frame { kind, payload, .. } = frame::split(&wire)? else { panic!("complete") };
//! assert_eq!(ExecOutput::parse(kind, payload)?, ExecOutput::Stdout(b"hello\n"));
//! # Ok::<(), guest_agent::proto::WireError>(())
//! ```
#![deny(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::string_slice,
    clippy::cast_possible_truncation
)]

#[cfg(feature = "client")]
#[forbid(unsafe_code)]
pub mod client;
#[forbid(unsafe_code)]
pub mod limits;
#[forbid(unsafe_code)]
pub mod proto;
#[cfg(all(feature = "server", target_os = "linux"))]
pub mod server;
