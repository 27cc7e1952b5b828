//! The BPF program that the kernel asks which socket listens where (`BPF_PROG_TYPE_SK_LOOKUP`, Linux 5.9): ours, for
//! connections that came along our route. It is a few instructions, written here, so that no BPF tool chain is needed.
//!
//! Such a connection has the guest's own address as its source: that route gives it, and who connects to an address of
//! some interface gets that as the source too. One that has it as its destination is for a program of the guest.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};

use super::sys;

/// Offsets in `struct bpf_sk_lookup` (`linux/bpf.h`), in bytes.
const FAMILY: i16 = 8;
const PROTOCOL: i16 = 12;
const REMOTE_V4: i16 = 16;
const REMOTE_V6: i16 = 20;
const LOCAL_V4: i16 = 40;
const LOCAL_V6: i16 = 44;

const AF_INET: i32 = 2;
const AF_INET6: i32 = 10;
const IPPROTO_TCP: i32 = 6;

/// Numbers of helper functions.
const MAP_LOOKUP_ELEM: i32 = 1;
const SK_RELEASE: i32 = 86;
const SK_ASSIGN: i32 = 124;
/// The verdict that lets the kernel go on, with our socket if one was assigned.
const SK_PASS: i32 = 1;

/// Instruction codes.
const LOAD_U32: u8 = 0x61;
const STORE_U32: u8 = 0x63;
const MOVE: u8 = 0xbf;
const MOVE_NUMBER: u8 = 0xb7;
const ADD_NUMBER: u8 = 0x07;
const JUMP: u8 = 0x05;
const JUMP_IF_EQUAL_64: u8 = 0x15;
const JUMP_IF_EQUAL: u8 = 0x16;
const JUMP_UNLESS_EQUAL: u8 = 0x56;
const LOAD_MAP: u8 = 0x18;
const CALL: u8 = 0x85;
const EXIT: u8 = 0x95;
/// The source register of [`LOAD_MAP`] that makes its number a map's descriptor.
const PSEUDO_MAP_FD: u8 = 1;

/// Where a socket of each family is in the map.
const KEY_V4: u32 = 0;
const KEY_V6: u32 = 1;
const KEYS: u32 = 2;

