//! Which addresses may be dialled. Names are resolved once, *all* addresses are judged here, and only what
//! was judged is dialled: [`Checked`] has no other source, and the dialer takes nothing else. A name whose
//! answers change between check and dial (DNS rebinding) therefore has nothing to change.
//!
//! It never resolves, never dials, and never drops a bad address from a mixed answer: the answer is refused.

mod local;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use crate::authority::{Authority, Host};
use crate::limits::ADDRESSES_MAX;

pub use local::LocalNetwork;

/// Why no address of an answer may be dialled.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum GuardError {
    /// The answer was empty.
    #[error("the name has no address")]
    NoAddress,
    /// One address is special-purpose and no rule allows it.
    #[error("{host} resolves to {address} ({range}), which is not a public address")]
    Special {
        /// The host that was asked for.
        host: Host,
        /// The first address that may not be dialled.
        address: IpAddr,
        /// What the range is for, as IANA names it.
        range: &'static str,
    },
    /// One address is this machine's own, or on a link of it, and no rule allows it.
    #[error("{host} resolves to {address}, which is {place}")]
    Near {
        /// The host that was asked for.
        host: Host,
        /// The first address that may not be dialled.
        address: IpAddr,
        /// In words.
        place: &'static str,
    },
    /// A public address that a rule denies.
    #[error("{host} resolves to {address}, which the sandbox's network policy denies")]
    Denied {
        /// The host that was asked for.
        host: Host,
        /// The first address that may not be dialled.
        address: IpAddr,
    },
    /// A listener of the proxy itself.
    #[error("{address} is a listener of the proxy itself")]
    OwnListener {
        /// The listener, as the client spelled or resolved it.
        address: SocketAddr,
    },
}

/// Whether the rules admit an address, given whether it is special: of a special-purpose range, or near.
pub type Admits<'a> = &'a dyn Fn(IpAddr, bool) -> bool;

/// Addresses that were judged, with the authority they were judged for. Only [`Guard::check`] makes one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Checked {
    authority: Authority,
    addresses: Vec<SocketAddr>,
}

impl Checked {
    /// What was asked for.
    #[must_use]
    pub fn authority(&self) -> &Authority {
        &self.authority
    }

    /// The addresses that may be dialled, in the order the resolver gave them. Never empty.
    #[must_use]
    pub fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }
}

/// The address judge: the ranges are fixed, the own listeners are given.
#[derive(Debug, Clone, Default)]
pub struct Guard {
    own_listeners: Vec<SocketAddr>,
}

impl Guard {
    /// `own_listeners` are refused under every spelling, whatever a rule allows. A listener on the
    /// unspecified address stands for its port on every special-purpose address and every other of the machine.
    #[must_use]
    pub fn new(own_listeners: Vec<SocketAddr>) -> Self {
        Self { own_listeners }
    }

    /// Judges all `addresses` of `authority`, with what is `near` this machine; `admits` says whether the rules admit
    /// one address, given whether it is special-purpose or near.
    ///
    /// # Errors
    /// [`GuardError`] if the answer is empty or if *any* address may not be dialled.
    pub fn check(
        &self,
        authority: &Authority,
        addresses: &[IpAddr],
        near: &LocalNetwork,
        admits: Admits<'_>,
    ) -> Result<Checked, GuardError> {
        let judged = judge(authority.host(), addresses, near, admits)?;
        let addresses: Vec<SocketAddr> =
            judged.into_iter().map(|ip| SocketAddr::new(ip, authority.port())).collect();
        match addresses.iter().find(|address| self.is_own(**address, near)) {
            Some(address) => Err(GuardError::OwnListener { address: *address }),
            None => Ok(Checked { authority: authority.clone(), addresses }),
        }
    }

    /// The same judgement for a DNS answer, where there is no port yet.
    ///
    /// # Errors
    /// As [`Guard::check`], without the listeners.
    pub fn check_answer(
        &self,
        host: &Host,
        addresses: &[IpAddr],
        near: &LocalNetwork,
        admits: Admits<'_>,
    ) -> Result<Vec<IpAddr>, GuardError> {
        judge(host, addresses, near, admits)
    }

