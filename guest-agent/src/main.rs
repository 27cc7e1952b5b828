//! `/init` of the guest. Everything is in the library; this is only the way in.
//!
//! There is no Rust `main`: before it, the standard library ends a process that has no standard descriptors and
//! cannot open `/dev/null`, which is how a kernel without a console starts PID 1 of a bare initramfs.
#![cfg_attr(not(test), no_main)]

/// The C entry point. Arguments are ignored: what to do comes from the host over vsock.
#[cfg(not(test))]
// SAFETY: the program has no other symbol of this name, and the C runtime calls it as declared.
#[unsafe(no_mangle)]
extern "C" fn main(_argc: i32, _argv: *const *const u8) -> i32 {
    guest_agent::server::boot::run();
    2
}
