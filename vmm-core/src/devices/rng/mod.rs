//! An entropy device (virtio 1.2 §5.4): random bytes of the host's kernel, a bounded number per request.
//!
//! It must never: allocate what a guest asks for, or hand out anything but fresh bytes of `getrandom(2)`.

mod device;

pub use device::Rng;

/// Most bytes given for one request, however long its buffers are: what a chain *describes* costs the
/// guest nothing (firecracker #5762).
pub const REQUEST_BYTES_MAX: usize = 64 * 1024;

#[cfg(test)]
mod tests;
