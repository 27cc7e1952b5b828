//! x86_64: where things are, what the processor can do, and the state it starts in.

pub(crate) mod cpuid;
pub(crate) mod interrupts;
pub(crate) mod layout;
pub(crate) mod ports;
pub(crate) mod registers;
