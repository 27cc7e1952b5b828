//! Grammars of hostile bytes, each a plain function or a small state machine over slices: no I/O, no clock,
//! no panic on any input. Where we are stricter than the RFC the branch says so.

pub mod answer;
pub(crate) mod bytes;
pub mod client_hello;
pub mod framing;
pub mod head;
pub mod opening;
pub mod path;
pub mod preface;
pub mod proxy_reply;
pub mod socks5;
pub mod target;
pub mod websocket;
