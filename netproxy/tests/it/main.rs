//! The proxy over real sockets: a TLS upstream on loopback, clients that write bytes, hooks that watch.

#![allow(missing_docs)]
mod asking;
mod attacks;
mod audit;
mod authority_standards;
mod bodies;
mod client;
mod client_cert;
mod coded;
mod coding;
mod control;
mod counts;
mod covert;
mod decoding;
mod denials;
mod dial;
mod dns;
mod dns_depth;
mod dns_streams;
mod doors;
mod early;
mod forwarding;
mod heads;
mod hooks;
mod http2;
mod interim;
mod keeping;
mod limits;
mod nearby;
mod own_answers;
mod quotas;
mod redaction;
mod refusals;
mod rehearsal;
mod resolving;
mod slow;
mod smuggling;
mod socks;
mod tables;
#[cfg(feature = "tracing")]
mod traces;
mod transparent;
mod upstream;
mod upstream_proxy;
mod websocket;
mod world;
