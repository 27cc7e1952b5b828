//! Every count, size and time of the vsock device.
//!
//! A limit that a user may want to move is a field of [`VsockConfig`](super::VsockConfig) with its default
//! here; the rest is fixed by the protocol or by what one turn of the event loop may cost.

use std::time::Duration;

/// Connections at once, both directions together, those that only wait for the host to read included.
pub const CONNECTIONS_MAX: usize = 1024;

/// Bytes from the guest that one connection holds for a host program that does not read. This is the
/// `buf_alloc` the guest is told, so a guest that obeys the protocol never meets the limit by surprise.
pub const CONNECTION_BUFFER_BYTES: u32 = 256 * 1024;

/// Payload of one packet, as in Linux (`VIRTIO_VSOCK_MAX_PKT_BUF_SIZE`).
pub const PACKET_BYTES_MAX: u32 = 64 * 1024;

/// Descriptors of one packet. More than the driver of any guest uses; as many as one system call takes.
pub const SEGMENTS_MAX: usize = 1024;

/// Size of each virtqueue, in descriptors, where the device has a say in it.
pub const QUEUE_SIZE: u16 = 256;

/// Resets owed to ports that have no connection. At the limit the guest's packets stay in its own queue
/// until it takes resets out.
pub const RESETS_MAX: usize = 256;

/// Connects that wait for the device's thread.
pub const CONNECTS_WAITING_MAX: usize = CONNECTIONS_MAX;

/// Packets of each direction in one turn of the event loop, so that one busy guest queue does not starve
/// the other one, the timers or the host side.
pub const TURN_PACKETS_MAX: usize = 256;

/// Host descriptors looked at in one turn of the event loop.
pub const TURN_EVENTS_MAX: usize = 64;

/// From the shutdown of both directions to a reset, when the guest does not answer.
pub const SHUTDOWN_TIMEOUT: Duration = Duration::from_secs(2);

/// First port given to connections that the host opens; below live the ports of listeners.
pub const HOST_PORT_FIRST: u32 = 1 << 30;

/// First port that is not given to connections that the host opens.
pub const HOST_PORT_END: u32 = 1 << 31;

const _: () = assert!(CONNECTION_BUFFER_BYTES >= PACKET_BYTES_MAX, "one packet must fit the buffer");
const _: () = assert!(SEGMENTS_MAX <= 1024, "sendmsg takes at most UIO_MAXIOV segments");
const _: () = assert!((HOST_PORT_END - HOST_PORT_FIRST) as usize > CONNECTIONS_MAX, "a free port must exist");
