//! Networks so wide that they take in the addresses a sandbox must be kept from: loopback, the local network, and
//! where clouds hand out keys.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::{Code, Finding, Severity, Subject};
use crate::pattern::Cidr;

/// Where AWS, Azure, Google and others serve a machine's own credentials.
const METADATA: [IpAddr; 2] = [
    IpAddr::V4(Ipv4Addr::new(169, 254, 169, 254)),
    IpAddr::V6(Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254)),
];

pub(super) fn check<'r>(subject: &Subject<'r>) -> Vec<Finding<'r>> {
    let mut findings = Vec::new();
    for rule in subject.grants() {
        if let Some(all) = rule.cidrs.iter().find(|network| network.length() == 0) {
            let text = format!(
                "allows every special-purpose address too: cidr = \"{all}\" takes in loopback, the local network and \
                 where clouds hand out keys. Public addresses of named hosts need no `cidr`; write the networks that \
                 are meant"
            );
            findings.push(Finding::new(Code::SpecialAddresses, Severity::Warning, rule, text));
            continue;
        }
        // Who writes the address alone means it.
        let wide =
            |network: &&Cidr| METADATA.iter().any(|ip| Cidr::around(*ip, network.length()) == **network);
        let alone = |network: &&Cidr| !METADATA.contains(&network.base());
        if let Some(network) = rule.cidrs.iter().filter(wide).find(alone) {
            let text = format!(
                "allows the address where clouds hand out keys, which is in cidr = \"{network}\"; write narrower \
                 networks, or a [[deny]] of 169.254.169.254/32 and fd00:ec2::254/128"
            );
            findings.push(Finding::new(Code::MetadataAddress, Severity::Warning, rule, text));
        }
    }
    findings
}
