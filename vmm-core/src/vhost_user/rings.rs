//! Ring state between the protocol's messages and the [`Vring`]s a device sees.
//!
//! It must never hand a device a ring that the VMM has not both started and enabled.

use std::fs::File;
use std::io::{Read, Write};

use virtio_queue::{Queue, QueueT};

use crate::devices::Vring;

/// Largest ring a VMM may set up, in descriptors (`VIRTQUEUE_MAX_SIZE` of QEMU). QEMU's virtio-mmio lets
/// the guest choose up to this for every queue, whatever size the device would like.
const RING_SIZE_MAX: u16 = 1024;

/// One virtqueue as the VMM configures it.
pub(super) struct Ring {
    pub(super) queue: Queue,
    /// Signalled by the guest's driver. Present means "started".
    pub(super) kick: Option<File>,
    /// Signals the guest's driver. Absent while the VMM masks the interrupt.
    pub(super) call: Option<File>,
    /// `SET_VRING_ENABLE`, or implied when the VMM does not speak protocol features.
    pub(super) enabled: bool,
    /// Whether `kick` is watched by the event loop.
    pub(super) watched: bool,
    /// Position at which the VMM stopped this ring, to tell a resumed driver from a new one.
    pub(super) stopped_at: Option<u16>,
}

impl Ring {
    pub(super) fn new(size: u16) -> Result<Self, virtio_queue::Error> {
        let queue = Queue::new(size.max(RING_SIZE_MAX))?;
        Ok(Self { queue, kick: None, call: None, enabled: false, watched: false, stopped_at: None })
    }

    /// Both started and enabled.
    pub(super) fn is_active(&self) -> bool {
        self.kick.is_some() && self.enabled
    }

    /// Takes the count out of the kick descriptor, so that the level-triggered event loop sleeps again.
    pub(super) fn drain_kick(&self) {
        if let Some(mut kick) = self.kick.as_ref() {
            // A spurious wake finds nothing to read; that is fine.
            let _ = kick.read(&mut [0; 8]);
        }
    }

    /// Interrupts the guest's driver.
    pub(super) fn interrupt(&self) {
        interrupt(self.call.as_ref());
    }

    /// Back to the state before the VMM said anything.
    pub(super) fn reset(&mut self) {
        self.queue.reset();
        self.kick = None;
        self.call = None;
        self.enabled = false;
        self.watched = false;
        self.stopped_at = None;
    }
}

/// Lends all rings to `action` in the form that devices use.
pub(super) fn with_vrings<R>(rings: &mut [Ring], action: impl FnOnce(&mut [Vring<'_>]) -> R) -> R {
    let (mut queues, calls): (Vec<_>, Vec<_>) =
        rings.iter_mut().map(|ring| (&mut ring.queue, ring.call.as_ref())).unzip();
    let interrupts: Vec<_> = calls.into_iter().map(|call| move || interrupt(call)).collect();
    let mut vrings: Vec<Vring<'_>> = queues
        .iter_mut()
        .zip(&interrupts)
        .map(|(queue, interrupt)| Vring { queue, interrupt: interrupt as &dyn Fn() })
        .collect();
    action(&mut vrings)
}

fn interrupt(call: Option<&File>) {
    if let Some(mut call) = call {
        // A full counter means that an interrupt is pending anyway; a dead VMM shows on the socket.
        let _ = call.write(&1_u64.to_ne_bytes());
    }
}
