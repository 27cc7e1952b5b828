//! Guest memory: one alias, so that the whole crate agrees on the backend and the dirty bitmap.

/// Guest memory as every device sees it (mmap-backed, no dirty tracking).
pub type GuestMemory = vm_memory::GuestMemoryMmap<()>;
