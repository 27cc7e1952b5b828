use super::*;
use crate::devices::Device;
use crate::devices::driver::{Driver, Part};
use crate::devices::turn::TURN_REQUESTS_MAX;

#[test]
fn a_buffer_is_filled_with_bytes_that_differ() {
    let mut rng = Rng::new().unwrap();
    let mut driver = Driver::new(&rng);
    let first = driver.offer(0, &[Part::In(24), Part::In(40)]);
    let second = driver.offer(0, &[Part::In(64)]);
    driver.kick(&mut rng, 0);
    assert_eq!(driver.used(0), [64, 64]);
    assert_ne!(driver.read(first), vec![0; 64]);
    assert_ne!(driver.read(first), driver.read(second));
    assert!(driver.interrupts.get() > 0);
}

#[test]
fn a_request_gets_at_most_its_limit() {
    let mut rng = Rng::new().unwrap();
    let mut driver = Driver::new(&rng);
    let most = u32::try_from(REQUEST_BYTES_MAX).unwrap();
    driver.offer(0, &[Part::In(most)]);
    let longer = driver.offer(0, &[Part::In(most), Part::In(16)]);
    driver.kick(&mut rng, 0);
    assert_eq!(driver.used(0), [most, most]);
    assert!(driver.read(longer).ends_with(&[0; 16]));
}

#[test]
fn buffers_outside_memory_and_empty_chains_are_given_back_unfilled() {
    let mut rng = Rng::new().unwrap();
    let mut driver = Driver::new(&rng);
    driver.offer(0, &[Part::At(1 << 40, 16)]);
    driver.offer(0, &[Part::At((16 << 20) - 8, 16)]);
    driver.offer(0, &[Part::Out(b"read me")]);
    driver.kick(&mut rng, 0);
    assert_eq!(driver.used(0), [0, 0, 0]);
}

#[test]
fn a_full_queue_takes_one_turn_and_a_device_without_a_ready_queue_does_nothing() {
    let mut rng = Rng::new().unwrap();
    let mut driver = Driver::new(&rng);
    for _ in 0..TURN_REQUESTS_MAX {
        driver.offer(0, &[Part::In(1)]);
    }
    driver.kick(&mut rng, 0);
    assert_eq!(driver.used(0).len(), TURN_REQUESTS_MAX);
    // The turn ended with the budget, so the device has woken itself and finds nothing more.
    driver.host_event(&mut rng);
    assert!(driver.used(0).is_empty());
    rng.reset();
}
