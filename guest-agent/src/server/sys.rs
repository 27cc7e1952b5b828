//! System calls that have no safe wrapper, each with one.
//!
//! Must never hold logic: one function, one call.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use rustix::process::Pid;

/// The result of a call that says -1 on error.
pub(super) fn check(result: libc::c_int) -> io::Result<libc::c_int> {
    if result == -1 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

/// Bytes that a pipe or terminal holds for reading; 0 if it cannot tell.
pub(super) fn bytes_readable(fd: BorrowedFd<'_>) -> u64 {
    rustix::io::ioctl_fionread(fd).unwrap_or(0)
}

/// Asks for a larger pipe. Whether it is granted does not matter.
pub(super) fn wish_pipe_size(fd: BorrowedFd<'_>, bytes: usize) {
    let _ = rustix::pipe::fcntl_setpipe_size(fd, bytes);
}

/// Sends a signal to a process group, whose leader the caller has not reaped.
pub(super) fn kill_group(leader: Pid, signal: u8) -> io::Result<()> {
    // SAFETY: kill takes two numbers and touches no memory of ours.
    check(unsafe { libc::kill(-leader.as_raw_nonzero().get(), libc::c_int::from(signal)) })?;
    Ok(())
}

/// From `linux/vm_sockets.h`; the libc crate does not have it.
const SO_VM_SOCKETS_CONNECT_TIMEOUT: libc::c_int = 6;

fn vsock_socket() -> io::Result<OwnedFd> {
    // SAFETY: socket takes three numbers; a non-negative result is a new descriptor that only we own.
    unsafe {
        let fd = check(libc::socket(libc::AF_VSOCK, libc::SOCK_STREAM | libc::SOCK_CLOEXEC, 0))?;
        Ok(OwnedFd::from_raw_fd(fd))
    }
}

fn vsock_address(cid: u32, port: u32) -> libc::sockaddr_vm {
    // SAFETY: sockaddr_vm is plain integers, for which zero is valid.
    let mut address: libc::sockaddr_vm = unsafe { std::mem::zeroed() };
    address.svm_family = libc::sa_family_t::try_from(libc::AF_VSOCK).unwrap_or_default();
    address.svm_cid = cid;
    address.svm_port = port;
    address
}

fn vsock_address_bytes() -> libc::socklen_t {
    libc::socklen_t::try_from(size_of::<libc::sockaddr_vm>()).unwrap_or_default()
}

/// Connects over vsock, waiting at most `wait`.
pub(super) fn vsock_connect(cid: u32, port: u32, wait: Duration) -> io::Result<UnixStream> {
    let socket = vsock_socket()?;
    let wait = libc::timeval {
        tv_sec: libc::time_t::try_from(wait.as_secs()).unwrap_or(libc::time_t::MAX),
        tv_usec: libc::suseconds_t::from(wait.subsec_micros()),
    };
    let bytes = libc::socklen_t::try_from(size_of::<libc::timeval>()).unwrap_or_default();
    // SAFETY: the pointer and length are those of `wait`, which outlives the call.
    check(unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::AF_VSOCK,
            SO_VM_SOCKETS_CONNECT_TIMEOUT,
            (&raw const wait).cast(),
            bytes,
        )
    })?;
    let address = vsock_address(cid, port);
    // SAFETY: the pointer and length are those of `address`, which outlives the call.
    check(unsafe { libc::connect(socket.as_raw_fd(), (&raw const address).cast(), vsock_address_bytes()) })?;
    Ok(UnixStream::from(socket))
}

/// Listens on a vsock port for connections from the host.
pub(super) fn vsock_listen(port: u32) -> io::Result<OwnedFd> {
    let socket = vsock_socket()?;
    let address = vsock_address(libc::VMADDR_CID_ANY, port);
    // SAFETY: the pointer and length are those of `address`, which outlives the call; listen takes two numbers.
    unsafe {
        check(libc::bind(socket.as_raw_fd(), (&raw const address).cast(), vsock_address_bytes()))?;
        check(libc::listen(socket.as_raw_fd(), 128))?;
    }
    Ok(socket)
}

/// Takes the next connection and the context id of its other end.
pub(super) fn vsock_accept(listener: BorrowedFd<'_>) -> io::Result<(UnixStream, u32)> {
    let mut address = vsock_address(0, 0);
    let mut bytes = vsock_address_bytes();
    // SAFETY: the kernel writes at most `bytes` bytes into `address`, both outlive the call; the result is a new
    // descriptor that only we own.
    unsafe {
        let fd = check(libc::accept4(
            listener.as_raw_fd(),
            (&raw mut address).cast(),
            &raw mut bytes,
            libc::SOCK_CLOEXEC,
        ))?;
        Ok((UnixStream::from(OwnedFd::from_raw_fd(fd)), address.svm_cid))
    }
}

