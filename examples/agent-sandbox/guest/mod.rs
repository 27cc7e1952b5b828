//! What the guest is made of: its kernel, the parts of this host it may see, its environment.

pub mod environment;
pub mod etc;
pub mod kernel;
pub mod userland;
