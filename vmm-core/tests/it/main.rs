//! The virtual machine on whatever `/dev/kvm` this host has, with bare 64-bit and 32-bit payloads.
//!
//! The payloads stay in ring 0 and use integer instructions only, which even a software KVM runs. Linux
//! guests are in `tests/lab`. Without `/dev/kvm` every test here says that it was skipped.

#[path = "../lab/leftovers.rs"]
mod leftovers;
mod payload;
mod screen;
mod stopping;
mod virtio_rng;

use std::io::Write;
use std::sync::{Mutex, MutexGuard, PoisonError};

use vmm_core::{ExitReason, Vm, VmError};

use leftovers::Leftovers;
use payload::{Op, Payload};
use screen::Screen;

/// One test at a time: they count this process's threads and files.
static ALONE: Mutex<()> = Mutex::new(());

/// The right to use KVM, or `None`, said loudly.
fn kvm() -> Option<MutexGuard<'static, ()>> {
    let alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    match Vm::builder().kernel(Payload::new(&[]).elf()).build() {
        Ok(_) => Some(alone),
        Err(VmError::Kvm(error)) => {
            let _ = std::io::stdout().write_all(format!("\nSKIPPED: {error}\n").as_bytes());
            None
        }
        Err(error) => panic!("{error}"),
    }
}

fn runs(kernel: Vec<u8>) -> (ExitReason, String) {
    let screen = Screen::default();
    let vm = Vm::builder().kernel(kernel).memory_mib(32).serial(screen.clone()).build().unwrap();
    let reason = vm.start().unwrap().wait();
    (reason, screen.text())
}

#[test]
fn a_64_bit_payload_speaks_and_resets_twice_and_leaves_nothing() {
    let Some(_alone) = kvm() else { return };
    let hello = Payload::new(&[Op::Say("hello"), Op::Port8(0x64, 0xfe)]).elf();
    // Once before counting: the first use may load what stays loaded.
    assert_eq!(runs(hello.clone()), (ExitReason::Reset, "hello".into()));
    let before = Leftovers::count();
    for _ in 0..2 {
        assert_eq!(runs(hello.clone()), (ExitReason::Reset, "hello".into()));
        Leftovers::assert_none_since(&before);
    }
}

#[test]
fn a_pvh_payload_starts_in_32_bit_mode_with_its_start_info() {
    let Some(_alone) = kvm() else { return };
    // ebx points at hvm_start_info, which starts with its magic number.
    let payload = Payload::new(&[Op::SayWordAtRbx, Op::Port8(0x64, 0xfe)]).pvh_elf();
    let (reason, said) = runs(payload);
    assert_eq!(reason, ExitReason::Reset);
    assert_eq!(said, format!("{:08x}", 0x336e_c578_u32.swap_bytes()));
}

#[test]
fn acpi_soft_off_is_heard_and_other_sleep_is_not() {
    let Some(_alone) = kvm() else { return };
    let off = Payload::new(&[Op::Port8(0x600, 5 << 2 | 1 << 5)]).elf();
    assert_eq!(runs(off).0, ExitReason::PowerOff);
    // Another sleep type, and soft off without the enable bit.
    let not_off = [Op::Port8(0x600, 3 << 2 | 1 << 5), Op::Port8(0x600, 5 << 2), Op::Port8(0x64, 0xfe)];
    assert_eq!(runs(Payload::new(&not_off).elf()).0, ExitReason::Reset);
}

#[test]
fn a_fault_without_an_interrupt_table_is_a_triple_fault() {
    let Some(_alone) = kvm() else { return };
    assert_eq!(runs(Payload::new(&[Op::Undefined]).elf()).0, ExitReason::TripleFault);
}

#[test]
fn legacy_ports_never_look_busy() {
    let Some(_alone) = kvm() else { return };
    // CMOS data, i8042 status, and a port that nothing answers.
    let payload =
        Payload::new(&[Op::SayPort(0x71), Op::SayPort(0x64), Op::SayPort(0x80), Op::Port8(0x64, 0xfe)]);
    assert_eq!(runs(payload.elf()).1, "0000ff");
}

#[test]
fn impossible_machines_are_refused_before_anything_is_made() {
    let Some(_alone) = kvm() else { return };
    let before = Leftovers::count();
    let kernel = || Payload::new(&[]).elf();
    assert!(matches!(Vm::builder().build(), Err(VmError::NoKernel)));
    for builder in [
        Vm::builder().kernel(kernel()).cpus(0),
        Vm::builder().kernel(kernel()).cpus(33),
        Vm::builder().kernel(kernel()).memory_mib(31),
        Vm::builder().kernel(kernel()).memory_mib(512 * 1024 + 1),
    ] {
        let Err(VmError::OutOfRange { .. }) = builder.build() else { panic!("not refused") };
    }
    let error = Vm::builder().kernel(vec![0; 4096]).build().map(drop).unwrap_err();
    assert!(error.to_string().contains("neither an x86_64 ELF"), "{error}");
    Leftovers::assert_none_since(&before);
}
