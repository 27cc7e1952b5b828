//! Ending a guest that does not end by itself.

use std::os::fd::AsFd;
use std::os::fd::AsRawFd;

use vmm_core::devices::rng::Rng;
use vmm_core::{ExitReason, Vm};

use super::leftovers::Leftovers;
use super::payload::{Op, Payload};

fn spinning(cpus: u8) -> vmm_core::vm::Handle {
    let kernel = Payload::new(&[Op::Spin]).elf();
    let rng = Box::new(Rng::new().unwrap());
    Vm::builder().kernel(kernel).memory_mib(32).cpus(cpus).device(rng).build().unwrap().start().unwrap()
}

#[test]
fn a_guest_that_spins_is_stopped_from_any_thread() {
    let Some(_alone) = super::kvm() else { return };
    let before = Leftovers::count();
    let handle = spinning(2);
    assert_eq!(handle.exit_reason(), None);
    let stopper = handle.stopper();
    std::thread::spawn(move || stopper.stop()).join().unwrap();
    assert_eq!(handle.wait(), ExitReason::Stopped);
    Leftovers::assert_none_since(&before);
}

#[test]
fn dropping_the_handle_stops_the_guest() {
    let Some(_alone) = super::kvm() else { return };
    let before = Leftovers::count();
    drop(spinning(1));
    Leftovers::assert_none_since(&before);
}

#[test]
fn a_machine_that_is_never_started_leaves_nothing() {
    let Some(_alone) = super::kvm() else { return };
    let before = Leftovers::count();
    let kernel = Payload::new(&[]).elf();
    drop(Vm::builder().kernel(kernel).device(Box::new(Rng::new().unwrap())).build().unwrap());
    Leftovers::assert_none_since(&before);
}

#[test]
fn the_handle_becomes_readable_when_the_guest_ends() {
    let Some(_alone) = super::kvm() else { return };
    let handle = spinning(1);
    let mut poll = libc::pollfd { fd: handle.as_fd().as_raw_fd(), events: libc::POLLIN, revents: 0 };
    // SAFETY: one valid pollfd, without waiting.
    assert_eq!(unsafe { libc::poll(&raw mut poll, 1, 0) }, 0);
    handle.stop();
    // SAFETY: as above.
    assert_eq!(unsafe { libc::poll(&raw mut poll, 1, 0) }, 1);
    assert_eq!(handle.wait(), ExitReason::Stopped);
}

#[test]
fn no_signal_handler_is_installed_and_no_signal_is_lost_to_the_program() {
    let Some(_alone) = super::kvm() else { return };
    let disposition = || {
        let mut action = std::mem::MaybeUninit::<libc::sigaction>::uninit();
        // SAFETY: the call only writes the current action.
        unsafe {
            libc::sigaction(libc::SIGRTMIN(), std::ptr::null(), action.as_mut_ptr());
            action.assume_init().sa_sigaction
        }
    };
    let before = disposition();
    let handle = spinning(1);
    assert_eq!(disposition(), before);
    handle.stop();
    assert_eq!(handle.wait(), ExitReason::Stopped);
    assert_eq!(disposition(), before);
}
