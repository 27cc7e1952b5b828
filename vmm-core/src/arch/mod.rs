//! What depends on the processor architecture. x86_64 only, so far.

pub(crate) mod x86_64;
