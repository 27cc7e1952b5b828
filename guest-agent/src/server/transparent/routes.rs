//! Addresses and routes, over rtnetlink (`linux/rtnetlink.h`, `linux/fib_rules.h`).
//!
//! ```text
//! ip address add OWN dev lo                                (IPv4)
//! ip route add local default dev lo src OWN table 198
//! ip rule add pref 32768 ipproto tcp lookup 198
//! ```
//!
//! The rule comes after all others: what loopback, a container bridge or a program's own routes want, they get.

use std::io;
use std::net::{IpAddr, Ipv4Addr};
use std::os::fd::AsFd;

use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType};

/// Interface index of `lo`, in every network namespace.
const LOOPBACK_INDEX: u32 = 1;
/// A routing table that nothing else uses: 0 and 253–255 are the kernel's.
const TABLE: u8 = 198;
/// After the kernel's own rules, whose last one has 32767.
const RULE_PRIORITY: u32 = 32_768;
/// What the kernel answers fits: a header, an error number, and the request it is about.
const ANSWER_BYTES: usize = 4096;
const HEADER_BYTES: usize = 16;

const RTM_NEWADDR: u16 = 20;
const RTM_NEWROUTE: u16 = 24;
const RTM_NEWRULE: u16 = 32;
const NLMSG_ERROR: u16 = 2;
/// `NLM_F_REQUEST | NLM_F_ACK | NLM_F_EXCL | NLM_F_CREATE`
const NEW: u16 = 0x001 | 0x004 | 0x200 | 0x400;

const IFA_ADDRESS: u16 = 1;
const IFA_LOCAL: u16 = 2;
const RTA_OIF: u16 = 4;
const RTA_PREFSRC: u16 = 7;
const RTPROT_STATIC: u8 = 4;
const RT_SCOPE_HOST: u8 = 254;
const RTN_LOCAL: u8 = 2;
const FRA_PRIORITY: u16 = 6;
/// Since Linux 4.17.
const FRA_IP_PROTO: u16 = 22;
const FR_ACT_TO_TBL: u8 = 1;
const IPPROTO_TCP: u8 = 6;

/// Gives loopback an address beside its own.
pub(super) fn add_address(address: Ipv4Addr) -> io::Result<()> {
    ask(Message::new(RTM_NEWADDR)
        .bytes(&[family(address.into()), 32, 0, 0])
        .bytes(&LOOPBACK_INDEX.to_ne_bytes())
        .attribute(IFA_LOCAL, &address.octets())
        .attribute(IFA_ADDRESS, &address.octets()))
}

/// Makes every address of `own`'s family local for TCP, as far as no other route is for it, with `own` as source.
pub(super) fn add_catch_all(own: IpAddr) -> io::Result<()> {
    ask(Message::new(RTM_NEWROUTE)
        .bytes(&[family(own), 0, 0, 0, TABLE, RTPROT_STATIC, RT_SCOPE_HOST, RTN_LOCAL, 0, 0, 0, 0])
        .attribute(RTA_OIF, &LOOPBACK_INDEX.to_ne_bytes())
        .attribute(RTA_PREFSRC, &octets(own)))?;
    ask(Message::new(RTM_NEWRULE)
        .bytes(&[family(own), 0, 0, 0, TABLE, 0, 0, FR_ACT_TO_TBL, 0, 0, 0, 0])
        .attribute(FRA_PRIORITY, &RULE_PRIORITY.to_ne_bytes())
        .attribute(FRA_IP_PROTO, &[IPPROTO_TCP]))
}

fn family(address: IpAddr) -> u8 {
    let family = if address.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    u8::try_from(family.as_raw()).unwrap_or_default()
}

fn octets(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(v4) => v4.octets().to_vec(),
        IpAddr::V6(v6) => v6.octets().to_vec(),
    }
}

/// One request under construction.
struct Message(Vec<u8>);

impl Message {
    fn new(kind: u16) -> Self {
        let mut bytes = vec![0; 4];
        bytes.extend(kind.to_ne_bytes());
        bytes.extend(NEW.to_ne_bytes());
        // Sequence number and port: one request, one answer, one socket.
        bytes.extend([0; 8]);
        Self(bytes)
    }

    fn bytes(mut self, bytes: &[u8]) -> Self {
        self.0.extend_from_slice(bytes);
        self
    }

    /// Length and kind, then the value, up to a multiple of four bytes.
    fn attribute(mut self, kind: u16, value: &[u8]) -> Self {
        let length = u16::try_from(value.len()).unwrap_or(u16::MAX).saturating_add(4);
        self.0.extend(length.to_ne_bytes());
        self.0.extend(kind.to_ne_bytes());
        self.0.extend_from_slice(value);
        self.0.resize(self.0.len().next_multiple_of(4), 0);
        self
    }

    fn finish(mut self) -> Vec<u8> {
        let length = u32::try_from(self.0.len()).unwrap_or(u32::MAX);
        if let Some(place) = self.0.first_chunk_mut() {
            *place = length.to_ne_bytes();
        }
        self.0
    }
}

fn ask(message: Message) -> io::Result<()> {
    // Protocol 0 of this family is NETLINK_ROUTE.
    let socket =
        rustix::net::socket_with(AddressFamily::NETLINK, SocketType::RAW, SocketFlags::CLOEXEC, None)?;
    rustix::net::send(socket.as_fd(), &message.finish(), SendFlags::empty())?;
    let mut answer = [0u8; ANSWER_BYTES];
    let (count, _) = rustix::net::recv(socket.as_fd(), answer.as_mut_slice(), RecvFlags::empty())?;
    error_of(answer.get(..count).unwrap_or_default())
}

/// The kernel's answer: an error number, negative, or 0.
fn error_of(answer: &[u8]) -> io::Result<()> {
    let malformed = || io::Error::other("the kernel's answer is malformed");
    let kind = answer.get(4..6).and_then(|bytes| bytes.first_chunk().copied()).ok_or_else(malformed)?;
    let error = answer.get(HEADER_BYTES..).and_then(|bytes| bytes.first_chunk().copied());
    match (u16::from_ne_bytes(kind), error.map(i32::from_ne_bytes)) {
        (NLMSG_ERROR, Some(0)) => Ok(()),
        (NLMSG_ERROR, Some(number)) => Err(io::Error::from_raw_os_error(number.saturating_neg())),
        _ => Err(malformed()),
    }
}
