//! Which rules may concern a host, without looking at all of them: a hash map by exact name, one per kind
//! of wildcard by suffix, one by network. Only says where to look; whether a rule matches is said elsewhere.

use std::collections::HashMap;
use std::net::IpAddr;

use crate::facts::Host;
use crate::limits::HOST_LABELS_MAX;
use crate::pattern::{Cidr, HostPattern};
use crate::rule::Compiled;

/// Positions in the rule set's list.
type Positions = Vec<u32>;

#[derive(Debug, Default, Clone)]
pub(crate) struct Index {
    exact: HashMap<Box<str>, Positions>,
    one_label: HashMap<Box<str>, Positions>,
    deep: HashMap<Box<str>, Positions>,
    any: Positions,
    /// Bit n: some wildcard's suffix has n labels. Spares a lookup for each label of a long hostile name.
    suffix_labels: u128,
    networks: HashMap<Cidr, Positions>,
    /// Bit n: some network has a length of n bits.
    lengths_v4: u64,
    lengths_v6: [u128; 2],
}

impl Index {
    pub(crate) fn insert(&mut self, position: u32, rule: &Compiled) {
        // A host with networks names the hosts that may resolve into them; a deny of that kind says nothing
        // about the name alone.
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
        let (map, name) = match host {
            HostPattern::Any => return self.any.push(position),
            HostPattern::Exact(name) => (&mut self.exact, name),
            HostPattern::OneLabel(name) => (&mut self.one_label, name),
            HostPattern::Deep(name) => (&mut self.deep, name),
        };
        map.entry(name.clone()).or_default().push(position);
        if !matches!(host, HostPattern::Exact(_)) {
            self.suffix_labels |= label_bit(name.split('.').count());
        }
    }

    /// Calls `visit` for every rule one of whose host patterns matches `host`, perhaps more than once each.
    pub(crate) fn for_host(&self, host: Host<'_>, mut visit: impl FnMut(u32)) {
        let name = match host {
            Host::Name(name) => name,
            Host::Ip(ip) => return self.for_address(ip, visit),
        };
        let mut visit_all = |found: Option<&Positions>| found.into_iter().flatten().for_each(|at| visit(*at));
        visit_all(Some(&self.any));
        visit_all(self.exact.get(name));
        for (suffix, is_parent) in self.suffixes(name) {
            visit_all(self.deep.get(suffix));
            if is_parent {
                visit_all(self.one_label.get(suffix));
            }
        }
    }

    /// Calls `visit` for the wildcard rules that miss `name` by their depth: `*.a` for `a` or `x.y.a`, `**.a` for `a`.
    pub(crate) fn near_host(&self, name: &str, mut visit: impl FnMut(u32)) {
        let mut visit_all = |found: Option<&Positions>| found.into_iter().flatten().for_each(|at| visit(*at));
        visit_all(self.one_label.get(name));
        visit_all(self.deep.get(name));
        for (suffix, is_parent) in self.suffixes(name) {
            if !is_parent {
                visit_all(self.one_label.get(suffix));
            }
        }
    }

    /// Calls `visit` for every rule with a network that holds `ip`, perhaps more than once each.
    pub(crate) fn for_address(&self, ip: IpAddr, mut visit: impl FnMut(u32)) {
        let mut probe = |length: u8| {
            let found = self.networks.get(&Cidr::around(ip, length));
            found.into_iter().flatten().for_each(|position| visit(*position));
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

    /// The proper suffixes of `name` that could be a wildcard's, longest first, and whether it is the parent.
    fn suffixes<'n>(&self, name: &'n str) -> impl Iterator<Item = (&'n str, bool)> {
        let wanted = self.suffix_labels;
        // Without wildcards not even the labels are counted.
        let labels = if wanted == 0 { 0 } else { name.split('.').count() };
        let parts = std::iter::successors(Some(name), |rest| rest.split_once('.').map(|(_, tail)| tail));
        parts.skip(1).take(labels).enumerate().filter_map(move |(depth, suffix)| {
            let left = labels.saturating_sub(depth.saturating_add(1));
            (wanted & label_bit(left) != 0).then_some((suffix, depth == 0))
        })
    }
}

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
