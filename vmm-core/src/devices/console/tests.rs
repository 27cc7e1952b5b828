use std::io::{self, Write};
use std::sync::{Arc, Mutex};

use super::*;
use crate::devices::Device;
use crate::devices::driver::{Driver, Part};

const RECEIVE: usize = 0;
const TRANSMIT: usize = 1;

#[derive(Clone, Default)]
struct Screen(Arc<Mutex<Vec<u8>>>);

impl Write for Screen {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend(bytes);
        Ok(bytes.len())
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn console() -> (Console, ConsoleInput, Driver, Screen) {
    let screen = Screen::default();
    let (console, input) = Console::new(screen.clone()).unwrap();
    let driver = Driver::new(&console);
    (console, input, driver, screen)
}

#[test]
fn output_arrives_in_order() {
    let (mut console, _, mut driver, screen) = console();
    driver.offer(TRANSMIT, &[Part::Out(b"hello, "), Part::Out(b"world")]);
    driver.offer(TRANSMIT, &[Part::Out(&[b'x'; 10_000])]);
    driver.kick(&mut console, TRANSMIT);
    assert_eq!(driver.used(TRANSMIT), [0, 0]);
    let text = screen.0.lock().unwrap().clone();
    assert!(text.starts_with(b"hello, worldxx"));
    assert_eq!(text.len(), 12 + 10_000);
}

#[test]
fn input_waits_for_buffers_and_buffers_wait_for_input() {
    let (mut console, input, mut driver, _) = console();
    let first = driver.offer(RECEIVE, &[Part::In(4)]);
    driver.kick(&mut console, RECEIVE);
    assert!(driver.used(RECEIVE).is_empty());
    assert_eq!(input.send(b"abcdef"), 6);
    driver.host_event(&mut console);
    assert_eq!(driver.used(RECEIVE), [4]);
    let second = driver.offer(RECEIVE, &[Part::In(4)]);
    driver.kick(&mut console, RECEIVE);
    assert_eq!(driver.used(RECEIVE), [2]);
    assert_eq!((driver.read(first), driver.read(second)), (b"abcd".to_vec(), b"ef\0\0".to_vec()));
}

#[test]
fn input_is_bounded_and_forgotten_at_reset() {
    let (mut console, input, _, _) = console();
    assert_eq!(input.send(&vec![0; INPUT_BYTES_MAX - 1]), INPUT_BYTES_MAX - 1);
    assert_eq!(input.send(b"ab"), 1);
    assert_eq!(input.send(b"c"), 0);
    console.reset();
    assert_eq!(input.send(b"c"), 1);
}

#[test]
fn a_receive_buffer_outside_memory_loses_no_input() {
    let (mut console, input, mut driver, _) = console();
    driver.offer(RECEIVE, &[Part::At(1 << 40, 4)]);
    let good = driver.offer(RECEIVE, &[Part::In(2)]);
    assert_eq!(input.send(b"ok"), 2);
    driver.host_event(&mut console);
    assert_eq!(driver.used(RECEIVE), [0, 2]);
    assert_eq!(driver.read(good), b"ok");
}
