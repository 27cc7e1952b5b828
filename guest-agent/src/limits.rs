//! Every count, size and time of this crate, in one place; the unit is the last word of the name.
//!
//! Must never hold a limit that differs between tests and the shipped program.

use std::time::Duration;

/// Payload of one `Stdin`, `Stdout` or `Stderr` frame.
pub const STREAM_CHUNK_BYTES_MAX: usize = 64 * 1024;
/// Payload of the `Configure` frame: files of the new root travel in it (a CA bundle is 200 KiB).
pub const CONFIGURE_BYTES_MAX: usize = 16 * 1024 * 1024;
/// Payload of the `ExecRequest` frame. Linux itself refuses arguments beyond 2 MiB with the usual stack limit.
pub const EXEC_REQUEST_BYTES_MAX: usize = 4 * 1024 * 1024;
/// Payload of any JSON answer of the guest (`Ready`, `Refused`, `Failed`).
pub const ANSWER_BYTES_MAX: usize = 64 * 1024;
/// Text of the guest that the host shows to a person, after cleaning.
pub const ANSWER_TEXT_CHARS_MAX: usize = 2_000;

/// Notes in one `Ready`.
pub const NOTES_MAX: usize = 64;
/// One of them. All together fit [`ANSWER_BYTES_MAX`].
pub const NOTE_CHARS_MAX: usize = 200;

/// Stdin bytes the host may send before the program has read any.
pub const STDIN_WINDOW_BYTES: u32 = 256 * 1024;
/// The most credit the host lets a guest pile up.
pub const STDIN_CREDIT_BYTES_MAX: u32 = 16 * 1024 * 1024;

/// Arguments of one exec.
pub const ARGV_ENTRIES_MAX: usize = 65_536;
/// Environment variables of one exec, defaults included.
pub const ENV_ENTRIES_MAX: usize = 4_096;
/// One argument or `NAME=value`; Linux' `MAX_ARG_STRLEN` less the terminating NUL.
pub const ARG_BYTES_MAX: usize = 128 * 1024 - 1;
/// Supplementary groups of one exec.
pub const GROUP_ENTRIES_MAX: usize = 64;
/// A path in `Configure` or `ExecRequest`; Linux' `PATH_MAX` less the terminating NUL.
pub const PATH_BYTES_MAX: usize = 4_095;
/// Name of the guest; Linux' `__NEW_UTS_LEN`.
pub const HOSTNAME_BYTES_MAX: usize = 64;
/// Entropy the host may hand over.
pub const ENTROPY_BYTES_MAX: usize = 512;
/// Entries in each list of `Configure` (mounts, files, symlinks, directories).
pub const CONFIGURE_ENTRIES_MAX: usize = 4_096;
/// A single file that is laid over with `Overlay` mode is copied; this is the largest.
pub const OVERLAY_FILE_BYTES_MAX: u64 = 64 * 1024 * 1024;

/// Exec sessions at once in one guest.
pub const EXECS_MAX: usize = 256;
/// Connections at once through the proxy end; more wait.
pub const PROXY_CONNECTIONS_MAX: usize = 384;
/// Connections at once of programs that know no proxy; more wait.
pub const TRANSPARENT_CONNECTIONS_MAX: usize = 256;
/// DNS questions over UDP at once; one more is dropped, as UDP may.
pub const DNS_QUERIES_MAX: usize = 64;
/// DNS connections over TCP at once.
pub const DNS_CONNECTIONS_MAX: usize = 32;
/// Connections over vsock at once, of both directions: all of the above, one for each exec, and the control connection.
/// The host's vsock device must have room for them, or programs that open many keep the host from running another.
pub const VSOCK_CONNECTIONS_MAX: usize = PROXY_CONNECTIONS_MAX
    + TRANSPARENT_CONNECTIONS_MAX
    + DNS_QUERIES_MAX
    + DNS_CONNECTIONS_MAX
    + EXECS_MAX
    + 1;
/// Relay buffer per direction.
pub const RELAY_BUFFER_BYTES: usize = 64 * 1024;
/// Stack of a service thread; they keep their buffers on the heap.
pub const THREAD_STACK_BYTES: usize = 128 * 1024;
/// Files the agent and, by inheritance, every program may have open without raising it.
pub const OPEN_FILES_SOFT_MAX: u64 = 16_384;
/// How far a program may raise it.
pub const OPEN_FILES_HARD_MAX: u64 = 1_048_576;

/// Output waiting for the host above which the program's pipes are not read.
pub const OUTPUT_QUEUE_BYTES: usize = 2 * STREAM_CHUNK_BYTES_MAX;
/// Wished capacity of a program's pipes.
pub const PIPE_BYTES: usize = 256 * 1024;

/// A new exec connection must have sent its request by then.
pub const REQUEST_WAIT_MAX: Duration = Duration::from_secs(10);
/// After the program ended, grandchildren may hold its pipes for so long before its exit is reported.
pub const DRAIN_WAIT_MAX: Duration = Duration::from_secs(2);
/// Between the polite signal (hang-up, or termination at a timeout) and SIGKILL.
pub const KILL_GRACE: Duration = Duration::from_secs(1);
/// After the exit was sent, the host has so long to close before we do: an early close may drop bytes on the way.
pub const LINGER_WAIT_MAX: Duration = Duration::from_secs(2);
/// The host's end of vsock must answer by then at boot.
pub const CONTROL_CONNECT_WAIT_MAX: Duration = Duration::from_secs(15);
/// First pause between two attempts of that connect; it doubles.
pub const CONTROL_CONNECT_PAUSE_MIN: Duration = Duration::from_millis(1);
/// Last pause between two attempts.
pub const CONTROL_CONNECT_PAUSE_MAX: Duration = Duration::from_millis(20);
/// The host must let a transparent connection in, or refuse it, by then. It resolves and dials nothing before.
pub const ADMISSION_WAIT_MAX: Duration = Duration::from_secs(60);
/// The host must answer one DNS question by then.
pub const DNS_ANSWER_WAIT_MAX: Duration = Duration::from_secs(10);
/// A DNS message with its header, by its 16-bit length.
pub const DNS_MESSAGE_BYTES_MAX: usize = 65_535;
/// An answer over UDP that is longer than the question allows is cut; without EDNS this is what it allows.
pub const DNS_UDP_BYTES_DEFAULT: usize = 512;

/// How much of a file the guest's kernel asks the host for at once, in KiB: the largest virtio-fs request.
pub const READ_AHEAD_KIB: u32 = 1024;
