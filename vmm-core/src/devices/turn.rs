//! One turn of a simple device over one queue, bounded.
//!
//! It must never: loop for as long as the guest likes, or look at a chain that does not lie in guest
//! memory.

use virtio_queue::{QueueT, Reader, Writer};

use super::Vring;
use crate::memory::GuestMemory;

/// Requests served before other events have their turn.
pub(crate) const TURN_REQUESTS_MAX: usize = 64;

/// Why a queue was left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use = "what is left over has to be come back to"]
pub(crate) enum Left {
    /// The queue is empty; the guest's next kick brings it on.
    Empty,
    /// The turn is over, there may be more.
    More,
}

/// Serves the chains of `vring`: `serve` reads the first part, writes the second, and returns how many
/// bytes it wrote. A chain outside guest memory is given back unserved.
pub(crate) fn serve(
    memory: &GuestMemory,
    vring: &mut Vring<'_>,
    mut serve: impl FnMut(&mut Reader<'_>, &mut Writer<'_>) -> u32,
) -> Left {
    if !vring.queue.ready() {
        return Left::Empty;
    }
    let mut budget = TURN_REQUESTS_MAX;
    let left = loop {
        let before = budget;
        let _ = vring.queue.disable_notification(memory);
        while budget > 0
            && let Some(chain) = vring.queue.pop_descriptor_chain(memory)
        {
            budget -= 1;
            let head = chain.head_index();
            let written = match (chain.clone().reader(memory), chain.writer(memory)) {
                (Ok(mut reader), Ok(mut writer)) => serve(&mut reader, &mut writer),
                _ => 0,
            };
            // Fails only if the guest's ring lies outside its memory: then the guest hurts itself alone.
            let _ = vring.queue.add_used(memory, head, written);
        }
        if budget == 0 {
            break Left::More;
        }
        // A ring that claims more and yields nothing is broken; its owner may kick it again.
        let more = vring.queue.enable_notification(memory).unwrap_or(false);
        if !more || budget == before {
            break Left::Empty;
        }
    };
    if budget < TURN_REQUESTS_MAX {
        vring.signal_used(memory);
    }
    left
}

/// Answers a read of configuration space from `config`; bytes beyond it are zero.
pub(crate) fn read_config(config: &[u8], offset: u32, data: &mut [u8]) {
    let known = usize::try_from(offset).ok().and_then(|offset| config.get(offset..)).unwrap_or_default();
    for (to, from) in data.iter_mut().zip(known.iter().chain(std::iter::repeat(&0))) {
        *to = *from;
    }
}