    fn is_own(&self, address: SocketAddr, near: &LocalNetwork) -> bool {
        let arrives = leads_to(address.ip());
        self.own_listeners.iter().any(|own| {
            let same_place = own.ip().to_canonical() == arrives
                || (own.ip().is_unspecified() && special_range(arrives).is_some())
                || (own.ip().is_unspecified() && near.is_own(arrives))
                // On Linux a connect to 0.0.0.0 or :: arrives at loopback.
                || (arrives.is_unspecified() && own.ip().is_loopback());
            own.port() == address.port() && same_place
        })
    }
}

fn judge(
    host: &Host,
    addresses: &[IpAddr],
    near: &LocalNetwork,
    admits: Admits<'_>,
) -> Result<Vec<IpAddr>, GuardError> {
    let mut judged = Vec::with_capacity(addresses.len().min(ADDRESSES_MAX));
    for address in addresses.iter().map(IpAddr::to_canonical) {
        let (range, place) = (special_range(address), near.place(address));
        if !admits(address, range.is_some() || place.is_some()) {
            let host = host.clone();
            return Err(match (range, place) {
                (Some(range), _) => GuardError::Special { host, address, range },
                (None, Some(place)) => GuardError::Near { host, address, place },
                (None, None) => GuardError::Denied { host, address },
            });
        }
        if judged.len() < ADDRESSES_MAX && !judged.contains(&address) {
            judged.push(address);
        }
    }
    if judged.is_empty() { Err(GuardError::NoAddress) } else { Ok(judged) }
}

/// Where an address leads: IPv4 inside IPv6 (mapped, or RFC 6052's prefix, under which a DNS64 network gives every
/// IPv4-only host) is that IPv4 address.
fn leads_to(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(v6) => match v6.segments() {
            [0x64, 0xff9b, 0, 0, 0, 0, high, low] => {
                Ipv4Addr::from((u32::from(high) << 16) | u32::from(low)).into()
            }
            _ => v6.into(),
        },
        v4 => v4,
    }
}

/// The special-purpose range an address is in, or `None` for a public unicast address. IPv4 inside IPv6
/// (mapped, NAT64) is judged as the IPv4 address it leads to; 6to4, Teredo, ISATAP and IPv4-compatible
/// forms are special whatever they embed.
///
/// Source: IANA IPv4 and IPv6 Special-Purpose Address Registries, all entries, also those that are called
/// globally reachable (anycast relays and AS112: no web service lives there), plus multicast and 240/4.
#[must_use]
pub fn special_range(address: IpAddr) -> Option<&'static str> {
    match leads_to(address) {
        IpAddr::V4(v4) => special_v4(v4),
        IpAddr::V6(v6) => special_v6(v6),
    }
}

fn special_v4(address: Ipv4Addr) -> Option<&'static str> {
    let bits = u32::from(address);
    V4_RANGES.iter().find(|range| range.holds(bits)).map(|range| range.name)
}

fn special_v6(address: Ipv6Addr) -> Option<&'static str> {
    let bits = u128::from(address);
    if let Some(range) = V6_RANGES.iter().find(|range| range.holds(bits)) {
        return Some(range.name);
    }
    let [.., e, f, _, _] = address.segments();
    if f == 0x5efe && (e == 0 || e == 0x200) {
        return Some("ISATAP");
    }
    // RFC 4291 §2.4: only 2000::/3 is handed out as global unicast.
    if bits >> 125 == 1 { None } else { Some("outside global unicast") }
}

struct Range<T> {
    base: T,
    prefix_bits: u32,
    name: &'static str,
}

impl Range<u32> {
    fn holds(&self, bits: u32) -> bool {
        let shift = 32u32.saturating_sub(self.prefix_bits);
        bits.checked_shr(shift) == self.base.checked_shr(shift)
    }
}

impl Range<u128> {
    fn holds(&self, bits: u128) -> bool {
        let shift = 128u32.saturating_sub(self.prefix_bits);
        bits.checked_shr(shift) == self.base.checked_shr(shift)
    }
}

