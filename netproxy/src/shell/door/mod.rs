//! Where connections come in. Each door finds out where its client wants to go, has host and port decided, and hands the
//! rest to [`Passage`](super::passage::Passage); `front.rs` tells the doors of one port apart. Must never dial: what is
//! inside is judged first.

pub mod connect;
pub mod distrust;
pub mod dns;
pub mod front;
pub mod paced;
pub mod preface;
pub mod socks;
pub mod token;
