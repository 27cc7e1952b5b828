//! The few legacy ports that a kernel without PC hardware still touches.
//!
//! It must never answer 0xff where that means "busy": a kernel polls for a second (10,000s of exits).

use std::io::Write;
use std::sync::{Arc, Mutex, PoisonError};

use vm_superio::{Serial, Trigger};
use vmm_sys_util::eventfd::EventFd;

use super::layout;
use crate::bus::{Bus, Overlap, Region};
use crate::exit::{Exit, ExitReason};

/// Sleep control (ACPI 6.5 §4.8.3.7): write SLP_TYP in bits 2 to 4 with SLP_EN, bit 5, to sleep.
const SLEEP_ENABLE: u8 = 1 << 5;
/// The sleep type that the DSDT gives for S5, "soft off".
pub(crate) const SLEEP_TYPE_OFF: u8 = 5;

/// The i8042's command port, and the command that pulls the processor's reset line.
const I8042_COMMAND: u64 = 4;
const I8042_RESET: u8 = 0xfe;

/// Puts the ports in place; a serial port only where someone listens.
pub(crate) fn attach(bus: &mut Bus, exit: &Arc<Exit>, serial: Option<SerialPort>) -> Result<(), Overlap> {
    bus.add(layout::PORTS_CMOS, Arc::new(Cmos))?;
    bus.add(layout::PORTS_I8042, Arc::new(I8042(Arc::clone(exit))))?;
    bus.add(layout::PORTS_ACPI, Arc::new(Power(Arc::clone(exit))))?;
    match serial {
        Some(serial) => bus.add(layout::PORTS_SERIAL, Arc::new(serial)),
        None => Ok(()),
    }
}

/// A clock chip that is never "updating" and holds nothing: the guest's clock is kvm-clock.
struct Cmos;

impl Region for Cmos {
    fn read(&self, _offset: u64, data: &mut [u8]) {
        data.fill(0);
    }
    fn write(&self, _offset: u64, _data: &[u8]) {}
}

/// A keyboard controller that can do one thing: reset the machine.
struct I8042(Arc<Exit>);

impl Region for I8042 {
    /// Status 0: nothing to read, ready to be written to.
    fn read(&self, _offset: u64, data: &mut [u8]) {
        data.fill(0);
    }
    fn write(&self, offset: u64, data: &[u8]) {
        if offset == I8042_COMMAND && data == [I8042_RESET] {
            self.0.set(ExitReason::Reset);
        }
    }
}

/// ACPI sleep control and sleep status.
struct Power(Arc<Exit>);

impl Region for Power {
    fn read(&self, _offset: u64, data: &mut [u8]) {
        data.fill(0);
    }
    fn write(&self, offset: u64, data: &[u8]) {
        match (offset, data) {
            (0, [value]) if value & SLEEP_ENABLE != 0 && value >> 2 & 7 == SLEEP_TYPE_OFF => {
                self.0.set(ExitReason::PowerOff);
            }
            _ => {}
        }
    }
}

/// COM1, output only.
pub(crate) struct SerialPort(Mutex<Uart>);

type Uart = Serial<Interrupt, vm_superio::serial::NoEvents, Box<dyn Write + Send>>;

struct Interrupt(EventFd);

impl Trigger for Interrupt {
    type E = std::io::Error;
    fn trigger(&self) -> std::io::Result<()> {
        self.0.write(1)
    }
}

impl SerialPort {
    /// A UART that writes to `out` and announces "transmitter empty" through `interrupt`: without that
    /// interrupt, writes of user space to the console stall.
    pub(crate) fn new(interrupt: EventFd, out: Box<dyn Write + Send>) -> Self {
        Self(Mutex::new(Serial::new(Interrupt(interrupt), out)))
    }
}

impl Region for SerialPort {
    fn read(&self, offset: u64, data: &mut [u8]) {
        if let ([byte], Ok(offset)) = (data, u8::try_from(offset)) {
            *byte = self.0.lock().unwrap_or_else(PoisonError::into_inner).read(offset);
        }
    }
    fn write(&self, offset: u64, data: &[u8]) {
        if let ([byte], Ok(offset)) = (data, u8::try_from(offset)) {
            // A listener that is gone loses the output; the guest goes on.
            let _ = self.0.lock().unwrap_or_else(PoisonError::into_inner).write(offset, *byte);
        }
    }
}
