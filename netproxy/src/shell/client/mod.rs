//! Client connections of HTTP, taken apart into requests: `strict_io.rs` lets only well-formed HTTP/1.1 through to
//! `http1.rs`, `http2.rs` has a task for each stream (`crew.rs`), and `crowd.rs` counts the requests under way.
//! Must never send on what was not read as it was judged.

pub mod crew;
pub mod crowd;
pub mod http1;
pub mod http2;
pub mod leash;
pub mod strict_io;
