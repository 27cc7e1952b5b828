//! One vCPU: made, set up, and run on a thread until the guest ends.
//!
//! It must never: exit the process, or leave `KVM_RUN` without telling [`Exit`] why.

use std::sync::Arc;

use kvm_bindings::{CpuId, KVM_SYSTEM_EVENT_CRASH, KVM_SYSTEM_EVENT_RESET, KVM_SYSTEM_EVENT_SHUTDOWN};
use kvm_ioctls::{VcpuExit, VcpuFd, VmFd};

use crate::arch::x86_64::{cpuid, interrupts, registers};
use crate::bus::Bus;
use crate::exit::{Exit, ExitReason, Failure};
use crate::memory::GuestMemory;

pub(crate) mod kick;

/// What all vCPUs of a guest have in common.
pub(crate) struct Template<'t> {
    /// What KVM supports.
    pub(crate) cpuid: &'t CpuId,
    pub(crate) count: u8,
    pub(crate) tsc_deadline: bool,
}

/// The two address spaces.
pub(crate) struct Buses {
    pub(crate) ports: Bus,
    pub(crate) memory: Bus,
    /// Kept mapped for as long as a vCPU can run.
    pub(crate) _ram: GuestMemory,
}

/// A vCPU before it has a thread.
pub(crate) struct Vcpu {
    fd: VcpuFd,
    id: u8,
}

impl Vcpu {
    /// Makes vCPU `id`.
    pub(crate) fn new(vm: &VmFd, id: u8, template: &Template<'_>) -> Result<Self, kvm_ioctls::Error> {
        let fd = vm.create_vcpu(u64::from(id))?;
        // CPUID first: since Linux 6.13 KVM checks MSRs against it.
        fd.set_cpuid2(&cpuid::for_vcpu(template.cpuid, id, template.count, template.tsc_deadline))?;
        registers::set_boot_msrs(&fd)?;
        interrupts::set_local_pins(&fd)?;
        kick::set_mask(&fd)
            .map_err(|error| kvm_ioctls::Error::new(error.raw_os_error().unwrap_or(libc::EINVAL)))?;
        Ok(Self { fd, id })
    }

    pub(crate) fn fd(&self) -> &VcpuFd {
        &self.fd
    }

    /// Runs until the guest ends; the calling thread has all signals blocked.
    pub(crate) fn run(mut self, buses: &Arc<Buses>, exit: &Exit) {
        // Enrolled before the first look at `exit`: whoever sets it later finds this thread in the list.
        let _enrolled = exit.enroll();
        while !exit.is_set() {
            if let Some(reason) = self.step(buses) {
                exit.set(reason);
            }
        }
    }

    /// Enters the guest once.
    fn step(&mut self, buses: &Buses) -> Option<ExitReason> {
        let vcpu = self.id;
        let failure = match self.fd.run() {
            Ok(VcpuExit::IoIn(port, data)) => {
                buses.ports.read(u64::from(port), data);
                return None;
            }
            Ok(VcpuExit::IoOut(port, data)) => {
                buses.ports.write(u64::from(port), data);
                return None;
            }
            Ok(VcpuExit::MmioRead(address, data)) => {
                buses.memory.read(address, data);
                return None;
            }
            Ok(VcpuExit::MmioWrite(address, data)) => {
                buses.memory.write(address, data);
                return None;
            }
            Ok(VcpuExit::Shutdown) => return Some(ExitReason::TripleFault),
            Ok(VcpuExit::SystemEvent(KVM_SYSTEM_EVENT_SHUTDOWN, _)) => return Some(ExitReason::PowerOff),
            Ok(VcpuExit::SystemEvent(KVM_SYSTEM_EVENT_RESET, _)) => return Some(ExitReason::Reset),
            Ok(VcpuExit::SystemEvent(KVM_SYSTEM_EVENT_CRASH, _)) => return Some(ExitReason::Crashed),
            Ok(VcpuExit::InternalError) => self.internal_error(),
            Ok(VcpuExit::FailEntry(reason, _)) => Failure::Entry { vcpu, reason },
            // EOIs, interrupt windows: KVM tells, nobody needs to act.
            Ok(VcpuExit::Intr | VcpuExit::IrqWindowOpen) => return None,
            Ok(exit) => Failure::Unexpected { vcpu, exit: format!("{exit:?}") },
            Err(error) if matches!(error.errno(), libc::EINTR | libc::EAGAIN) => return None,
            Err(error) => Failure::Run { vcpu, errno: error.errno() },
        };
        Some(ExitReason::Failed(failure))
    }

    fn internal_error(&mut self) -> Failure {
        let rip = self.fd.get_regs().map_or(0, |regs| regs.rip);
        // SAFETY: the exit reason is KVM_EXIT_INTERNAL_ERROR, so `internal` is the member KVM filled in.
        let suberror = unsafe { self.fd.get_kvm_run().__bindgen_anon_1.internal.suberror };
        Failure::Internal { vcpu: self.id, suberror, rip }
    }
}
