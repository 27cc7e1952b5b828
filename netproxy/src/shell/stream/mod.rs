//! Bytes under way: bodies of either version of HTTP as they come in and go out, tunnels, and streams that are slow or
//! silent. Must never collect a body, or wait for anybody without end.

pub mod buffer;
pub mod incoming;
pub mod outgoing;
pub mod rewind;
pub mod silence;
pub mod stall;
pub mod tunnel;
