//! The system calls of this folder that have no safe wrapper: bpf(2), and two socket options.
//!
//! Must never hold logic: one function, one call.

use std::io;
use std::net::TcpListener;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use crate::server::sys::check;

/// Commands of bpf(2), and the numbers they take (`linux/bpf.h`).
const BPF_MAP_CREATE: libc::c_int = 0;
const BPF_MAP_UPDATE_ELEM: libc::c_int = 2;
const BPF_PROG_LOAD: libc::c_int = 5;
const BPF_LINK_CREATE: libc::c_int = 28;
const BPF_MAP_TYPE_SOCKMAP: u32 = 15;
const BPF_PROG_TYPE_SK_LOOKUP: u32 = 30;
const BPF_SK_LOOKUP: u32 = 36;

/// Our program calls no function that is for GPL programs only.
const LICENCE: &std::ffi::CStr = c"Apache-2.0 OR MIT";

/// One member of `union bpf_attr` each; the kernel takes what is not given as zero.
#[repr(C)]
struct MapCreate {
    kind: u32,
    key_bytes: u32,
    value_bytes: u32,
    entries: u32,
    flags: u32,
}

#[repr(C)]
struct MapUpdate {
    map: u32,
    padding: u32,
    key: u64,
    value: u64,
    flags: u64,
}

#[repr(C)]
struct ProgramLoad {
    kind: u32,
    instruction_count: u32,
    instructions: u64,
    licence: u64,
    log_level: u32,
    log_bytes: u32,
    log: u64,
    kernel_version: u32,
    flags: u32,
    name: [u8; 16],
    interface: u32,
    expected_attach_type: u32,
}

#[repr(C)]
struct LinkCreate {
    program: u32,
    target: u32,
    attach_type: u32,
    flags: u32,
}

/// Calls bpf(2).
///
/// # Safety
/// `attribute` is the structure of `command`, and addresses in it are valid for what the command does with them.
unsafe fn bpf<T>(command: libc::c_int, attribute: &T) -> io::Result<libc::c_int> {
    // SAFETY: the pointer and size are those of `attribute`, which outlives the call; the kernel writes only to
    // addresses inside, for which the caller vouches.
    let result =
        unsafe { libc::syscall(libc::SYS_bpf, command, std::ptr::from_ref(attribute), size_of::<T>()) };
    check(libc::c_int::try_from(result).map_err(io::Error::other)?)
}

fn number(fd: impl AsFd) -> u32 {
    fd.as_fd().as_raw_fd().cast_unsigned()
}

fn address<T>(value: &T) -> u64 {
    std::ptr::from_ref(value).addr() as u64
}

/// Makes a map of `entries` sockets.
pub(super) fn make_socket_map(entries: u32) -> io::Result<OwnedFd> {
    let attribute = MapCreate { kind: BPF_MAP_TYPE_SOCKMAP, key_bytes: 4, value_bytes: 8, entries, flags: 0 };
    // SAFETY: the command's own structure, without addresses; the result is a new descriptor that only we own.
    unsafe { Ok(OwnedFd::from_raw_fd(bpf(BPF_MAP_CREATE, &attribute)?)) }
}

/// Puts a listening socket into such a map.
pub(super) fn put_socket(map: &OwnedFd, key: u32, socket: BorrowedFd<'_>) -> io::Result<()> {
    let value = u64::from(number(socket));
    let attribute =
        MapUpdate { map: number(map), padding: 0, key: address(&key), value: address(&value), flags: 0 };
    // SAFETY: the command's own structure; both addresses are of values that outlive the call and have the sizes that
    // `make_socket_map` has given to keys and values.
    unsafe { bpf(BPF_MAP_UPDATE_ELEM, &attribute)? };
    Ok(())
}

/// Has the kernel check and load a socket lookup program.
pub(super) fn load_socket_lookup(instructions: &[u64]) -> io::Result<OwnedFd> {
    let attribute = ProgramLoad {
        kind: BPF_PROG_TYPE_SK_LOOKUP,
        instruction_count: u32::try_from(instructions.len()).map_err(io::Error::other)?,
        instructions: instructions.as_ptr().addr() as u64,
        licence: LICENCE.as_ptr().addr() as u64,
        log_level: 0,
        log_bytes: 0,
        log: 0,
        kernel_version: 0,
        flags: 0,
        name: *b"sandbox_lookup\0\0",
        interface: 0,
        expected_attach_type: BPF_SK_LOOKUP,
    };
    // SAFETY: the command's own structure; its addresses are of the instructions, whose count is given, and of a
    // NUL-ended text, and both outlive the call. The result is a new descriptor that only we own.
    unsafe { Ok(OwnedFd::from_raw_fd(bpf(BPF_PROG_LOAD, &attribute)?)) }
}

/// Has the kernel ask the program about every connection in a network namespace, until the result is closed.
pub(super) fn attach_socket_lookup(program: &OwnedFd, network: impl AsFd) -> io::Result<OwnedFd> {
    let attribute = LinkCreate {
        program: number(program),
        target: number(network),
        attach_type: BPF_SK_LOOKUP,
        flags: 0,
    };
    // SAFETY: the command's own structure, without addresses; the result is a new descriptor that only we own.
    unsafe { Ok(OwnedFd::from_raw_fd(bpf(BPF_LINK_CREATE, &attribute)?)) }
}

/// Lets a socket and those it accepts have addresses that are not this machine's.
pub(super) fn set_transparent(listener: &TcpListener, v6: bool) -> io::Result<()> {
    let (level, option) = match v6 {
        false => (libc::SOL_IP, libc::IP_TRANSPARENT),
        true => (libc::SOL_IPV6, libc::IPV6_TRANSPARENT),
    };
    let on: libc::c_int = 1;
    let bytes = libc::socklen_t::try_from(size_of::<libc::c_int>()).unwrap_or_default();
    // SAFETY: the pointer and length are those of `on`, which outlives the call.
    check(unsafe { libc::setsockopt(listener.as_raw_fd(), level, option, (&raw const on).cast(), bytes) })?;
    Ok(())
}
