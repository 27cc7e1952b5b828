//! What runs inside the guest. Linux only, threads and blocking calls, no async runtime.
//!
//! ```text
//! boot      early mounts → modules → lo → control connection → Configure → new root → services → Ready
//! exec/     one connection, one thread, one program
//! proxy_end 127.0.0.1:3128 → vsock 3128       dns_end 127.0.0.1:53 → vsock 53
//! transparent/   TCP to any address that is not the guest's → vsock 3128
//! reaper    PID 1's main thread: orphans only
//! ```
//!
//! Every service takes a plain stream socket, or a function that makes one, so all of it runs on the host in tests.
//! A vsock connection is held as a [`UnixStream`]: what is asked of it (read, write, shutdown, timeouts) is the
//! same for every stream socket.

mod accept;
pub mod boot;
pub mod dns_end;
pub mod exec;
pub mod proxy_end;
mod reaper;
mod relay;
mod slots;
mod sys;
pub mod transparent;

use std::io;
use std::os::unix::net::UnixStream;
use std::sync::Arc;

/// Makes a fresh connection to one host port; in tests, to whatever the test likes.
pub type Connect = Arc<dyn Fn() -> io::Result<UnixStream> + Send + Sync>;

/// Starts a service thread with a small stack.
///
/// # Errors
/// No thread is to be had.
pub(crate) fn spawn_thread(name: &str, body: impl FnOnce() + Send + 'static) -> io::Result<()> {
    let builder = std::thread::Builder::new().name(name.to_owned());
    builder.stack_size(crate::limits::THREAD_STACK_BYTES).spawn(body).map(drop)
}
