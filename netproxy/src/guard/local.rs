//! What is near although its address is a public one: this machine, and whatever is on its links. Plain data; who
//! reads it from the system is not known here.

use std::net::IpAddr;

/// RFC 4291 §2.5.4: a link of global unicast addresses has 64 bits of prefix, whatever length an address on it was
/// given (with DHCPv6: 128).
const V6_LINK_BITS: u8 = 64;

/// The addresses of this machine's interfaces, and with them the networks that they are on.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LocalNetwork {
    interfaces: Vec<(IpAddr, u8)>,
}

impl LocalNetwork {
    /// With one more address of an interface, and the length of the prefix that is on its link. A prefix of no length
    /// says nothing about the link: then only the address itself is near.
    #[must_use]
    pub fn with_interface(mut self, address: IpAddr, prefix_bits: u8) -> Self {
        let bits = match (address, prefix_bits) {
            (_, 0) => u8::MAX,
            (IpAddr::V4(_), bits) => bits,
            (IpAddr::V6(_), bits) => bits.min(V6_LINK_BITS),
        };
        self.interfaces.push((address, bits));
        self
    }

    /// Where an address is, if it is near; special-purpose ranges ([`super::special_range`]) are another question.
    #[must_use]
    pub fn place(&self, address: IpAddr) -> Option<&'static str> {
        let address = super::leads_to(address);
        if self.is_own(address) {
            return Some("an address of this machine");
        }
        let near = |(own, bits): &(IpAddr, u8)| common_bits(*own, address).is_some_and(|same| same >= *bits);
        self.interfaces.iter().any(near).then_some("on this machine's local network")
    }

    /// Whether it is an address of this machine.
    pub(super) fn is_own(&self, address: IpAddr) -> bool {
        self.interfaces.iter().any(|(own, _)| *own == address)
    }
}

/// How many bits two addresses of one family begin with in common.
fn common_bits(a: IpAddr, b: IpAddr) -> Option<u8> {
    let bits = match (a, b) {
        (IpAddr::V4(a), IpAddr::V4(b)) => (u32::from(a) ^ u32::from(b)).leading_zeros(),
        (IpAddr::V6(a), IpAddr::V6(b)) => (u128::from(a) ^ u128::from(b)).leading_zeros(),
        _ => return None,
    };
    u8::try_from(bits).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn own_addresses_and_their_links_are_near_and_nothing_else_is() {
        let own = [
            ("198.51.101.7", 24),
            ("203.0.114.9", 32),
            ("8.8.4.4", 0),
            ("2a00:1:2:3::7", 128),
            ("2a00:5:6::1", 48),
            ("2a00:9::1", 0),
        ];
        let network = own.iter().fold(LocalNetwork::default(), |network, (address, bits)| {
            network.with_interface(address.parse().unwrap(), *bits)
        });
        let (machine, link) = (Some("an address of this machine"), Some("on this machine's local network"));
        for (address, place) in [
            ("198.51.101.7", machine),
            ("::ffff:198.51.101.7", machine),
            ("64:ff9b::198.51.101.7", machine),
            ("64:ff9b::198.51.101.8", link),
            ("64:ff9b::198.51.102.0", None),
            ("64:ff9b:1::198.51.101.7", None),
            ("198.51.101.0", link),
            ("198.51.101.255", link),
            ("198.51.100.255", None),
            ("198.51.102.0", None),
            ("203.0.114.9", machine),
            ("203.0.114.8", None),
            ("8.8.4.4", machine),
            ("8.8.8.8", None),
            ("2a00:1:2:3::7", machine),
            ("2a00:1:2:3:ffff::1", link),
            ("2a00:1:2:4::7", None),
            ("2a00:5:6:ffff::1", link),
            ("2a00:5:7::1", None),
            ("2a00:9::1", machine),
            ("2a00:9::2", None),
        ] {
            assert_eq!(network.place(address.parse().unwrap()), place, "{address}");
            assert_eq!(LocalNetwork::default().place(address.parse().unwrap()), None, "{address}");
        }
    }
}
