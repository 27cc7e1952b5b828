//! Carries any [`Device`] to the guest of our own VM: virtio-mmio version 2 (virtio 1.2 §4.2).
//!
//! vCPU threads reach the registers through the bus; one thread per device runs the device itself. The
//! two meet at one lock, which the hot paths avoid: a kick is an ioeventfd, an interrupt is an irqfd, and
//! the interrupt status is atomic.
//!
//! It must never: change a queue after `DRIVER_OK` (the lesson of CVE-2026-5747), accept a status that
//! skips a step, run a device that is not activated, or read or write outside guest memory.
//!
//! ```text
//! guest driver ── registers ──► registers.rs ── activate, reset ─┐
//!              ── kick ───────► ioeventfd ──► device_thread.rs ──┴► Device::{queue_event, host_event}
//!              ◄─ interrupt ─── irqfd ◄────── interrupt.rs ◄──────── Vring::signal_used
//! ```

mod device_thread;
mod interrupt;
mod registers;

use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use kvm_ioctls::{IoEventAddress, VmFd};
use vmm_sys_util::eventfd::{EFD_CLOEXEC, EFD_NONBLOCK, EventFd};

use crate::bus::Region;
use crate::devices::Device;
use crate::memory::GuestMemory;
use device_thread::Watch;
use interrupt::Interrupt;
use registers::{Access, State};

pub(crate) use device_thread::run;

/// Why a device cannot be attached.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AttachError {
    /// The device's own description is wrong.
    #[error("the device's queues are wrong: {0}; sizes are powers of two up to 32768")]
    Queue(#[from] virtio_queue::Error),
    /// A descriptor could not be made.
    #[error("cannot make a file descriptor for a device: {0}; check the limit on open files")]
    Descriptor(#[from] io::Error),
    /// KVM refused an ioeventfd or an irqfd.
    #[error("KVM cannot connect a device's events: {0}")]
    Kvm(#[from] kvm_ioctls::Error),
}

/// One device with its registers, queues and events.
pub(crate) struct Transport {
    state: Mutex<State>,
    interrupt: Interrupt,
    /// The guest's kicks, one per queue.
    kicks: Vec<EventFd>,
    watch: Watch,
    memory: GuestMemory,
    id: u32,
}

impl Transport {
    /// Gives `device` registers at `address` and the interrupt line `gsi`.
    pub(crate) fn attach(
        vm: &VmFd,
        memory: &GuestMemory,
        device: Box<dyn Device>,
        (address, gsi): (u64, u32),
    ) -> Result<Arc<Self>, AttachError> {
        let id = device.id();
        let line = EventFd::new(EFD_CLOEXEC | EFD_NONBLOCK)?;
        vm.register_irqfd(&line, gsi)?;
        let mut kicks = Vec::new();
        let notify = IoEventAddress::Mmio(address.saturating_add(registers::QUEUE_NOTIFY));
        for (_, index) in device.queue_sizes().iter().zip(0_u32..) {
            let kick = EventFd::new(EFD_CLOEXEC | EFD_NONBLOCK)?;
            vm.register_ioevent(&kick, &notify, index)?;
            kicks.push(kick);
        }
        let state = Mutex::new(State::new(device)?);
        let interrupt = Interrupt::new(line);
        let watch = Watch::new(&kicks)?;
        Ok(Arc::new(Self { state, interrupt, kicks, watch, memory: memory.clone(), id }))
    }

    /// Virtio device id.
    pub(crate) fn id(&self) -> u32 {
        self.id
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // A panic under this lock ends the guest (see `Exit::spawn`); until then the state is only read.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Starts the device: called with the driver's `DRIVER_OK`.
    fn activated(&self, state: &State) {
        // Buffers offered before DRIVER_OK may have been kicked for before anyone listened.
        for kick in &self.kicks {
            let _ = kick.write(1);
        }
        if let Some(fd) = state.device.host_fd() {
            // Only fails where the host is out of memory for epoll; the device is deaf to the host then.
            let _ = self.watch.set_host(fd, true);
        }
    }

    fn reset(&self, state: &mut State) {
        if let Some(fd) = state.device.host_fd() {
            let _ = self.watch.set_host(fd, false);
        }
        state.reset();
        self.interrupt.clear();
    }
}

impl Region for Transport {
    fn read(&self, offset: u64, data: &mut [u8]) {
        if offset >= registers::CONFIG {
            data.fill(0);
            if let Ok(offset) = u32::try_from(offset - registers::CONFIG) {
                self.state().device.read_config(offset, data);
            }
            return;
        }
        // Registers are 32 bits wide and are accessed so (§4.2.2.2); anything else reads as zero.
        let value = match (offset, data.len()) {
            (registers::INTERRUPT_STATUS, 4) => self.interrupt.status(),
            (_, 4) => self.state().read(offset),
            _ => 0,
        };
        for (to, from) in data.iter_mut().zip(value.to_le_bytes().into_iter().chain(std::iter::repeat(0))) {
            *to = from;
        }
    }

    fn write(&self, offset: u64, data: &[u8]) {
        if offset >= registers::CONFIG {
            let mut state = self.state();
            if let Ok(offset) = u32::try_from(offset - registers::CONFIG)
                && state.accepts_config()
            {
                state.device.write_config(offset, data);
            }
            return;
        }
        let Ok(value) = <[u8; 4]>::try_from(data).map(u32::from_le_bytes) else { return };
        if offset == registers::INTERRUPT_ACKNOWLEDGE {
            self.interrupt.acknowledge(value);
            return;
        }
        let mut state = self.state();
        match state.write(offset, value, &self.memory) {
            Access::Done => {}
            Access::Activated => self.activated(&state),
            Access::Reset => self.reset(&mut state),
            Access::Broken => self.interrupt.configuration_changed(),
        }
    }
}

#[cfg(test)]
mod tests;
