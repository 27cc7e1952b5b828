//! What each vhost-user message does to the device and its rings.
//!
//! Written after the vhost-user specification of QEMU (docs/interop/vhost-user.rst). It must never offer
//! a protocol feature whose messages are refused below.

use std::fs::File;
use std::io;

use vhost::vhost_user::message::{
    VhostTransferStateDirection, VhostTransferStatePhase, VhostUserConfigFlags, VhostUserInflight,
    VhostUserLog, VhostUserMemoryRegion, VhostUserProtocolFeatures, VhostUserShMemConfig, VhostUserSharedMsg,
    VhostUserSingleMemoryRegion, VhostUserVirtioFeatures, VhostUserVringAddrFlags, VhostUserVringState,
};
use vhost::vhost_user::{Error, GpuBackend, Result, VhostUserBackendReqHandlerMut};
use virtio_bindings::bindings::virtio_ring::VIRTIO_RING_F_EVENT_IDX;
use virtio_queue::QueueT;
use vm_memory::{GuestAddress, GuestRegionMmap};

use super::event_loop::Watch;
use super::rings::{Ring, with_vrings};
use crate::devices::Device;
use crate::memory::GuestMemory;

/// Largest configuration space answered in one `GET_CONFIG` (`VHOST_USER_MAX_CONFIG_SIZE`), in bytes.
const CONFIG_BYTES_MAX: u32 = 256;

/// One region of the VMM's own address space that holds guest memory.
struct Mapping {
    vmm_start: u64,
    bytes: u64,
    guest_start: u64,
}

/// The device with everything the VMM said about it.
pub(super) struct State {
    pub(super) device: Box<dyn Device>,
    pub(super) rings: Vec<Ring>,
    pub(super) memory: GuestMemory,
    mappings: Vec<Mapping>,
    /// Accepted feature bits, the protocol's own bit included.
    features: u64,
    watch: Watch,
}

impl State {
    pub(super) fn new(device: Box<dyn Device>, watch: Watch) -> io::Result<Self> {
        let rings = device.queue_sizes().iter().map(|&size| Ring::new(size));
        let rings = rings.collect::<std::result::Result<Vec<_>, _>>().map_err(io::Error::other)?;
        let memory = GuestMemory::default();
        Ok(Self { device, rings, memory, mappings: Vec::new(), features: 0, watch })
    }

    /// The guest kicked ring `index`, or the ring has just become active.
    pub(super) fn queue_event(&mut self, index: usize) {
        let Self { device, rings, memory, .. } = self;
        if rings.get(index).is_some_and(Ring::is_active) {
            with_vrings(rings, |vrings| device.queue_event(index, memory, vrings));
        }
    }

    /// The device's own descriptor became readable.
    pub(super) fn host_event(&mut self) {
        let Self { device, rings, memory, .. } = self;
        // A message earlier in the same batch of events may have stopped the last ring.
        if !rings.iter().any(Ring::is_active) {
            return;
        }
        with_vrings(rings, |vrings| device.host_event(memory, vrings));
    }

    fn ring(&mut self, index: u32) -> Result<&mut Ring> {
        usize::try_from(index).ok().and_then(|index| self.rings.get_mut(index)).ok_or(Error::InvalidParam)
    }

    /// Brings the queue's `ready` flag and the watched descriptors in line with the ring's state.
    fn update(&mut self, index: u32) -> Result<()> {
        let watch = self.watch.clone();
        let ring = self.ring(index)?;
        let active = ring.is_active();
        ring.queue.set_ready(active);
        let mut started = false;
        if let Some(kick) = ring.kick.as_ref()
            && active != ring.watched
        {
            if active {
                watch.add_ring(kick, index).map_err(Error::ReqHandlerError)?;
                started = true;
            } else {
                watch.remove(kick);
            }
        }
        ring.watched = active;
        self.watch_host().map_err(Error::ReqHandlerError)?;
        if started {
            // Buffers may have been offered before the kick descriptor was watched.
            self.queue_event(usize::try_from(index).unwrap_or(usize::MAX));
        }
        Ok(())
    }

    /// The device's own descriptor is watched only while a ring is active: a device that may not be
    /// called cannot make its descriptor unreadable again, and the loop would spin.
    fn watch_host(&mut self) -> io::Result<()> {
        let active = self.rings.iter().any(Ring::is_active);
        match self.device.host_fd() {
            Some(fd) => self.watch.set_host(fd, active),
            None => Ok(()),
        }
    }

    /// The driver is gone: the device forgets its connections and what was negotiated.
    fn reset_driver(&mut self) {
        self.device.reset();
        for ring in &mut self.rings {
            ring.stopped_at = None;
        }
    }

    /// Stops everything; the end of a session.
    pub(super) fn shut_down(&mut self) {
        for ring in &mut self.rings {
            if let (Some(kick), true) = (ring.kick.as_ref(), ring.watched) {
                self.watch.remove(kick);
            }
            ring.reset();
        }
        let _ = self.watch_host();
        self.device.reset();
    }

