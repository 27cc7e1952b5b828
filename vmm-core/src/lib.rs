//! A microVM as a library: KVM, a Linux guest, virtio devices, and the same devices over vhost-user.

pub mod devices;
#[cfg(target_arch = "x86_64")]
pub mod host_tsc;
pub mod memory;
#[cfg(feature = "vhost-user")]
pub mod vhost_user;
