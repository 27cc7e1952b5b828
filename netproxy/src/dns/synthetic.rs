//! Addresses that stand for names: given out in DNS answers instead of real ones, and turned back into the name
//! when something connects to them. Nothing is resolved for such an answer, so that a query tells nobody
//! anything, and there is no real address that could change between the answer and the connection.
//!
//! An address is used for another name only after all others were: a client that still holds it reaches nobody
//! else meanwhile.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::recent::Recent;
use crate::authority::HostName;
use crate::limits::SYNTHETIC_NAMES_MAX;

/// 198.18.0.0/15 (RFC 2544, benchmarking): never routed on the Internet, and no private network's.
const V4_BASE: u32 = 0xc612_0000;
const V4_PREFIX_BITS: u32 = 15;
/// fd73:616e:6462:6f78::/96, a unique local prefix (RFC 4193) of our own; the slot is in the low 32 bits.
const V6_BASE: u128 = 0xfd73_616e_6462_6f78_0000_0000_0000_0000;
const V6_SLOT_BITS: u32 = 32;
/// Slots run from 1 to this: neither the first nor the last address of the IPv4 range is given out.
const SLOT_MAX: u32 = (1 << (32 - V4_PREFIX_BITS)) - 2;

const _: () = assert!(SYNTHETIC_NAMES_MAX < 100_000, "far fewer names than addresses");

/// Which name each address stands for.
#[derive(Debug)]
pub struct Synthetic {
    slots: Recent<HostName, u32>,
    names: HashMap<u32, HostName>,
    last: u32,
}

impl Default for Synthetic {
    fn default() -> Self {
        Self { slots: Recent::new(SYNTHETIC_NAMES_MAX), names: HashMap::new(), last: 0 }
    }
}

impl Synthetic {
    /// The IPv4 and IPv6 address that stand for `name`, always the same until it is forgotten.
    pub fn addresses_of(&mut self, name: &HostName) -> [IpAddr; 2] {
        let slot = match self.slots.get(name) {
            Some(slot) => *slot,
            None => self.give_slot(name),
        };
        [IpAddr::V4(Ipv4Addr::from(V4_BASE | slot)), IpAddr::V6(Ipv6Addr::from(V6_BASE | u128::from(slot)))]
    }

    /// The name that `address` stands for.
    pub fn name_of(&mut self, address: IpAddr) -> Option<HostName> {
        let name = self.names.get(&slot_of(address)?)?.clone();
        // In use: to be kept.
        self.slots.get(&name);
        Some(name)
    }

    fn give_slot(&mut self, name: &HostName) -> u32 {
        // Ends: fewer names are kept than there are slots.
        loop {
            self.last = if self.last >= SLOT_MAX { 1 } else { self.last.saturating_add(1) };
            if !self.names.contains_key(&self.last) {
                break;
            }
        }
        if let Some((_, forgotten)) = self.slots.insert(name.clone(), self.last) {
            self.names.remove(&forgotten);
        }
        self.names.insert(self.last, name.clone());
        self.last
    }
}

/// Whether `address` is in the ranges that are given out.
#[must_use]
pub fn is_synthetic(address: IpAddr) -> bool {
    match address.to_canonical() {
        IpAddr::V4(v4) => u32::from(v4) >> (32 - V4_PREFIX_BITS) == V4_BASE >> (32 - V4_PREFIX_BITS),
        IpAddr::V6(v6) => u128::from(v6) >> V6_SLOT_BITS == V6_BASE >> V6_SLOT_BITS,
    }
}

fn slot_of(address: IpAddr) -> Option<u32> {
    if !is_synthetic(address) {
        return None;
    }
    match address.to_canonical() {
        IpAddr::V4(v4) => Some(u32::from(v4) ^ V4_BASE),
        IpAddr::V6(v6) => u32::try_from(u128::from(v6) ^ V6_BASE).ok(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::authority::Host;

    fn name(n: usize) -> HostName {
        match Host::parse(&format!("h{n}.example")) {
            Ok(Host::Name(name)) => name,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn an_address_leads_back_to_its_name_and_is_the_same_each_time() {
        let mut synthetic = Synthetic::default();
        let first = synthetic.addresses_of(&name(1));
        assert_eq!(first[0], "198.18.0.1".parse::<IpAddr>().unwrap());
        assert_eq!(first[1], "fd73:616e:6462:6f78::1".parse::<IpAddr>().unwrap());
        assert_ne!(synthetic.addresses_of(&name(2)), first);
        assert_eq!(synthetic.addresses_of(&name(1)), first);
        for address in first {
            assert!(is_synthetic(address));
            assert_eq!(synthetic.name_of(address), Some(name(1)));
        }
        for other in
            ["198.18.0.3", "198.17.255.255", "198.20.0.1", "fd73:616e:6462:6f78::3", "::ffff:198.18.0.9"]
        {
            assert_eq!(synthetic.name_of(other.parse().unwrap()), None, "{other}");
        }
        assert_eq!(synthetic.name_of("::ffff:198.18.0.1".parse().unwrap()), Some(name(1)));
    }

    #[test]
    fn forgotten_names_are_bounded_and_their_addresses_are_not_used_again_soon() {
        let mut synthetic = Synthetic::default();
        let kept = synthetic.addresses_of(&name(0));
        let forgotten = synthetic.addresses_of(&name(1));
        let rounds = usize::try_from(SLOT_MAX).unwrap() - 2;
        for n in 2..rounds {
            synthetic.addresses_of(&name(n));
            assert_eq!(synthetic.name_of(kept[0]), Some(name(0)));
        }
        assert_eq!(synthetic.name_of(forgotten[0]), None);
        assert_eq!(synthetic.names.len(), SYNTHETIC_NAMES_MAX);
        // Round the corner, the address of a name that is kept is skipped.
        for n in rounds..rounds + 10 {
            assert_ne!(synthetic.addresses_of(&name(n)), kept);
        }
        assert_eq!(synthetic.addresses_of(&name(0)), kept);
    }
}