/// Brings the loopback interface up.
pub(super) fn loopback_up() -> io::Result<()> {
    // SAFETY: ifreq is plain integers and bytes, for which zero is valid.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    for (place, letter) in request.ifr_name.iter_mut().zip(*b"lo") {
        *place = libc::c_char::from_ne_bytes([letter]);
    }
    // SAFETY: socket takes three numbers; the descriptor is new and only ours. Both ioctls take a pointer to
    // `request`, which outlives them, and its flags are the union member that they use.
    unsafe {
        let socket = OwnedFd::from_raw_fd(check(libc::socket(
            libc::AF_INET,
            libc::SOCK_DGRAM | libc::SOCK_CLOEXEC,
            0,
        ))?);
        check(libc::ioctl(socket.as_raw_fd(), libc::SIOCGIFFLAGS, &raw mut request))?;
        request.ifr_ifru.ifru_flags |= libc::c_short::try_from(libc::IFF_UP).unwrap_or_default();
        check(libc::ioctl(socket.as_raw_fd(), libc::SIOCSIFFLAGS, &raw const request))?;
    }
    Ok(())
}

/// Puts bytes into the kernel's random pool, counts them in full, and has it reseed at once.
pub(super) fn add_entropy(random: BorrowedFd<'_>, seed: &[u8]) -> io::Result<()> {
    const RNDADDENTROPY: libc::Ioctl = 0x4008_5203;
    const RNDRESEEDCRNG: libc::Ioctl = 0x5207;
    const SEED_BYTES_MAX: usize = crate::limits::ENTROPY_BYTES_MAX;
    #[repr(C)]
    struct PoolInfo {
        bits: libc::c_int,
        bytes: libc::c_int,
        seed: [u8; SEED_BYTES_MAX],
    }
    let mut info = PoolInfo { bits: 0, bytes: 0, seed: [0; SEED_BYTES_MAX] };
    let place = info.seed.get_mut(..seed.len()).ok_or(io::ErrorKind::InvalidInput)?;
    place.copy_from_slice(seed);
    info.bytes = libc::c_int::try_from(seed.len()).map_err(io::Error::other)?;
    info.bits = info.bytes.saturating_mul(8);
    // SAFETY: the first call reads `info`, whose `bytes` field says how much of its array is meant; the second takes
    // no argument.
    unsafe {
        check(libc::ioctl(random.as_raw_fd(), RNDADDENTROPY, &raw const info))?;
        check(libc::ioctl(random.as_raw_fd(), RNDRESEEDCRNG))?;
    }
    Ok(())
}

/// Blocks every signal in this thread and in all it will start, and ignores writes to closed pipes.
pub(super) fn quiet_signals() {
    // SAFETY: both calls take numbers and a set that lives on this stack and was filled.
    unsafe {
        let mut all: libc::sigset_t = std::mem::zeroed();
        libc::sigfillset(&raw mut all);
        libc::sigprocmask(libc::SIG_SETMASK, &raw const all, std::ptr::null_mut());
        libc::signal(libc::SIGPIPE, libc::SIG_IGN);
    }
}

/// Waits for a blocked signal to be sent to this process.
pub(super) fn next_signal() -> Option<libc::c_int> {
    // SAFETY: sigwait reads a filled set and writes one number; both live on this stack.
    unsafe {
        let mut all: libc::sigset_t = std::mem::zeroed();
        libc::sigfillset(&raw mut all);
        let mut signal = 0;
        (libc::sigwait(&raw const all, &raw mut signal) == 0).then_some(signal)
    }
}

/// Reaps one ended child that this very thread was given; false if there is none now.
pub(super) fn reap_own_child() -> bool {
    let mut status = 0;
    // SAFETY: waitpid writes one number, which lives on this stack.
    unsafe { libc::waitpid(-1, &raw mut status, libc::WNOHANG | libc::__WNOTHREAD | libc::__WALL) > 0 }
}

/// Ends every process but this one. Only for PID 1.
pub(super) fn kill_all() {
    // SAFETY: kill takes two numbers.
    unsafe { libc::kill(-1, libc::SIGKILL) };
}

/// Makes a character device node.
pub(super) fn make_device(path: &std::ffi::CStr, mode: u32, major: u32, minor: u32) -> io::Result<()> {
    // SAFETY: mknod reads the path, which is NUL-ended and alive.
    check(unsafe { libc::mknod(path.as_ptr(), libc::S_IFCHR | mode, libc::makedev(major, minor)) })?;
    Ok(())
}

/// Makes sure that descriptors 0, 1 and 2 exist: a kernel without a console starts PID 1 with none, and the next
/// three files opened would be taken for standard streams. `open` must give the lowest free number.
pub(super) fn fill_standard_descriptors(open: impl Fn() -> io::Result<OwnedFd>) -> io::Result<()> {
    loop {
        let fd = open()?;
        if fd.as_raw_fd() > 2 {
            return Ok(());
        }
        // Kept for the life of the process on purpose.
        let _ = std::os::fd::IntoRawFd::into_raw_fd(fd);
    }
}
