//! Networks. IPv4 and IPv6 never match each other: facts unwrap mapped IPv4 beforehand, and [`ipv4_by_nat64`] is for whoever
//! asks what is denied.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::PatternError;

/// A network, with all bits beyond its length clear: equal networks are equal values.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Cidr {
    base: IpAddr,
    length: u8,
}

impl Cidr {
    pub(crate) fn parse(text: &str) -> Result<Self, PatternError> {
        let (address, length) = text.split_once('/').map_or((text, None), |(a, l)| (a, Some(l)));
        let base: IpAddr = address.parse().map_err(|_| PatternError::Cidr)?;
        if base.to_canonical() != base {
            return Err(PatternError::CidrMapped);
        }
        let full = if base.is_ipv4() { 32 } else { 128 };
        let length = match length {
            None => full,
            // Plain digits: the standard parser would also take a sign.
            Some(digits) if digits.len() <= 3 && digits.bytes().all(|b| b.is_ascii_digit()) => {
                digits.parse().ok().filter(|length| *length <= full).ok_or(PatternError::Cidr)?
            }
            Some(_) => return Err(PatternError::Cidr),
        };
        let network = Self::around(base, length);
        if network.base == base { Ok(network) } else { Err(PatternError::CidrHostBits) }
    }

    /// The network of `length` bits that holds `ip`; lengths beyond the family's mean the address itself.
    pub(crate) fn around(ip: IpAddr, length: u8) -> Self {
        let base = match ip {
            IpAddr::V4(v4) => {
                let mask = u32::MAX.checked_shl(32u32.saturating_sub(length.into())).unwrap_or(0);
                IpAddr::V4(Ipv4Addr::from_bits(v4.to_bits() & mask))
            }
            IpAddr::V6(v6) => {
                let mask = u128::MAX.checked_shl(128u32.saturating_sub(length.into())).unwrap_or(0);
                IpAddr::V6(Ipv6Addr::from_bits(v6.to_bits() & mask))
            }
        };
        Self { base, length }
    }

    pub(crate) fn is_ipv4(&self) -> bool {
        self.base.is_ipv4()
    }

    /// Bits.
    pub(crate) fn length(&self) -> u8 {
        self.length
    }

    /// The first address.
    pub(crate) fn base(&self) -> IpAddr {
        self.base
    }

    /// Whether every address of `other` is in it.
    pub(crate) fn covers(&self, other: &Self) -> bool {
        self.length <= other.length && Self::around(other.base, self.length) == *self
    }

    /// Whether some address is in both.
    pub(crate) fn overlaps(&self, other: &Self) -> bool {
        self.covers(other) || other.covers(self)
    }
}

/// The IPv4 address to which a NAT64 network (RFC 6052 §2.1, the well-known prefix) leads from `ip`.
pub(crate) fn ipv4_by_nat64(ip: IpAddr) -> Option<IpAddr> {
    match ip {
        IpAddr::V6(v6) => match v6.segments() {
            [0x64, 0xff9b, 0, 0, 0, 0, high, low] => {
                Some(Ipv4Addr::from_bits((u32::from(high) << 16) | u32::from(low)).into())
            }
            _ => None,
        },
        IpAddr::V4(_) => None,
    }
}

impl fmt::Display for Cidr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.base, self.length)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn networks_contain_their_addresses() {
        let check = |net: &str, ip: &str| {
            let net = Cidr::parse(net).unwrap();
            Cidr::around(ip.parse().unwrap(), net.length()) == net
        };
        assert!(check("10.0.0.0/8", "10.255.0.1") && !check("10.0.0.0/8", "11.0.0.0"));
        assert!(check("127.0.0.1", "127.0.0.1") && !check("127.0.0.1", "127.0.0.2"));
        assert!(check("0.0.0.0/0", "203.0.113.9") && !check("0.0.0.0/0", "2001:db8::1"));
        assert!(check("fd00::/8", "fdff::1") && !check("fd00::/8", "fe80::1"));
        assert!(check("::/0", "2001:db8::1") && !check("::/0", "10.0.0.1"));
        assert!(check("::1", "::1") && !check("::1", "::2"));
    }

    #[test]
    fn a_network_covers_those_within_it() {
        let covers = |one: &str, other: &str| Cidr::parse(one).unwrap().covers(&Cidr::parse(other).unwrap());
        assert!(covers("10.0.0.0/8", "10.1.0.0/16") && covers("10.0.0.0/8", "10.0.0.0/8"));
        assert!(!covers("10.1.0.0/16", "10.0.0.0/8") && !covers("10.0.0.0/8", "11.0.0.0/16"));
        assert!(!covers("0.0.0.0/0", "::/0") && !covers("::/0", "127.0.0.1"));
    }

    #[test]
    fn what_is_not_a_network() {
        use PatternError::{Cidr as Bad, CidrHostBits, CidrMapped};
        for (text, error) in [
            ("", Bad),
            ("10.0.0.0/33", Bad),
            ("10.0.0.0/+8", Bad),
            ("10.0.0.0/", Bad),
            ("10.0.0/8", Bad),
            ("010.0.0.0/8", Bad),
            ("example.com", Bad),
            ("::/129", Bad),
            ("fe80::1%eth0", Bad),
            ("10.0.0.1/8", CidrHostBits),
            ("fd00::1/8", CidrHostBits),
            ("::ffff:10.0.0.0/104", CidrMapped),
        ] {
            assert_eq!(Cidr::parse(text), Err(error), "{text}");
        }
    }
}
