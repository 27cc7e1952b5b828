//! The protocol: plain functions over bytes, no I/O but the two helpers in [`io`].
//!
//! ```text
//! each side first:  Hello   "ASBX" newest:u16 oldest:u16          (big endian, 8 bytes)
//! then frames:      kind:u8 length:u32 payload                    (big endian)
//!
//! control   host → guest   Configure, Shutdown          guest → host   Ready | Refused
//! exec      host → guest   ExecRequest, Stdin, StdinEof, Signal, Resize
//!           guest → host   Started | Failed, Stdout, Stderr, StdinCredit, StdinClosed, Exited
//! ```
//!
//! Must never change a number or a field of a published generation; `schema/gen-1.json` freezes them.

mod base64;
mod bytes;
mod configure;
mod exec;
pub mod frame;
pub mod io;
mod version;

pub use bytes::Bytes;
pub use configure::{
    Configure, Directory, File, Mount, MountMode, Ready, Refused, Shutdown, Symlink, Timings,
};
pub use exec::{
    ExecInput, ExecOutput, ExecRequest, Exit, ExitStatus, FailKind, Failure, RequestError, StdinMode, TtySize,
};
pub use frame::{Kind, WireError};
pub use version::{GENERATION, HELLO_BYTES, Hello, VersionError};

/// Context id of the host on every vsock.
pub const HOST_CID: u32 = 2;
/// Context id our guests get.
pub const GUEST_CID: u32 = 3;
/// Host port of the control connection, and guest port of exec connections.
pub const CONTROL_PORT: u32 = 1024;
/// Host port of the proxy, and guest TCP port of its end.
pub const PROXY_PORT: u16 = 3128;
/// Host port of DNS, and guest UDP and TCP port of its end.
pub const DNS_PORT: u16 = 53;
/// virtio-fs tag of the one tree of shares.
pub const SHARE_TAG: &str = "sandbox";

/// Text from the other side, fit to be shown: control characters replaced, cut to the limit.
#[must_use]
pub fn clean_text(text: &str) -> String {
    text.chars()
        .take(crate::limits::ANSWER_TEXT_CHARS_MAX)
        .map(|c| if c.is_control() { '\u{fffd}' } else { c })
        .collect()
}
