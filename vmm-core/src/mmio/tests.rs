use super::registers::*;
use crate::devices::rng::Rng;
use crate::memory::{self, GuestMemory};

const ACKNOWLEDGE: u32 = 1;
const DRIVER: u32 = 2;
const DRIVER_OK: u32 = 4;
const FEATURES_OK: u32 = 8;
const NEEDS_RESET: u32 = 64;
const FAILED: u32 = 128;
const VERSION_1_HIGH: u32 = 1;

struct Guest {
    state: State,
    memory: GuestMemory,
}

impl Guest {
    fn new() -> Self {
        let state = State::new(Box::new(Rng::new().unwrap())).unwrap();
        Self { state, memory: memory::map_ram(32).unwrap() }
    }

    fn write(&mut self, offset: u64, value: u32) -> Access {
        self.state.write(offset, value, &self.memory)
    }

    fn status(&mut self, value: u32) -> u32 {
        self.write(STATUS, value);
        self.state.read(STATUS)
    }

    /// As far as a driver goes before it sets up queues.
    fn with_features() -> Self {
        let mut guest = Self::new();
        guest.write(STATUS, ACKNOWLEDGE);
        guest.write(STATUS, ACKNOWLEDGE | DRIVER);
        guest.write(DRIVER_FEATURES_SELECT, 1);
        guest.write(DRIVER_FEATURES, VERSION_1_HIGH);
        assert_eq!(guest.status(0xb), 0xb);
        guest
    }

    fn place_queue(&mut self, descriptors: u32) {
        self.write(QUEUE_SELECT, 0);
        self.write(QUEUE_SIZE, 16);
        self.write(DESCRIPTORS_LOW, descriptors);
        self.write(AVAILABLE_LOW, 0x2000);
        self.write(USED_LOW, 0x3000);
        self.write(QUEUE_READY, 1);
    }
}

#[test]
fn the_way_of_a_driver_leads_to_an_active_device() {
    let mut guest = Guest::with_features();
    guest.place_queue(0x1000);
    assert_eq!(guest.write(STATUS, 0xf), Access::Activated);
    assert!(guest.state.is_active());
    assert_eq!(guest.write(STATUS, 0), Access::Reset);
}

#[test]
fn no_step_is_skipped_and_no_bit_taken_back() {
    let mut guest = Guest::new();
    for skipping in [DRIVER, DRIVER_OK, FEATURES_OK, 0xb, 0xf, NEEDS_RESET, 16, !FAILED] {
        assert_eq!(guest.status(skipping), 0, "{skipping:#x}");
    }
    assert_eq!(guest.status(ACKNOWLEDGE), ACKNOWLEDGE);
    assert_eq!(guest.status(ACKNOWLEDGE | FEATURES_OK), ACKNOWLEDGE);
    assert_eq!(guest.status(3), 3);
    assert_eq!(guest.status(ACKNOWLEDGE), 3);
    assert_eq!(guest.status(3 | DRIVER_OK), 3);
}

#[test]
fn features_that_were_not_offered_or_lack_version_1_are_not_accepted() {
    for (select, features) in [(0, 0), (1, VERSION_1_HIGH | 1 << 8), (1, 0), (7, VERSION_1_HIGH)] {
        let mut guest = Guest::new();
        guest.write(STATUS, 1);
        guest.write(STATUS, 3);
        guest.write(DRIVER_FEATURES_SELECT, select);
        guest.write(DRIVER_FEATURES, features);
        assert_eq!(guest.status(0xb), 3, "{select} {features:#x}");
    }
}

#[test]
fn features_are_frozen_once_accepted() {
    let mut guest = Guest::with_features();
    guest.write(DRIVER_FEATURES, 0);
    guest.write(DRIVER_FEATURES_SELECT, 0);
    guest.write(DRIVER_FEATURES, u32::MAX);
    assert_eq!(guest.write(STATUS, 0xf), Access::Activated);
}

#[test]
fn queues_are_frozen_before_features_and_after_driver_ok() {
    let mut early = Guest::new();
    early.place_queue(0x1000);
    assert_eq!(early.state.read(QUEUE_READY), 0);

    let mut guest = Guest::with_features();
    guest.place_queue(0x1000);
    guest.write(STATUS, 0xf);
    for (offset, value) in [(QUEUE_SIZE, 1), (DESCRIPTORS_LOW, 0), (USED_HIGH, 1), (QUEUE_READY, 0)] {
        guest.write(offset, value);
    }
    assert_eq!(guest.state.read(QUEUE_READY), 1);
    let queue = &guest.state.queues[0];
    use virtio_queue::QueueT;
    assert_eq!((queue.size(), queue.desc_table(), queue.used_ring()), (16, 0x1000, 0x3000));
}

