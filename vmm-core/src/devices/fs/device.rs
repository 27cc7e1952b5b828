//! The virtio side: queues, configuration space, and nothing about files.

use std::os::fd::{AsFd, BorrowedFd};

use rustix::event::{EventfdFlags, eventfd};
use rustix::fd::OwnedFd;
use virtio_bindings::virtio_config::VIRTIO_F_VERSION_1;
use virtio_bindings::virtio_ring::{VIRTIO_RING_F_EVENT_IDX, VIRTIO_RING_F_INDIRECT_DESC};
use virtio_queue::QueueT;

use super::TAG;
use super::buffers::Buffers;
use super::identity::Owners;
use super::limits::{
    DIRECTORY_FDS_MAX, DIRECTORY_FDS_MIN, HANDLES_MAX, HANDLES_MIN, QUEUE_DESCRIPTORS_MAX,
    REQUESTS_PER_SIGNAL_MAX, REQUESTS_PER_TURN_MAX,
};
use super::server::{Budget, Server};
use super::tree::{FsError, Share, Tree};
use crate::devices::{Device, Vring};
use crate::host_path::Reopen;
use crate::memory::GuestMemory;

/// Device id of virtio 1.2 §5.11.
const ID: u32 = 26;
/// Length of the tag in configuration space, in bytes.
const TAG_BYTES: usize = 36;
/// The urgent queue (FORGET) and one request queue.
const QUEUE_SIZES: [u16; 2] = [QUEUE_DESCRIPTORS_MAX; 2];

/// What to export.
#[derive(Debug, Default)]
pub struct FsConfig {
    /// The shares, each at its own place.
    pub shares: Vec<Share>,
}

/// The device. Made by [`new`].
#[derive(Debug)]
pub struct Fs {
    server: Server,
    /// Made readable when requests were left over at the end of a turn.
    more: OwnedFd,
}

/// Makes a device that exports `config.shares`.
///
/// Raise the soft limit on open files before: half of it is for files that the guest holds open, a
/// quarter for directory descriptors. The device must be served by the process that made it (it holds
/// that process's `/proc/self/fd`), and may be jailed after it was made, as long as files beneath the
/// shares can still be opened.
///
/// # Errors
/// Everything that is wrong with the shares; see [`FsError`].
pub fn new(config: FsConfig) -> Result<Fs, FsError> {
    let prepare = |errno: rustix::io::Errno| FsError::Prepare(errno.into());
    let reopen = Reopen::new().map_err(prepare)?;
    let more = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK).map_err(prepare)?;
    let tree = Tree::build(config.shares)?;
    let server = Server::new(tree, reopen, Owners::of_this_process(), budget());
    Ok(Fs { server, more })
}

fn budget() -> Budget {
    use rustix::process::{Resource, getrlimit};
    let fds = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
    let fds = usize::try_from(fds).unwrap_or(usize::MAX);
    Budget {
        handles: (fds / 2).clamp(HANDLES_MIN, HANDLES_MAX),
        directory_fds: (fds / 4).clamp(DIRECTORY_FDS_MIN, DIRECTORY_FDS_MAX),
        file_bytes: getrlimit(Resource::Fsize).current.unwrap_or(u64::MAX).min(i64::MAX.unsigned_abs()),
    }
}

impl Fs {
    /// Serves what is in the queue, a bounded number of requests. Returns whether some may be left.
    fn turn(&mut self, memory: &GuestMemory, vring: &mut Vring<'_>) -> bool {
        let mut unsignalled = 0_usize;
        let mut looked_again = false;
        for _ in 0..REQUESTS_PER_TURN_MAX {
            let Some(chain) = vring.queue.pop_descriptor_chain(memory) else {
                vring.signal_used(memory);
                // Kicks were off; look once more after switching them on, or one is lost. Once only: a
                // ring whose index is nonsense looks full and yields nothing, for ever.
                if looked_again || !vring.queue.enable_notification(memory).unwrap_or(false) {
                    return false;
                }
                looked_again = true;
                continue;
            };
            looked_again = false;
            let _ = vring.queue.disable_notification(memory);
            let head = chain.head_index();
            // A malformed chain is given back unanswered.
            let written = Buffers::from_chain(chain, memory).map_or(0, |buffers| self.server.serve(&buffers));
            if vring.queue.add_used(memory, head, u32::try_from(written).unwrap_or(0)).is_err() {
                // The used ring is not in guest memory: this queue is of no more use.
                return false;
            }
            unsignalled = unsignalled.saturating_add(1);
            if unsignalled >= REQUESTS_PER_SIGNAL_MAX {
                vring.signal_used(memory);
                unsignalled = 0;
            }
        }
        vring.signal_used(memory);
        true
    }
}

impl Device for Fs {
    fn id(&self) -> u32 {
        ID
    }

    fn queue_sizes(&self) -> &[u16] {
        &QUEUE_SIZES
    }

    fn features(&self) -> u64 {
        (1 << VIRTIO_F_VERSION_1) | (1 << VIRTIO_RING_F_INDIRECT_DESC) | (1 << VIRTIO_RING_F_EVENT_IDX)
    }

    fn acknowledge(&mut self, _features: u64) {}

    fn read_config(&self, offset: u32, data: &mut [u8]) {
        // struct virtio_fs_config: tag, then the number of request queues.
        let mut config = [0; TAG_BYTES + 4];
        let fields = TAG.bytes().chain(std::iter::repeat(0)).take(TAG_BYTES).chain(1_u32.to_le_bytes());
        config.iter_mut().zip(fields).for_each(|(to, from)| *to = from);
        let start = usize::try_from(offset).unwrap_or(usize::MAX);
        let rest = config.get(start..).unwrap_or_default();
        let bytes = rest.iter().copied().chain(std::iter::repeat(0));
        data.iter_mut().zip(bytes).for_each(|(to, from)| *to = from);
    }

    fn queue_event(&mut self, index: usize, memory: &GuestMemory, vrings: &mut [Vring<'_>]) {
        let Some(vring) = vrings.get_mut(index).filter(|vring| vring.queue.ready()) else { return };
        if self.turn(memory, vring) {
            // A full counter means that the next turn is due anyway.
            let _ = rustix::io::write(&self.more, &1_u64.to_ne_bytes());
        }
    }

    fn host_fd(&self) -> Option<BorrowedFd<'_>> {
        Some(self.more.as_fd())
    }

    fn host_event(&mut self, memory: &GuestMemory, vrings: &mut [Vring<'_>]) {
        let _ = rustix::io::read(&self.more, &mut [0; 8]);
        for index in 0..vrings.len() {
            self.queue_event(index, memory, vrings);
        }
    }

    fn reset(&mut self) {
        self.server.reset();
        let _ = rustix::io::read(&self.more, &mut [0; 8]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn configuration_space_is_tag_and_queue_count() {
        let fs = new(FsConfig::default()).unwrap();
        let mut config = [0xff; 64];
        fs.read_config(0, &mut config);
        assert_eq!(&config[..8], b"sandbox\0");
        assert_eq!(config[8..36], [0; 28]);
        assert_eq!(config[36..40], [1, 0, 0, 0]);
        assert_eq!(config[40..], [0; 24]);
        let mut part = [0xff; 2];
        fs.read_config(35, &mut part);
        assert_eq!(part, [0, 1]);
        fs.read_config(u32::MAX, &mut part);
        assert_eq!(part, [0, 0]);
    }
}
