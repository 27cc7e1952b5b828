//! Credentials that go where they should not. That nobody puts one into an opaque tunnel is held by the loader.

use super::public_suffix::anybody_s;
use super::{Code, Finding, Severity, Subject};
use crate::facts::Scheme;
use crate::pattern::HostPattern;

pub(super) fn check<'r>(subject: &Subject<'r>) -> Vec<Finding<'r>> {
    let mut findings = Vec::new();
    for rule in subject.grants() {
        let Some(credential) = &rule.credential else { continue };
        if rule.schemes.contains(Scheme::Http) || rule.schemes.contains(Scheme::Ws) {
            let text = format!(
                "sends credential \"{credential}\" over plain http, where everybody on the way can read it; leave \
                 `scheme` out, or make another rule for http without `credential`"
            );
            findings.push(Finding::new(Code::CredentialInClear, Severity::Error, rule, text));
        }
        if let Some(host) =
            rule.hosts.iter().find(|host| **host == HostPattern::Any || anybody_s(host).is_some())
        {
            let text = format!(
                "sends credential \"{credential}\" to hosts that anybody can have (host = \"{host}\"); name the hosts \
                 it is for"
            );
            findings.push(Finding::new(Code::CredentialAnywhere, Severity::Error, rule, text));
        }
    }
    findings
}
