//! A console (virtio 1.2 §5.3), one port: `console=hvc0`.
//!
//! One request carries a whole line where a serial port costs an exit for every byte.
//!
//! It must never: hold more input than [`INPUT_BYTES_MAX`] for a guest that does not read
//! (CVE-2020-27174), or interpret what the guest writes: it is hostile text, to be escaped before it
//! meets a terminal.

mod device;
mod input;

pub use device::Console;
pub use input::ConsoleInput;

/// Bytes of input that wait for the guest.
pub const INPUT_BYTES_MAX: usize = 64 * 1024;

#[cfg(test)]
mod tests;
