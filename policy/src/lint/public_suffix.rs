//! Wildcards below names under which anybody can have one, as `*.com` or `*.github.io`.
//!
//! With the feature `public-suffix` these are the names of the Public Suffix List, its private part too; without it
//! only names of one label.

use super::{Code, Finding, Severity, Subject};
use crate::pattern::HostPattern;

pub(super) fn check<'r>(subject: &Subject<'r>) -> Vec<Finding<'r>> {
    let findings = subject.grants().flat_map(|rule| {
        rule.hosts.iter().filter_map(move |host| {
            let (code, text) = match (host, anybody_s(host)) {
                (HostPattern::Any, _) => {
                    let text = "allows every name there is (host = \"**\"), also one that an attacker registers; name \
                                the hosts";
                    (Code::AnyHost, text.to_owned())
                }
                (_, Some(suffix)) => {
                    let text = format!(
                        "allows names that anybody can register: host = \"{host}\", and {suffix} is a public suffix; \
                         name the hosts, or the one domain they belong to"
                    );
                    (Code::PublicSuffix, text)
                }
                _ => return None,
            };
            Some(Finding::new(code, Severity::Warning, rule, text))
        })
    });
    findings.collect()
}

/// The public suffix below which anybody can have a name that `pattern` matches.
pub(super) fn anybody_s(pattern: &HostPattern) -> Option<&str> {
    match pattern {
        HostPattern::OneLabel(name) | HostPattern::Deep(name) => is_public_suffix(name).then_some(&**name),
        HostPattern::Any | HostPattern::Exact(_) => None,
    }
}

#[cfg(feature = "public-suffix")]
fn is_public_suffix(name: &str) -> bool {
    psl::suffix(name.as_bytes())
        .is_some_and(|suffix| suffix.is_known() && suffix.as_bytes() == name.as_bytes())
}

#[cfg(not(feature = "public-suffix"))]
fn is_public_suffix(name: &str) -> bool {
    // RFC 2606, 6761, 6762, ICANN's reservation of `internal`, and what home routers use: nobody sells these.
    const PRIVATE: [&str; 8] =
        ["test", "example", "invalid", "localhost", "local", "internal", "home", "lan"];
    !name.contains('.') && !PRIVATE.contains(&name)
}
