//! Real Linux guests on a real KVM, to the agent and back.
//!
//! Runs only where `AGENT_SANDBOX_KVM_LAB=1` is set: in the KVM lab (`cargo xtask kvm-lab`), or on any
//! machine whose KVM runs Linux, with `AGENT_SANDBOX_LAB_KERNEL_*` and `AGENT_SANDBOX_LAB_INITRAMFS_*`
//! naming the files. Elsewhere each test says that it was skipped.

mod agent;
mod leftovers;
mod machine;

use std::io::Write;

use leftovers::Leftovers;
use machine::{Case, Machine};
use vmm_core::ExitReason;
use vmm_core::probe::{self, Probe};

/// The case that the environment names, or `None`, said loudly.
fn case(kernel: &str, initramfs: &str) -> Option<Case> {
    if std::env::var_os("AGENT_SANDBOX_KVM_LAB").is_none_or(|value| value != "1") {
        // Where CI does not count it: that command is a step of its own.
        let why = "\nSKIPPED: AGENT_SANDBOX_KVM_LAB=1 is not set; run `cargo xtask kvm-lab`\n";
        let _ = std::io::stderr().write_all(why.as_bytes());
        return None;
    }
    let variable = |name: &str| std::env::var_os(format!("AGENT_SANDBOX_LAB_{name}"));
    match (variable(kernel), variable(initramfs)) {
        (Some(kernel), Some(initramfs)) => Some(Case { kernel: kernel.into(), initramfs: initramfs.into() }),
        _ => {
            skip(&format!("AGENT_SANDBOX_LAB_{kernel} or AGENT_SANDBOX_LAB_{initramfs} is not set"));
            None
        }
    }
}

fn skip(why: &str) {
    // Past the test harness's capture, and in one piece: a skipped test must be seen.
    let _ = std::io::stdout().write_all(format!("\nSKIPPED: {why}\n").as_bytes());
}

/// Boots to the agent, runs programs, shuts down, twice, and counts what is left.
fn boots_twice(kernel: &str, initramfs: &str) {
    let Some(case) = case(kernel, initramfs) else { return };
    let before = Leftovers::count();
    for (round, ending) in [agent::Ending::PowerOff, agent::Ending::Reboot].into_iter().enumerate() {
        let mut machine = Machine::boot(&case, 1);
        let mut control = machine.agent();
        let version = machine.read_file("/proc/version");
        assert!(version.contains("Linux version 6."), "{version}");
        devices_work(&mut machine);
        control.shut_down(ending);
        let reason = machine.wait();
        let expected = match ending {
            agent::Ending::PowerOff => ExitReason::PowerOff,
            agent::Ending::Reboot => ExitReason::Reset,
        };
        assert_eq!(reason, expected, "round {round}");
        drop(control);
        Leftovers::assert_none_since(&before);
    }
}

/// Each device from the guest's side.
fn devices_work(machine: &mut Machine) {
    let letter = format!("/{}/{}", agent::SHARE, machine::SHARED_FILE);
    assert_eq!(machine.read_file(&letter), machine::SHARED_TEXT);
    assert!(machine.read_file("/dev/vda").starts_with(machine::DISK_TEXT));
    assert_eq!(machine.read_file("/sys/block/vda/serial"), machine::DISK_SERIAL);
    assert_eq!(machine.read_file("/sys/block/vda/ro").trim(), "1");
    assert_eq!(machine.read_file("/sys/class/misc/hw_random/rng_current").trim(), "virtio_rng.0");
    assert!(machine.read_file("/proc/cpuinfo").contains("hypervisor"));
    let clock = machine.read_file("/sys/devices/system/clocksource/clocksource0/available_clocksource");
    assert!(clock.contains("kvm-clock"), "{clock}");
}

#[test]
fn the_probe_says_that_this_kvm_is_usable() {
    if case("KERNEL_6_12", "INITRAMFS_6_12").is_some() {
        let answer = probe::probe(probe::TIME_LIMIT);
        assert!(matches!(answer, Probe::Usable), "{answer:?}");
    }
}

#[test]
fn debian_6_12_elf_boots_twice_and_leaves_nothing() {
    boots_twice("KERNEL_6_12", "INITRAMFS_6_12");
}

#[test]
fn debian_6_12_bzimage_boots_twice_and_leaves_nothing() {
    boots_twice("KERNEL_6_12_BZIMAGE", "INITRAMFS_6_12");
}

#[test]
fn debian_6_1_elf_boots_twice_and_leaves_nothing() {
    boots_twice("KERNEL_6_1", "INITRAMFS_6_1");
}

#[test]
fn debian_6_1_bzimage_boots_twice_and_leaves_nothing() {
    boots_twice("KERNEL_6_1_BZIMAGE", "INITRAMFS_6_1");
}

#[test]
fn the_minimal_kernel_boots_twice_and_leaves_nothing() {
    boots_twice("KERNEL_MINIMAL", "INITRAMFS_MINIMAL");
}

#[test]
fn two_vcpus_come_up() {
    let Some(case) = case("KERNEL_6_12", "INITRAMFS_6_12") else { return };
    let mut machine = Machine::boot(&case, 2);
    let _control = machine.agent();
    assert_eq!(machine.read_file("/sys/devices/system/cpu/online").trim(), "0-1");
    machine.stop();
    assert_eq!(machine.wait(), ExitReason::Stopped);
}

#[test]
fn a_guest_that_never_ends_is_stopped() {
    let Some(case) = case("KERNEL_6_12", "INITRAMFS_6_12") else { return };
    let before = Leftovers::count();
    let machine = Machine::boot(&case, 1);
    // The kernel is somewhere in its boot.
    machine.stop();
    assert_eq!(machine.wait(), ExitReason::Stopped);
    Leftovers::assert_none_since(&before);
}
