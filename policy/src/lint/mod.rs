//! What a policy's author would want to know although the policy loads: rules that can never matter, and rules that
//! allow more than they seem to. Each check is a file. All of it is told from the rules alone; what is said here is
//! true, but a check may miss what only some requests would show.

mod credential;
mod opaque;
mod public_suffix;
mod relation;
mod shadowed;
mod special_addresses;
mod unreachable;
mod untested;
mod work;
mod write_capable;

use std::collections::HashMap;
use std::fmt;

use crate::facts::Host;
use crate::pattern::HostPattern;
use crate::rule::Compiled;
use crate::ruleset::Ruleset;
use crate::verdict::{Effect, RuleRef};
use work::Work;

/// How much a finding matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// Good to know.
    Note,
    /// Probably not what was meant.
    Warning,
    /// A key or the sandbox is at risk.
    Error,
}

/// What was found. The names, in kebab-case, are stable; more may come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Code {
    /// `host = "**"` in a rule that allows.
    AnyHost,
    /// A wildcard below a name under which anybody can have one.
    PublicSuffix,
    /// Same conditions as another rule.
    Duplicate,
    /// Another rule does all that this one does, or always comes before it.
    Shadowed,
    /// Rules that deny leave nothing of it.
    Unreachable,
    /// A ceiling leaves nothing of it.
    BeyondCeiling,
    /// Its time is over.
    Expired,
    /// A credential is sent without TLS.
    CredentialInClear,
    /// A credential is sent to hosts that anybody can have.
    CredentialAnywhere,
    /// Conditions on requests to a host to which another rule lets everything through unread.
    ConditionsOnOpaqueHost,
    /// `tls = "opaque"` where another rule looks inside.
    OpaqueNotInForce,
    /// `cidr` of all addresses.
    SpecialAddresses,
    /// `cidr` with the address where clouds hand out keys.
    MetadataAddress,
    /// Labelled as one by which data can leave.
    WriteCapable,
    /// No `[[test]]` is decided by it.
    Untested,
    /// Too many rules are about the same hosts: it was not compared with all of them.
    NotCompared,
}

/// One finding about one rule.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
#[non_exhaustive]
pub struct Finding<'r> {
    /// What it is.
    pub code: Code,
    /// How much it matters.
    pub severity: Severity,
    /// The rule it is about, with file and line.
    pub rule: RuleRef<'r>,
    /// The rule that makes it so, if one does.
    pub other: Option<RuleRef<'r>>,
    /// What is wrong and what to do, one or two sentences.
    pub text: String,
}

/// Everything that is to be said about `rules` at `now` (seconds since 1970-01-01T00:00:00Z), in the order of the
/// rules. Takes time linear in the number of rules, and for hosts that many rules name, wildcards with
/// `tls = "opaque"` and ceilings no more than [`LINT_WORK_MAX`](crate::limits::LINT_WORK_MAX) beside: where that is
/// used up, [`Code::NotCompared`] says so.
#[must_use]
pub fn lint(rules: &Ruleset, now: i64) -> Vec<Finding<'_>> {
    let subject = Subject { rules, now, work: Work::default() };
    let checks: [Check; 8] = [
        shadowed::check,
        unreachable::check,
        public_suffix::check,
        credential::check,
        opaque::check,
        special_addresses::check,
        write_capable::check,
        untested::check,
    ];
    let mut findings: Vec<Finding<'_>> = checks.iter().flat_map(|check| check(&subject)).collect();
    findings.extend(subject.work.finding());
    let positions: HashMap<&str, usize> = (0..).zip(rules.rules()).map(|(at, rule)| (rule.id, at)).collect();
    findings.sort_by_key(|finding| (positions.get(finding.rule.id).copied(), finding.code));
    findings
}

type Check = for<'r> fn(&Subject<'r>) -> Vec<Finding<'r>>;

/// What is looked at.
struct Subject<'r> {
    rules: &'r Ruleset,
    now: i64,
    work: Work<'r>,
}

impl<'r> Subject<'r> {
    /// Rules that give something: neither denying nor a ceiling's.
    fn grants(&self) -> impl Iterator<Item = &'r Compiled> {
        self.rules.rules.iter().filter(|rule| rule.effect == Effect::Allow && rule.ceiling == 0)
    }

    /// All rules that may cover `rule`, and others, with their positions; each once, in their order. None where all
    /// work is spent.
    fn candidates(&self, rule: &'r Compiled) -> Vec<(u32, &'r Compiled)> {
        let mut positions = Vec::new();
        if !self.work.is_left_for(rule) {
            return Vec::new();
        }
        if let Some(host) = rule.hosts.first() {
            self.rules.index.for_host(Host::Name(&host.typical()), |found| {
                positions.extend(found.exactness.map(|_| found.position));
            });
        }
        if let Some(network) = rule.cidrs.first() {
            self.rules.index.for_address(network.base(), |found| positions.push(found.position));
        }
        self.at(positions)
    }

    /// All rules that may name a host that `rule` names, each once, in their order. None where all work is spent.
    fn about_hosts_of(&self, rule: &'r Compiled) -> Vec<&'r Compiled> {
        let mut positions = Vec::new();
        if !self.work.is_left_for(rule) {
            return Vec::new();
        }
        for host in &rule.hosts {
            let HostPattern::Exact(name) = host else { return self.rules.rules.iter().collect() };
            self.rules.index.for_host(Host::Name(name), |found| positions.push(found.position));
        }
        self.at(positions).into_iter().map(|(_, rule)| rule).collect()
    }

    fn at(&self, mut positions: Vec<u32>) -> Vec<(u32, &'r Compiled)> {
        positions.sort_unstable();
        positions.dedup();
        let at = |position: u32| self.rules.rules.get(usize::try_from(position).ok()?);
        positions.into_iter().filter_map(|position| Some((position, at(position)?))).collect()
    }
}

impl<'r> Finding<'r> {
    fn new(code: Code, severity: Severity, rule: &'r Compiled, text: impl Into<String>) -> Self {
        Self { code, severity, rule: rule.reference(), other: None, text: text.into() }
    }

    fn because_of(mut self, other: &'r Compiled) -> Self {
        self.other = Some(other.reference());
        self
    }
}

impl Severity {
    /// As in JSON.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Note => "note",
            Self::Warning => "warning",
            Self::Error => "error",
        }
    }
}

impl Code {
    /// As in JSON.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::AnyHost => "any-host",
            Self::PublicSuffix => "public-suffix",
            Self::Duplicate => "duplicate",
            Self::Shadowed => "shadowed",
            Self::Unreachable => "unreachable",
            Self::BeyondCeiling => "beyond-ceiling",
            Self::Expired => "expired",
            Self::CredentialInClear => "credential-in-clear",
            Self::CredentialAnywhere => "credential-anywhere",
            Self::ConditionsOnOpaqueHost => "conditions-on-opaque-host",
            Self::OpaqueNotInForce => "opaque-not-in-force",
            Self::SpecialAddresses => "special-addresses",
            Self::MetadataAddress => "metadata-address",
            Self::WriteCapable => "write-capable",
            Self::Untested => "untested",
            Self::NotCompared => "not-compared",
        }
    }
}

impl fmt::Display for Finding<'_> {
    /// One line; all text is the policy's.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (severity, code, rule) = (self.severity.as_str(), self.code.as_str(), self.rule);
        match rule.line {
            0 => write!(f, "{}: ", rule.file)?,
            line => write!(f, "{}:{line}: ", rule.file)?,
        }
        write!(f, "{severity}: rule \"{}\" {} [{code}]", rule.id, self.text)
    }
}
