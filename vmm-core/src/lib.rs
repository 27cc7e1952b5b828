//! A microVM as a library: KVM, a Linux guest, virtio devices, and the same devices over vhost-user.

pub mod devices;
pub mod memory;