const fn v4(base: [u8; 4], prefix_bits: u32, name: &'static str) -> Range<u32> {
    Range { base: u32::from_be_bytes(base), prefix_bits, name }
}

const fn v6(base: [u16; 8], prefix_bits: u32, name: &'static str) -> Range<u128> {
    let [a, b, c, d, e, f, g, h] = base;
    Range { base: Ipv6Addr::new(a, b, c, d, e, f, g, h).to_bits(), prefix_bits, name }
}

static V4_RANGES: [Range<u32>; 20] = [
    v4([0, 0, 0, 0], 8, "this network"),
    v4([10, 0, 0, 0], 8, "private use"),
    v4([100, 64, 0, 0], 10, "shared address space"),
    v4([127, 0, 0, 0], 8, "loopback"),
    v4([169, 254, 0, 0], 16, "link local"),
    v4([172, 16, 0, 0], 12, "private use"),
    v4([192, 0, 0, 0], 24, "IETF protocol assignments"),
    v4([192, 0, 2, 0], 24, "documentation"),
    v4([192, 31, 196, 0], 24, "AS112"),
    v4([192, 52, 193, 0], 24, "AMT"),
    v4([192, 88, 99, 0], 24, "6to4 relay anycast"),
    v4([192, 168, 0, 0], 16, "private use"),
    v4([192, 175, 48, 0], 24, "AS112 direct delegation"),
    v4([198, 18, 0, 0], 15, "benchmarking"),
    v4([198, 51, 100, 0], 24, "documentation"),
    v4([203, 0, 113, 0], 24, "documentation"),
    v4([224, 0, 0, 0], 4, "multicast"),
    v4([255, 255, 255, 255], 32, "limited broadcast"),
    v4([240, 0, 0, 0], 4, "reserved"),
    // Not IANA's: a public-looking address that Azure answers on the host's own link.
    v4([168, 63, 129, 16], 32, "cloud host service"),
];

static V6_RANGES: [Range<u128>; 17] = [
    v6([0, 0, 0, 0, 0, 0, 0, 1], 128, "loopback"),
    // Holds the unspecified address too; `::ffff:0:0/96` never comes here, it is unwrapped.
    v6([0, 0, 0, 0, 0, 0, 0, 0], 96, "unspecified or IPv4-compatible"),
    v6([0x64, 0xff9b, 1, 0, 0, 0, 0, 0], 48, "local-use NAT64"),
    v6([0x100, 0, 0, 0, 0, 0, 0, 0], 64, "discard only"),
    v6([0x100, 0, 0, 1, 0, 0, 0, 0], 64, "dummy prefix"),
    v6([0x2001, 0, 0, 0, 0, 0, 0, 0], 32, "Teredo"),
    // ORCHID, AMT, AS112, benchmarking, drone remote id and port control anycast are inside.
    v6([0x2001, 0, 0, 0, 0, 0, 0, 0], 23, "IETF protocol assignments"),
    v6([0x2001, 0xdb8, 0, 0, 0, 0, 0, 0], 32, "documentation"),
    v6([0x2002, 0, 0, 0, 0, 0, 0, 0], 16, "6to4"),
    v6([0x2620, 0x4f, 0x8000, 0, 0, 0, 0, 0], 48, "AS112 direct delegation"),
    v6([0x3ffe, 0, 0, 0, 0, 0, 0, 0], 16, "6bone"),
    v6([0x3fff, 0, 0, 0, 0, 0, 0, 0], 20, "documentation"),
    v6([0x5f00, 0, 0, 0, 0, 0, 0, 0], 16, "segment routing"),
    v6([0xfc00, 0, 0, 0, 0, 0, 0, 0], 7, "unique local"),
    v6([0xfe80, 0, 0, 0, 0, 0, 0, 0], 10, "link local"),
    v6([0xfec0, 0, 0, 0, 0, 0, 0, 0], 10, "site local"),
    v6([0xff00, 0, 0, 0, 0, 0, 0, 0], 8, "multicast"),
];
