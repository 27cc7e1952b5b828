//! How a thread inside `KVM_RUN` is made to leave it, without a signal handler.
//!
//! Each vCPU thread blocks every signal, and KVM is told (`KVM_SET_SIGNAL_MASK`) to unblock one of them
//! while the guest runs. Sending that signal makes `KVM_RUN` return `EINTR`, now or at its next call: the
//! signal stays pending, so there is no moment at which it can be lost. No handler is installed and the
//! signal's disposition is not looked at, so the program that embeds this crate keeps all its signals, and
//! none of its handlers ever runs on a thread of ours.

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::AsRawFd;

use kvm_ioctls::VcpuFd;
use vmm_sys_util::ioctl::ioctl_with_ref;
use vmm_sys_util::ioctl_iow_nr;

/// `struct kvm_signal_mask` with the kernel's 8-byte signal set in place of its flexible array.
#[repr(C)]
struct KernelSignalMask {
    len: u32,
    set: [u8; 8],
}

// The ioctl number holds the size of the structure without its flexible array.
ioctl_iow_nr!(KVM_SET_SIGNAL_MASK, kvm_bindings::KVMIO, 0x8b, u32);

/// The signal: the first real-time signal that the C library leaves to programs.
pub(crate) fn signal() -> libc::c_int {
    libc::SIGRTMIN()
}

/// Blocks every signal in the calling thread.
pub(crate) fn block_signals() {
    let mut all = MaybeUninit::<libc::sigset_t>::uninit();
    // SAFETY: sigfillset initialises the set it is given; pthread_sigmask reads it and writes nothing back.
    unsafe {
        libc::sigfillset(all.as_mut_ptr());
        libc::pthread_sigmask(libc::SIG_SETMASK, all.as_ptr(), std::ptr::null_mut());
    }
}

/// Tells KVM that [`signal`], and nothing else, interrupts this vCPU.
pub(crate) fn set_mask(vcpu: &VcpuFd) -> io::Result<()> {
    // Signal n is bit n - 1 of the kernel's set; SIGRTMIN is far below 64.
    let allowed = 1_u64 << (signal() - 1);
    let mask = KernelSignalMask { len: 8, set: (!allowed).to_ne_bytes() };
    // SAFETY: the kernel reads `len` and then 8 bytes of `set`, which lie inside `mask`.
    let result = unsafe { ioctl_with_ref(&vcpu.as_raw_fd(), KVM_SET_SIGNAL_MASK(), &mask) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
