//! The device: a queue of buffers for input, a queue of output.

use std::fmt;
use std::io::{self, Read, Write};
use std::os::fd::BorrowedFd;

use virtio_bindings::virtio_config::VIRTIO_F_VERSION_1;
use virtio_bindings::virtio_ids::VIRTIO_ID_CONSOLE;
use virtio_bindings::virtio_ring::{VIRTIO_RING_F_EVENT_IDX, VIRTIO_RING_F_INDIRECT_DESC};
use virtio_queue::{QueueT, Reader};

use super::input::ConsoleInput;
use crate::devices::turn::{self, Left};
use crate::devices::{Device, Vring};
use crate::memory::GuestMemory;

/// Receive and transmit queue of port 0 (§5.3.2).
const QUEUE_SIZES: [u16; 2] = [64; 2];
/// Output taken from the guest at once.
const CHUNK_BYTES: usize = 4096;
/// Output looked at per request; a longer buffer is cut. Linux writes a page at a time.
const OUTPUT_BYTES_MAX: usize = 64 * 1024;
/// Receive buffers filled before other events have their turn.
const RECEIVES_MAX: usize = 64;

/// The console device.
pub struct Console {
    output: Box<dyn Write + Send>,
    input: ConsoleInput,
}

impl Console {
    /// Makes a console that writes to `output`, and the handle that types into it.
    ///
    /// `output` is called from the device's thread. One that fails loses what is written; one that blocks
    /// holds up the guest's console, and one that blocks for ever keeps the end of the guest from being
    /// waited for.
    ///
    /// # Errors
    /// Those of `eventfd(2)`.
    pub fn new(output: impl Write + Send + 'static) -> io::Result<(Self, ConsoleInput)> {
        let input = ConsoleInput::new()?;
        Ok((Self { output: Box::new(output), input: input.clone() }, input))
    }

    fn transmit(&mut self, memory: &GuestMemory, vring: &mut Vring<'_>) {
        let output = &mut self.output;
        let left = turn::serve(memory, vring, |reader, _| {
            write_out(reader, output);
            0
        });
        if left == Left::More {
            self.input.wake();
        }
    }

    /// Moves waiting input into the guest's buffers, one at a time: a buffer without input is not taken.
    fn receive(&mut self, memory: &GuestMemory, vring: &mut Vring<'_>) {
        if !vring.queue.ready() {
            return;
        }
        let mut waiting = self.input.waiting();
        let mut asked = false;
        let mut used = false;
        for _ in 0..RECEIVES_MAX {
            if waiting.is_empty() {
                break;
            }
            let Some(chain) = vring.queue.pop_descriptor_chain(memory) else {
                // Out of buffers: ask for a kick, and look once more in case they came meanwhile.
                if asked || !vring.queue.enable_notification(memory).unwrap_or(false) {
                    break;
                }
                asked = true;
                continue;
            };
            let head = chain.head_index();
            let mut written = 0;
            if let Ok(mut writer) = chain.writer(memory) {
                // The front part; what is behind the buffer's wrap comes with the next chain.
                written = writer.write(waiting.as_slices().0).unwrap_or(0).min(waiting.len());
                waiting.drain(..written);
            }
            let _ = vring.queue.add_used(memory, head, u32::try_from(written).unwrap_or_default());
            used = true;
        }
        let more = !waiting.is_empty() && used && !asked;
        drop(waiting);
        if used {
            vring.signal_used(memory);
        }
        if more {
            self.input.wake();
        }
    }
}

fn write_out(reader: &mut Reader<'_>, output: &mut dyn Write) {
    let mut chunk = [0; CHUNK_BYTES];
    let mut left = reader.available_bytes().min(OUTPUT_BYTES_MAX);
    while left > 0 {
        let Some(part) = chunk.get_mut(..left.min(CHUNK_BYTES)) else { return };
        if reader.read_exact(part).is_err() {
            return;
        }
        left -= part.len();
        // A listener that is gone loses the output; the guest goes on.
        let _ = output.write_all(part);
    }
    let _ = output.flush();
}

impl Device for Console {
    fn id(&self) -> u32 {
        VIRTIO_ID_CONSOLE
    }

    fn queue_sizes(&self) -> &[u16] {
        &QUEUE_SIZES
    }

    fn features(&self) -> u64 {
        1 << VIRTIO_F_VERSION_1 | 1 << VIRTIO_RING_F_EVENT_IDX | 1 << VIRTIO_RING_F_INDIRECT_DESC
    }

    fn acknowledge(&mut self, _features: u64) {}

    fn read_config(&self, offset: u32, data: &mut [u8]) {
        turn::read_config(&[], offset, data);
    }

    fn queue_event(&mut self, index: usize, memory: &GuestMemory, vrings: &mut [Vring<'_>]) {
        let [receive, transmit] = vrings else { return };
        if index == 0 {
            self.receive(memory, receive);
        } else {
            self.transmit(memory, transmit);
        }
    }

    fn host_fd(&self) -> Option<BorrowedFd<'_>> {
        Some(self.input.fd())
    }

    fn host_event(&mut self, memory: &GuestMemory, vrings: &mut [Vring<'_>]) {
        self.input.drain_event();
        let [receive, transmit] = vrings else { return };
        self.receive(memory, receive);
        self.transmit(memory, transmit);
    }

    fn reset(&mut self) {
        self.input.waiting().clear();
        self.input.drain_event();
    }
}

impl fmt::Debug for Console {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Console").field("input", &self.input).finish_non_exhaustive()
    }
}
