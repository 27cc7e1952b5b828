//! A payload that drives a virtio-mmio device by its registers, as a driver does.

use vmm_core::devices::rng::Rng;
use vmm_core::{ExitReason, Vm};

use super::payload::{Op, Payload};
use super::screen::Screen;

const DEVICE: u32 = 0xd000_0000;
const STATUS: u32 = DEVICE + 0x70;
const QUEUE_READY: u32 = DEVICE + 0x44;
const QUEUE_SIZE: u32 = DEVICE + 0x38;
const INTERRUPT_STATUS: u32 = DEVICE + 0x60;

const DESCRIPTORS: u32 = 0x20_0000;
const AVAILABLE: u32 = 0x20_1000;
const USED: u32 = 0x20_2000;
const BUFFER: u32 = 0x20_3000;

/// Reset, acknowledge, accept `VERSION_1` alone, set up queue 0 with four descriptors.
fn set_up() -> Vec<Op<'static>> {
    let register = |offset, value| Op::Write32(DEVICE + offset, value);
    vec![
        Op::Write32(STATUS, 0),
        Op::Write32(STATUS, 1),
        Op::Write32(STATUS, 3),
        register(0x24, 1), // upper half of the features
        register(0x20, 1), // VERSION_1
        Op::Write32(STATUS, 0xb),
        register(0x30, 0),
        Op::Write32(QUEUE_SIZE, 4),
        register(0x80, DESCRIPTORS),
        register(0x90, AVAILABLE),
        register(0xa0, USED),
        Op::Write32(QUEUE_READY, 1),
        Op::Write32(STATUS, 0xf),
    ]
}

fn runs(ops: &[Op<'_>]) -> String {
    let screen = Screen::default();
    let kernel = Payload::new(ops).elf();
    let rng = Box::new(Rng::new().unwrap());
    let vm = Vm::builder().kernel(kernel).memory_mib(32).device(rng).serial(screen.clone());
    let reason = vm.build().unwrap().start().unwrap().wait();
    assert_eq!(reason, ExitReason::Reset);
    screen.text()
}

const RESET: Op<'static> = Op::Port8(0x64, 0xfe);

#[test]
fn a_buffer_is_filled_and_an_interrupt_is_told() {
    let Some(_alone) = super::kvm() else { return };
    let mut ops = set_up();
    ops.extend([
        Op::Write32(DESCRIPTORS, BUFFER),
        Op::Write32(DESCRIPTORS + 4, 0),
        Op::Write32(DESCRIPTORS + 8, 32), // bytes
        Op::Write32(DESCRIPTORS + 12, 2), // device writes
        Op::Write32(AVAILABLE, 1 << 16),  // flags 0, one entry
        Op::Write32(DEVICE + 0x50, 0),    // notify
        Op::Await16(USED + 2, 1),
        Op::SayWord(USED + 8), // bytes used
        Op::Say(" "),
        Op::SayWord(INTERRUPT_STATUS),
        Op::Say(" "),
        Op::SayWord(BUFFER),
        Op::SayWord(BUFFER + 4),
        Op::SayWord(BUFFER + 28),
        Op::Say(" "),
        Op::SayWord(BUFFER + 32),
        Op::Say(" "),
        Op::Write32(DEVICE + 0x64, 1), // acknowledge
        Op::SayWord(INTERRUPT_STATUS),
        RESET,
    ]);
    let said = runs(&ops);
    let words: Vec<&str> = said.split(' ').collect();
    let [used, pending, random, beyond, acknowledged] = words[..] else { panic!("{said}") };
    assert_eq!((used, pending, beyond, acknowledged), ("20000000", "01000000", "00000000", "00000000"));
    assert_ne!(random, "0".repeat(24));
}

#[test]
fn identity_and_status_are_as_the_specification_has_them() {
    let Some(_alone) = super::kvm() else { return };
    let mut ops = vec![Op::SayWord(DEVICE), Op::SayWord(DEVICE + 4), Op::SayWord(DEVICE + 8), Op::Say(" ")];
    ops.extend(set_up());
    ops.extend([
        Op::SayWord(STATUS),
        // Frozen after DRIVER_OK: the queue stays ready.
        Op::Write32(QUEUE_READY, 0),
        Op::SayWord(QUEUE_READY),
        Op::Write32(STATUS, 0),
        Op::SayWord(STATUS),
        Op::SayWord(QUEUE_READY),
        RESET,
    ]);
    assert_eq!(runs(&ops), "766972740200000004000000 0f000000010000000000000000000000");
}
