//! Which rules may concern a host, without looking at all of them: a hash map by name, asked for the host
//! and for those of its suffixes that could be a wildcard's, and one by network. Whether a rule's other
//! conditions hold is said elsewhere.

use std::collections::HashMap;
use std::net::IpAddr;

use foldhash::fast::RandomState;

use crate::facts::Host;
use crate::limits::HOST_LABELS_MAX;
use crate::pattern::{Cidr, HostPattern};
use crate::rule::Compiled;

/// Positions in the rule set's list.
type Positions = Vec<u32>;

#[derive(Debug, Default, Clone)]
pub(crate) struct Index {
    /// What is looked up is anybody's, but what is in here is the policy's: nobody can fill it with collisions.
    names: HashMap<Box<str>, Node, RandomState>,
    any: Positions,
    /// Bit n: some wildcard's suffix has n labels. Spares a lookup for each label of a long hostile name.
    suffix_labels: u128,
    networks: HashMap<Cidr, Positions, RandomState>,
    /// Bit n: some network has a length of n bits.
    lengths_v4: u64,
    lengths_v6: [u128; 2],
}

/// The rules that write one name, by what stands in front of it.
#[derive(Debug, Default, Clone)]
struct Node {
    exact: Positions,
    one_label: Positions,
    deep: Positions,
}

/// A rule that may concern a host.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Found {
    /// In the rule set's list.
    pub(crate) position: u32,
    /// More is more exact: the kind of pattern first, then how much of it is fixed. `None` where the pattern
    /// does not match, but only because of the host's depth: `*.a` for `a` or `x.y.a`, `**.a` for `a`.
    pub(crate) exactness: Option<u16>,
}

impl Index {
    pub(crate) fn insert(&mut self, position: u32, rule: &Compiled) {
        for host in &rule.hosts {
            self.insert_host(position, host);
        }
        for network in &rule.cidrs {
            self.networks.entry(*network).or_default().push(position);
            let length = u32::from(network.length());
            if network.is_ipv4() {
                self.lengths_v4 |= 1u64.checked_shl(length).unwrap_or(0);
            } else if length < 128 {
                self.lengths_v6[0] |= 1u128.checked_shl(length).unwrap_or(0);
            } else {
                self.lengths_v6[1] = 1;
            }
        }
    }

    fn insert_host(&mut self, position: u32, host: &HostPattern) {
        let name = match host {
            HostPattern::Any => return self.any.push(position),
            HostPattern::Exact(name) | HostPattern::OneLabel(name) | HostPattern::Deep(name) => name,
        };
        let node = self.names.entry(name.clone()).or_default();
        match host {
            HostPattern::OneLabel(_) => node.one_label.push(position),
            HostPattern::Deep(_) => node.deep.push(position),
            HostPattern::Any | HostPattern::Exact(_) => return node.exact.push(position),
        }
        self.suffix_labels |= label_bit(name.split('.').count());
    }

    /// Calls `visit` for every rule one of whose host patterns matches `host`, or misses it by its depth
    /// only; perhaps more than once each.
    pub(crate) fn for_host(&self, host: Host<'_>, mut visit: impl FnMut(Found)) {
        let name = match host {
            Host::Name(name) => name,
            Host::Ip(ip) => return self.for_address(ip, visit),
        };
        let mut all = |positions: &Positions, exactness: Option<u16>| {
            positions.iter().for_each(|position| visit(Found { position: *position, exactness }));
        };
        all(&self.any, Some(0));
        if let Some(node) = self.names.get(name) {
            all(&node.exact, Some(EXACT));
            all(&node.one_label, None);
            all(&node.deep, None);
        }
        let parent = name.split_once('.').map_or("", |(_, parent)| parent);
        for (suffix, labels) in self.suffixes(name) {
            if let Some(node) = self.names.get(suffix) {
                all(&node.deep, Some(DEEP.saturating_add(labels)));
                let is_parent = suffix.len() == parent.len();
                all(&node.one_label, is_parent.then_some(ONE_LABEL.saturating_add(labels)));
            }
        }
    }

    /// Calls `visit` for every rule with a network that holds `ip`, perhaps more than once each.
    pub(crate) fn for_address(&self, ip: IpAddr, mut visit: impl FnMut(Found)) {
        let mut probe = |length: u8| {
            let found = self.networks.get(&Cidr::around(ip, length));
            let exactness = Some(u16::from(length));
            found.into_iter().flatten().for_each(|position| visit(Found { position: *position, exactness }));
        };
        if ip.is_ipv4() {
            bits(u128::from(self.lengths_v4)).for_each(&mut probe);
        } else {
            bits(self.lengths_v6[0]).for_each(&mut probe);
            if self.lengths_v6[1] != 0 {
                probe(128);
            }
        }
    }

    /// The proper suffixes of `name` that could be a wildcard's, shortest first, with their number of labels.
    fn suffixes<'n>(&self, name: &'n str) -> impl Iterator<Item = (&'n str, u16)> {
        let wanted = self.suffix_labels;
        let dots = name.bytes().enumerate().rev().filter(|(_, byte)| *byte == b'.');
        // From the right, so that a long name costs no more than the longest wildcard.
        let parts = dots.zip(1u16..).take_while(move |(_, labels)| wanted >> labels.min(&127) != 0);
        parts.filter(move |(_, labels)| wanted & label_bit((*labels).into()) != 0).filter_map(
            |((dot, _), labels)| {
                let suffix = name.get(dot.saturating_add(1)..)?;
                Some((suffix, labels))
            },
        )
    }
}

/// Of the kinds of host patterns; labels are added, of which there are at most [`HOST_LABELS_MAX`].
const DEEP: u16 = 256;
const ONE_LABEL: u16 = 512;
const EXACT: u16 = 768;

fn label_bit(labels: usize) -> u128 {
    let labels = u32::try_from(labels.min(HOST_LABELS_MAX)).unwrap_or(0);
    1u128.checked_shl(labels).unwrap_or(0)
}

/// Positions of the bits that are set.
fn bits(mut set: u128) -> impl Iterator<Item = u8> {
    std::iter::from_fn(move || {
        let lowest = u8::try_from(set.trailing_zeros()).ok().filter(|bit| *bit < 128)?;
        set &= set.wrapping_sub(1);
        Some(lowest)
    })
}
