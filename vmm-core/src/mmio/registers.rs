//! The registers and the status machine of virtio-mmio version 2 (virtio 1.2 §4.2.2 and §2.1).
//!
//! Pure state: nothing here waits, interrupts or touches guest memory, except to check where queues lie.

use virtio_bindings::virtio_config::{
    VIRTIO_CONFIG_S_ACKNOWLEDGE as ACKNOWLEDGE, VIRTIO_CONFIG_S_DRIVER as DRIVER,
    VIRTIO_CONFIG_S_DRIVER_OK as DRIVER_OK, VIRTIO_CONFIG_S_FAILED as FAILED,
    VIRTIO_CONFIG_S_FEATURES_OK as FEATURES_OK, VIRTIO_CONFIG_S_NEEDS_RESET as NEEDS_RESET,
    VIRTIO_F_VERSION_1,
};
use virtio_bindings::virtio_ring::VIRTIO_RING_F_EVENT_IDX;
use virtio_queue::{Queue, QueueT};

use crate::devices::Device;
use crate::memory::GuestMemory;

pub(super) const MAGIC: u64 = 0x000;
pub(super) const VERSION: u64 = 0x004;
pub(super) const DEVICE_ID: u64 = 0x008;
pub(super) const VENDOR_ID: u64 = 0x00c;
pub(super) const DEVICE_FEATURES: u64 = 0x010;
pub(super) const DEVICE_FEATURES_SELECT: u64 = 0x014;
pub(super) const DRIVER_FEATURES: u64 = 0x020;
pub(super) const DRIVER_FEATURES_SELECT: u64 = 0x024;
pub(super) const QUEUE_SELECT: u64 = 0x030;
pub(super) const QUEUE_SIZE_MAX: u64 = 0x034;
pub(super) const QUEUE_SIZE: u64 = 0x038;
pub(super) const QUEUE_READY: u64 = 0x044;
pub(super) const QUEUE_NOTIFY: u64 = 0x050;
pub(super) const INTERRUPT_STATUS: u64 = 0x060;
pub(super) const INTERRUPT_ACKNOWLEDGE: u64 = 0x064;
pub(super) const STATUS: u64 = 0x070;
pub(super) const DESCRIPTORS_LOW: u64 = 0x080;
pub(super) const DESCRIPTORS_HIGH: u64 = 0x084;
pub(super) const AVAILABLE_LOW: u64 = 0x090;
pub(super) const AVAILABLE_HIGH: u64 = 0x094;
pub(super) const USED_LOW: u64 = 0x0a0;
pub(super) const USED_HIGH: u64 = 0x0a4;
/// Length and address of a shared memory region; all ones say that there is none.
pub(super) const SHARED_MEMORY: std::ops::RangeInclusive<u64> = 0x0b0..=0x0bc;
pub(super) const CONFIG: u64 = 0x100;

/// "virt".
const MAGIC_VALUE: u32 = 0x7472_6976;
const VERSION_VALUE: u32 = 2;

/// What a write did beyond changing the state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Access {
    Done,
    /// `DRIVER_OK` was reached: the device runs from now on.
    Activated,
    /// The driver wants a reset; the caller does it.
    Reset,
    /// The driver's queues are impossible: the device asks for a reset.
    Broken,
}

/// A device and all the guest has said about it.
pub(super) struct State {
    pub(super) device: Box<dyn Device>,
    pub(super) queues: Vec<Queue>,
    status: u32,
    device_features_select: u32,
    driver_features_select: u32,
    driver_features: u64,
    queue_select: u32,
}

impl State {
    pub(super) fn new(device: Box<dyn Device>) -> Result<Self, virtio_queue::Error> {
        let queues = device.queue_sizes().iter().map(|size| Queue::new(*size)).collect::<Result<_, _>>()?;
        Ok(Self {
            device,
            queues,
            status: 0,
            device_features_select: 0,
            driver_features_select: 0,
            driver_features: 0,
            queue_select: 0,
        })
    }

    /// The driver has finished its set-up, and the device has not asked for a reset.
    pub(super) fn is_active(&self) -> bool {
        self.status & (DRIVER_OK | NEEDS_RESET) == DRIVER_OK
    }

    /// Whether configuration space may be written: only by a driver that has said it is one.
    pub(super) fn accepts_config(&self) -> bool {
        self.status & (DRIVER | NEEDS_RESET | FAILED) == DRIVER
    }

    /// Back to the state after power-on.
    pub(super) fn reset(&mut self) {
        self.device.reset();
        for queue in &mut self.queues {
            queue.reset();
        }
        self.status = 0;
        self.device_features_select = 0;
        self.driver_features_select = 0;
        self.driver_features = 0;
        self.queue_select = 0;
    }

    pub(super) fn read(&self, offset: u64) -> u32 {
        match offset {
            MAGIC => MAGIC_VALUE,
            VERSION => VERSION_VALUE,
            DEVICE_ID => self.device.id(),
            VENDOR_ID => 0,
            DEVICE_FEATURES => half(self.device.features(), self.device_features_select),
            QUEUE_SIZE_MAX => self.queue().map_or(0, |queue| u32::from(queue.max_size())),
            QUEUE_READY => self.queue().map_or(0, |queue| u32::from(queue.ready())),
            STATUS => self.status,
            offset if SHARED_MEMORY.contains(&offset) => u32::MAX,
            // Also the configuration generation: no device of ours changes its configuration.
            _ => 0,
        }
    }

