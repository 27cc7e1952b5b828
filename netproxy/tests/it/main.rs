//! The proxy over real sockets: a TLS upstream on loopback, clients that write bytes, hooks that watch.

#![allow(missing_docs)]
mod client;
mod denials;
mod dns;
mod forwarding;
mod hooks;
mod limits;
mod redaction;
mod resolving;
mod smuggling;
mod tables;
mod upstream;
mod world;