/// Loads the program and has the kernel ask it, in this network, until the result is closed. `listeners` are for
/// IPv4 and IPv6; a family without one is left alone.
pub(super) fn install(
    listeners: [Option<BorrowedFd<'_>>; 2],
    own_v4: Ipv4Addr,
    own_v6: Ipv6Addr,
) -> io::Result<OwnedFd> {
    let map = sys::make_socket_map(KEYS)?;
    for (key, listener) in [KEY_V4, KEY_V6].into_iter().zip(listeners) {
        if let Some(listener) = listener {
            sys::put_socket(&map, key, listener)?;
        }
    }
    let program = sys::load_socket_lookup(&program(map.as_raw_fd(), own_v4, own_v6))?;
    let network = std::fs::File::open("/proc/self/ns/net")?;
    sys::attach_socket_lookup(&program, &network)
}

#[derive(Clone, Copy)]
enum Label {
    V4,
    Assign,
    Pass,
}

/// Instructions, and jumps whose labels are not placed yet.
#[derive(Default)]
struct Assembler {
    code: Vec<u64>,
    jumps: Vec<(usize, Label)>,
    labels: [usize; 3],
}

impl Assembler {
    fn push(&mut self, code: u8, (to, from): (u8, u8), offset: i16, number: i32) {
        let registers = to | from.wrapping_shl(4);
        let [o0, o1] = offset.to_ne_bytes();
        let [n0, n1, n2, n3] = number.to_ne_bytes();
        self.code.push(u64::from_ne_bytes([code, registers, o0, o1, n0, n1, n2, n3]));
    }

    /// `r2 = *(u32 *)(context + offset)`; the context is kept in r6.
    fn load(&mut self, offset: i16) {
        self.push(LOAD_U32, (2, 6), offset, 0);
    }

    /// Compares r2 with a number, or jumps always.
    fn jump(&mut self, code: u8, number: i32, label: Label) {
        self.jumps.push((self.code.len(), label));
        self.push(code, (if code == JUMP { 0 } else { 2 }, 0), 0, number);
    }

    fn place(&mut self, label: Label) {
        if let Some(place) = self.labels.get_mut(label as usize) {
            *place = self.code.len();
        }
    }

    fn finish(mut self) -> Vec<u64> {
        for (at, label) in self.jumps {
            // A jump counts from the instruction after it; all are forward and short.
            let target = self.labels.get(label as usize).copied().unwrap_or_default();
            let distance = i16::try_from(target.saturating_sub(at).saturating_sub(1)).unwrap_or_default();
            if let Some(instruction) = self.code.get_mut(at) {
                let [code, registers, _, _, n0, n1, n2, n3] = instruction.to_ne_bytes();
                let [o0, o1] = distance.to_ne_bytes();
                *instruction = u64::from_ne_bytes([code, registers, o0, o1, n0, n1, n2, n3]);
            }
        }
        self.code
    }
}

/// The instructions, eight bytes each.
fn program(map: i32, own_v4: Ipv4Addr, own_v6: Ipv6Addr) -> Vec<u64> {
    let mut asm = Assembler::default();
    asm.push(MOVE, (6, 1), 0, 0);
    asm.load(PROTOCOL);
    asm.jump(JUMP_UNLESS_EQUAL, IPPROTO_TCP, Label::Pass);
    asm.load(FAMILY);
    asm.jump(JUMP_IF_EQUAL, AF_INET, Label::V4);
    asm.jump(JUMP_UNLESS_EQUAL, AF_INET6, Label::Pass);
    asm.push(MOVE_NUMBER, (7, 0), 0, KEY_V6.cast_signed());
    let words = words(own_v6);
    for (offset, word) in (REMOTE_V6..).step_by(4).zip(words) {
        asm.load(offset);
        asm.jump(JUMP_UNLESS_EQUAL, word, Label::Pass);
    }
    for (offset, word) in (LOCAL_V6..).step_by(4).zip(words) {
        asm.load(offset);
        asm.jump(JUMP_UNLESS_EQUAL, word, Label::Assign);
    }
    asm.jump(JUMP, 0, Label::Pass);
    asm.place(Label::V4);
    asm.push(MOVE_NUMBER, (7, 0), 0, KEY_V4.cast_signed());
    let word = i32::from_ne_bytes(own_v4.octets());
    asm.load(REMOTE_V4);
    asm.jump(JUMP_UNLESS_EQUAL, word, Label::Pass);
    asm.load(LOCAL_V4);
    asm.jump(JUMP_IF_EQUAL, word, Label::Pass);
    asm.place(Label::Assign);
    assign(&mut asm, map);
    asm.place(Label::Pass);
    asm.push(MOVE_NUMBER, (0, 0), 0, SK_PASS);
    asm.push(EXIT, (0, 0), 0, 0);
    asm.finish()
}

/// `if ((r7 = map[r7])) { bpf_sk_assign(context, r7, 0); bpf_sk_release(r7); }`
fn assign(asm: &mut Assembler, map: i32) {
    asm.push(STORE_U32, (10, 7), -4, 0);
    asm.push(MOVE, (2, 10), 0, 0);
    asm.push(ADD_NUMBER, (2, 0), 0, -4);
    asm.push(LOAD_MAP, (1, PSEUDO_MAP_FD), 0, map);
    // The second half of a 64-bit number.
    asm.push(0, (0, 0), 0, 0);
    asm.push(CALL, (0, 0), 0, MAP_LOOKUP_ELEM);
    asm.push(MOVE, (7, 0), 0, 0);
    asm.push(MOVE, (2, 0), 0, 0);
    asm.jump(JUMP_IF_EQUAL_64, 0, Label::Pass);
    asm.push(MOVE, (1, 6), 0, 0);
    asm.push(MOVE_NUMBER, (3, 0), 0, 0);
    asm.push(CALL, (0, 0), 0, SK_ASSIGN);
    asm.push(MOVE, (1, 7), 0, 0);
    asm.push(CALL, (0, 0), 0, SK_RELEASE);
}

/// In the byte order of the network, as the kernel gives them.
fn words(address: Ipv6Addr) -> [i32; 4] {
    let [a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p] = address.octets();
    [[a, b, c, d], [e, f, g, h], [i, j, k, l], [m, n, o, p]].map(i32::from_ne_bytes)
}
