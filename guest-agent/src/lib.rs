//! PID 1 of the guest, its protocol over vsock, and the host-side client.
