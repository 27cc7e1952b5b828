//! The device against a driver made of `virtio-queue`'s mock queues: every byte of a ring is in the
//! tests' hands, well-formed or not. No test waits for time; sockets report at once.

mod driver;
mod flow;
mod hostile;
mod wakeups;