    fn translate(&self, vmm_address: u64) -> Result<GuestAddress> {
        self.mappings
            .iter()
            .find_map(|mapping| {
                let offset = vmm_address.checked_sub(mapping.vmm_start)?;
                (offset < mapping.bytes).then(|| mapping.guest_start.checked_add(offset))?
            })
            .map(GuestAddress)
            .ok_or(Error::InvalidParam)
    }

    /// Bits that belong to the device; bit 30 is the transport's.
    fn device_features(&self) -> u64 {
        self.features & self.device.features()
    }
}

impl VhostUserBackendReqHandlerMut for State {
    fn set_owner(&mut self) -> Result<()> {
        Ok(())
    }

    fn reset_owner(&mut self) -> Result<()> {
        self.shut_down();
        self.features = 0;
        Ok(())
    }

    fn reset_device(&mut self) -> Result<()> {
        self.shut_down();
        Ok(())
    }

    fn get_features(&mut self) -> Result<u64> {
        Ok(self.device.features() | VhostUserVirtioFeatures::PROTOCOL_FEATURES.bits())
    }

    fn set_features(&mut self, features: u64) -> Result<()> {
        let protocol = VhostUserVirtioFeatures::PROTOCOL_FEATURES.bits();
        if features & !(self.device.features() | protocol) != 0 {
            return Err(Error::FeatureMismatch);
        }
        self.features = features;
        self.device.acknowledge(self.device_features());
        let event_idx = features & (1 << VIRTIO_RING_F_EVENT_IDX) != 0;
        for ring in &mut self.rings {
            ring.queue.set_event_idx(event_idx);
            // "If VHOST_USER_F_PROTOCOL_FEATURES has not been negotiated, the ring starts directly in
            // the enabled state."
            ring.enabled |= features & protocol == 0;
        }
        Ok(())
    }

    fn set_mem_table(&mut self, regions: &[VhostUserMemoryRegion], files: Vec<File>) -> Result<()> {
        let mut mapped = Vec::with_capacity(regions.len());
        let mut mappings = Vec::with_capacity(regions.len());
        for (region, file) in regions.iter().zip(files) {
            let memory = region.mmap_region(file)?;
            let start = GuestAddress(region.guest_phys_addr);
            mapped.push(GuestRegionMmap::new(memory, start).ok_or(Error::InvalidParam)?);
            mappings.push(Mapping {
                vmm_start: region.user_addr,
                bytes: region.memory_size,
                guest_start: region.guest_phys_addr,
            });
        }
        self.memory = GuestMemory::from_regions(mapped)
            .map_err(|error| Error::ReqHandlerError(io::Error::other(error)))?;
        self.mappings = mappings;
        Ok(())
    }

    fn set_vring_num(&mut self, index: u32, size: u32) -> Result<()> {
        let ring = self.ring(index)?;
        if ring.queue.ready() {
            // A size that changes under a running ring is how CVE-2026-5747 read out of bounds.
            return Err(Error::InvalidOperation("the ring is running, stop it before changing its size"));
        }
        let size = u16::try_from(size).map_err(|_| Error::InvalidParam)?;
        ring.queue.try_set_size(size).map_err(|_| Error::InvalidParam)
    }

    fn set_vring_addr(
        &mut self,
        index: u32,
        _flags: VhostUserVringAddrFlags,
        descriptor: u64,
        used: u64,
        available: u64,
        _log: u64,
    ) -> Result<()> {
        let (descriptor, available, used) =
            (self.translate(descriptor)?, self.translate(available)?, self.translate(used)?);
        let memory = self.memory.clone();
        let queue = &mut self.ring(index)?.queue;
        queue.try_set_desc_table_address(descriptor).map_err(|_| Error::InvalidParam)?;
        queue.try_set_avail_ring_address(available).map_err(|_| Error::InvalidParam)?;
        queue.try_set_used_ring_address(used).map_err(|_| Error::InvalidParam)?;
        // SET_VRING_BASE carries only the available position; the used one is where the ring says.
        let next_used =
            queue.used_idx(&memory, std::sync::atomic::Ordering::Acquire).map_err(|_| Error::InvalidParam)?;
        queue.set_next_used(next_used.0);
        Ok(())
    }

    fn set_vring_base(&mut self, index: u32, base: u32) -> Result<()> {
        let base = u16::try_from(base).map_err(|_| Error::InvalidParam)?;
        let ring = self.ring(index)?;
        // QEMU 7.2 has no message for "the driver reset the device". A ring that restarts elsewhere than
        // it stopped belongs to a new driver; one that continues was merely paused.
        if ring.stopped_at.take().is_some_and(|stopped_at| stopped_at != base) {
            self.reset_driver();
            self.device.acknowledge(self.device_features());
        }
        self.ring(index)?.queue.set_next_avail(base);
        Ok(())
    }