#[test]
fn a_ready_queue_is_not_moved() {
    use virtio_queue::QueueT;
    let mut guest = Guest::with_features();
    guest.place_queue(0x1000);
    guest.write(DESCRIPTORS_LOW, 0x8000);
    assert_eq!(guest.state.queues[0].desc_table(), 0x1000);
}

#[test]
fn impossible_sizes_are_not_taken() {
    use virtio_queue::QueueT;
    let mut guest = Guest::with_features();
    let most = guest.state.read(QUEUE_SIZE_MAX);
    for size in [0, 3, most + 1, most * 2, 0x1_0010, u32::MAX] {
        guest.write(QUEUE_SIZE, size);
        assert_eq!(u32::from(guest.state.queues[0].size()), most, "{size}");
    }
}

#[test]
fn a_queue_outside_memory_makes_the_device_ask_for_a_reset() {
    let mut guest = Guest::with_features();
    guest.place_queue(0xf000_0000);
    assert_eq!(guest.write(STATUS, 0xf), Access::Broken);
    assert!(!guest.state.is_active());
    assert_eq!(guest.state.read(STATUS), 0xf | NEEDS_RESET);
    guest.state.reset();
    assert_eq!(guest.state.read(STATUS), 0);
}

#[test]
fn queues_that_do_not_exist_read_as_absent_and_swallow_writes() {
    let mut guest = Guest::with_features();
    for select in [1, 2, u32::MAX] {
        guest.write(QUEUE_SELECT, select);
        guest.write(QUEUE_READY, 1);
        assert_eq!((guest.state.read(QUEUE_SIZE_MAX), guest.state.read(QUEUE_READY)), (0, 0));
    }
    assert_eq!(guest.state.read(*SHARED_MEMORY.start()), u32::MAX);
}

#[test]
fn a_driver_that_gave_up_can_only_reset() {
    let mut guest = Guest::with_features();
    assert_eq!(guest.status(0xb | FAILED), 0xb | FAILED);
    guest.place_queue(0x1000);
    assert_eq!(guest.status(0xf | FAILED), 0xb | FAILED);
    assert_eq!(guest.state.read(QUEUE_READY), 0);
    assert_eq!(guest.write(STATUS, 0), Access::Reset);
}

proptest::proptest! {
    /// Whatever a guest writes, in whatever order: no panic, no skipped step, queues of a running device
    /// never change, and a running device's queues lie in memory.
    #[test]
    fn no_sequence_of_writes_breaks_the_rules(
        writes in proptest::collection::vec((register(), value()), 0..200),
    ) {
        use virtio_queue::QueueT;
        let mut guest = Guest::new();
        for (offset, value) in writes {
            let before = guest.state.is_active().then(|| guest.state.queues[0].state());
            match guest.write(offset, value) {
                Access::Reset => guest.state.reset(),
                Access::Activated => {
                    let queue = &guest.state.queues[0];
                    assert!(!queue.ready() || queue.is_valid(&guest.memory));
                }
                Access::Done | Access::Broken => {}
            }
            if let Some(before) = before.filter(|_| guest.state.is_active()) {
                assert_eq!(guest.state.queues[0].state(), before);
            }
            let status = guest.state.read(STATUS);
            for (step, needs) in [(DRIVER, ACKNOWLEDGE), (FEATURES_OK, DRIVER), (DRIVER_OK, FEATURES_OK)] {
                assert!(status & step == 0 || status & needs != 0, "{status:#x}");
            }
            for offset in (0..=0x110).step_by(4) {
                guest.state.read(offset);
            }
        }
    }
}

fn register() -> impl proptest::strategy::Strategy<Value = u64> {
    use proptest::prelude::*;
    // The status register often: it is the way to everything else.
    prop_oneof![3 => Just(STATUS), 5 => (0_u64..0x44).prop_map(|index| index * 4), 1 => any::<u64>()]
}

fn value() -> impl proptest::strategy::Strategy<Value = u32> {
    use proptest::prelude::*;
    prop_oneof![
        4 => proptest::sample::select(vec![0, 1, 3, 0xb, 0xf]),
        2 => (0_u32..0x40).prop_map(|page| page << 12),
        1 => any::<u32>(),
    ]
}