    pub(super) fn write(&mut self, offset: u64, value: u32, memory: &GuestMemory) -> Access {
        match offset {
            STATUS => return self.write_status(value, memory),
            DEVICE_FEATURES_SELECT => self.device_features_select = value,
            DRIVER_FEATURES_SELECT => self.driver_features_select = value,
            DRIVER_FEATURES => self.write_features(value),
            QUEUE_SELECT => self.queue_select = value,
            QUEUE_READY => {
                if let Some(queue) = self.queue_in_setup() {
                    queue.set_ready(value == 1);
                }
            }
            QUEUE_SIZE | DESCRIPTORS_LOW..=USED_HIGH => {
                if let Some(queue) = self.queue_in_setup().filter(|queue| !queue.ready()) {
                    place(queue, offset, value);
                }
            }
            // QUEUE_NOTIFY of a queue that exists never comes here: it is an ioeventfd.
            _ => {}
        }
        Access::Done
    }

    /// §2.1 and §3.1.1: 0 resets; bits are only added, one step after the other.
    fn write_status(&mut self, value: u32, memory: &GuestMemory) -> Access {
        if value == 0 {
            return Access::Reset;
        }
        let added = value & !self.status;
        if value & self.status & !NEEDS_RESET != self.status & !NEEDS_RESET {
            return Access::Done;
        }
        let has = |bits| self.status & bits == bits;
        match added {
            FAILED => self.status |= FAILED,
            _ if has(FAILED) || has(NEEDS_RESET) => {}
            ACKNOWLEDGE => self.status |= ACKNOWLEDGE,
            DRIVER if has(ACKNOWLEDGE) => self.status |= DRIVER,
            // Linux sets the first two bits one by one, others at once.
            bits if bits == ACKNOWLEDGE | DRIVER => self.status |= bits,
            FEATURES_OK if has(DRIVER) && self.features_are_possible() => {
                self.status |= FEATURES_OK;
                self.device.acknowledge(self.driver_features);
                let event_idx = self.driver_features & 1 << VIRTIO_RING_F_EVENT_IDX != 0;
                for queue in &mut self.queues {
                    queue.set_event_idx(event_idx);
                }
            }
            DRIVER_OK if has(FEATURES_OK) => return self.activate(memory),
            _ => {}
        }
        Access::Done
    }

    fn activate(&mut self, memory: &GuestMemory) -> Access {
        self.status |= DRIVER_OK;
        let lies_in_memory = |queue: &Queue| !queue.ready() || queue.is_valid(memory);
        if self.queues.iter().all(lies_in_memory) {
            Access::Activated
        } else {
            self.status |= NEEDS_RESET;
            Access::Broken
        }
    }

    /// Only what was offered, and never the protocol of before virtio 1.
    fn features_are_possible(&self) -> bool {
        self.driver_features & !self.device.features() == 0
            && self.driver_features & 1 << VIRTIO_F_VERSION_1 != 0
    }

    fn write_features(&mut self, value: u32) {
        if self.status & (DRIVER | FEATURES_OK) != DRIVER {
            return;
        }
        let value = u64::from(value);
        match self.driver_features_select {
            0 => self.driver_features = self.driver_features & !0xffff_ffff | value,
            1 => self.driver_features = self.driver_features & 0xffff_ffff | value << 32,
            // No feature has a number above 63; §4.2.2 has the driver write 0 there at most.
            _ => {}
        }
    }

    fn queue(&self) -> Option<&Queue> {
        self.queues.get(usize::try_from(self.queue_select).ok()?)
    }

    /// The selected queue, while it may be changed: after the features are settled, before `DRIVER_OK`.
    fn queue_in_setup(&mut self) -> Option<&mut Queue> {
        if self.status & (FEATURES_OK | DRIVER_OK | FAILED) != FEATURES_OK {
            return None;
        }
        self.queues.get_mut(usize::try_from(self.queue_select).ok()?)
    }
}

fn half(features: u64, select: u32) -> u32 {
    let shifted = match select {
        0 => features,
        1 => features >> 32,
        _ => 0,
    };
    u32::try_from(shifted & 0xffff_ffff).unwrap_or_default()
}

/// Size or address of a queue; a value that the queue refuses is not taken, and shows when it is enabled.
fn place(queue: &mut Queue, offset: u64, value: u32) {
    match offset {
        QUEUE_SIZE => {
            if let Ok(size) = u16::try_from(value) {
                let _ = queue.try_set_size(size);
            }
        }
        DESCRIPTORS_LOW => queue.set_desc_table_address(Some(value), None),
        DESCRIPTORS_HIGH => queue.set_desc_table_address(None, Some(value)),
        AVAILABLE_LOW => queue.set_avail_ring_address(Some(value), None),
        AVAILABLE_HIGH => queue.set_avail_ring_address(None, Some(value)),
        USED_LOW => queue.set_used_ring_address(Some(value), None),
        USED_HIGH => queue.set_used_ring_address(None, Some(value)),
        _ => {}
    }
}