    fn get_vring_base(&mut self, index: u32) -> Result<VhostUserVringState> {
        let watch = self.watch.clone();
        let ring = self.ring(index)?;
        if let (Some(kick), true) = (ring.kick.as_ref(), ring.watched) {
            watch.remove(kick);
        }
        ring.watched = false;
        ring.kick = None;
        ring.call = None;
        ring.queue.set_ready(false);
        let next_avail = ring.queue.next_avail();
        ring.stopped_at = Some(next_avail);
        self.watch_host().map_err(Error::ReqHandlerError)?;
        Ok(VhostUserVringState::new(index, u32::from(next_avail)))
    }

    fn set_vring_kick(&mut self, index: u8, file: Option<File>) -> Result<()> {
        let index = u32::from(index);
        // Polling mode ("no descriptor") would leave the ring silent for ever.
        let file = file.ok_or(Error::InvalidOperation("a ring without a kick descriptor is not served"))?;
        let watch = self.watch.clone();
        let ring = self.ring(index)?;
        if let (Some(old), true) = (ring.kick.as_ref(), ring.watched) {
            watch.remove(old);
        }
        ring.watched = false;
        ring.kick = Some(file);
        self.update(index)
    }

    fn set_vring_call(&mut self, index: u8, file: Option<File>) -> Result<()> {
        let ring = self.ring(u32::from(index))?;
        ring.call = file;
        if ring.is_active() {
            // Whatever was signalled to the old descriptor may have been lost; one interrupt too many
            // is legal.
            ring.interrupt();
        }
        Ok(())
    }

    fn set_vring_err(&mut self, index: u8, _file: Option<File>) -> Result<()> {
        self.ring(u32::from(index)).map(|_| ())
    }

    fn get_protocol_features(&mut self) -> Result<VhostUserProtocolFeatures> {
        Ok(VhostUserProtocolFeatures::CONFIG
            | VhostUserProtocolFeatures::MQ
            | VhostUserProtocolFeatures::REPLY_ACK
            | VhostUserProtocolFeatures::RESET_DEVICE)
    }

    fn set_protocol_features(&mut self, _features: u64) -> Result<()> {
        Ok(())
    }

    fn get_queue_num(&mut self) -> Result<u64> {
        u64::try_from(self.rings.len()).map_err(|_| Error::BackendInternalError)
    }

    fn set_vring_enable(&mut self, index: u32, enable: bool) -> Result<()> {
        self.ring(index)?.enabled = enable;
        self.update(index)
    }

    fn get_config(&mut self, offset: u32, size: u32, _flags: VhostUserConfigFlags) -> Result<Vec<u8>> {
        let bytes = usize::try_from(size.min(CONFIG_BYTES_MAX)).map_err(|_| Error::InvalidParam)?;
        let mut config = vec![0; bytes];
        self.device.read_config(offset, &mut config);
        Ok(config)
    }

    fn set_config(&mut self, offset: u32, data: &[u8], _flags: VhostUserConfigFlags) -> Result<()> {
        self.device.write_config(offset, data);
        Ok(())
    }

    fn set_gpu_socket(&mut self, _backend: GpuBackend) -> Result<()> {
        Err(NOT_OFFERED)
    }

    fn get_shared_object(&mut self, _uuid: VhostUserSharedMsg) -> Result<File> {
        Err(NOT_OFFERED)
    }

    fn get_inflight_fd(&mut self, _inflight: &VhostUserInflight) -> Result<(VhostUserInflight, File)> {
        Err(NOT_OFFERED)
    }

    fn set_inflight_fd(&mut self, _inflight: &VhostUserInflight, _file: File) -> Result<()> {
        Err(NOT_OFFERED)
    }

    fn get_max_mem_slots(&mut self) -> Result<u64> {
        Err(NOT_OFFERED)
    }

    fn add_mem_region(&mut self, _region: &VhostUserSingleMemoryRegion, _file: File) -> Result<()> {
        Err(NOT_OFFERED)
    }

    fn remove_mem_region(&mut self, _region: &VhostUserSingleMemoryRegion) -> Result<()> {
        Err(NOT_OFFERED)
    }

    fn set_device_state_fd(
        &mut self,
        _direction: VhostTransferStateDirection,
        _phase: VhostTransferStatePhase,
        _file: File,
    ) -> Result<Option<File>> {
        Err(NOT_OFFERED)
    }

    fn check_device_state(&mut self) -> Result<()> {
        Err(NOT_OFFERED)
    }

    fn get_shmem_config(&mut self) -> Result<VhostUserShMemConfig> {
        Err(NOT_OFFERED)
    }

    fn set_log_base(&mut self, _log: &VhostUserLog, _file: File) -> Result<()> {
        Err(NOT_OFFERED)
    }
}

/// The message belongs to a feature that was never offered.
const NOT_OFFERED: Error = Error::InvalidOperation("the message belongs to a feature that was not offered");
