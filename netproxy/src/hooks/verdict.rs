//! What whoever decides answers: yes, with what goes with it, or no, with the reason.

use std::sync::Arc;

pub use crate::limits::RuleLimits;

/// The answer of [`Authorize`](super::Authorize).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// Go on.
    Allow(Allow),
    /// Refuse.
    Deny(Deny),
}

impl From<Allow> for Verdict {
    fn from(allow: Allow) -> Self {
        Self::Allow(allow)
    }
}

impl From<Deny> for Verdict {
    fn from(deny: Deny) -> Self {
        Self::Deny(deny)
    }
}

/// An allowed connection or request.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Allow {
    /// The rule that allows it; empty where it only passes since refusals are recorded (see [`Allow::decided_by`]).
    pub rule: Arc<str>,
    /// The name of the credential that the rule attaches, if any. A name, never a value.
    pub credential: Option<Arc<str>>,
    /// Only read for a connection.
    pub tls: TlsMode,
    /// The upstream proxy to go through, by the name it was registered with; `None` goes there directly.
    pub upstream: Option<Arc<str>>,
    /// Whether a pattern with a wildcard matched the host, and not the host's own name. Only read for a DNS name.
    pub wildcard: bool,
    /// How much the rule lets through.
    pub limits: RuleLimits,
    /// What becomes of a response that cannot be searched for secrets.
    pub on_opaque: OnOpaque,
    /// The refusal that is only recorded, where whoever decides rehearses.
    pub would_deny: Option<Arc<Deny>>,
    /// Which load of the policy decided, for the record.
    pub generation: Option<u64>,
    /// Whether no rule gives it, but the answer of [`Ask`](super::Ask). Set by the proxy.
    pub(crate) asked: bool,
}

impl Allow {
    /// Allowed by `rule`, without a credential, TLS inspected.
    #[must_use]
    pub fn by(rule: impl Into<Arc<str>>) -> Self {
        Self {
            rule: rule.into(),
            credential: None,
            tls: TlsMode::Inspect,
            upstream: None,
            wildcard: false,
            limits: RuleLimits::default(),
            on_opaque: OnOpaque::Refuse,
            would_deny: None,
            generation: None,
            asked: false,
        }
    }

    /// Refused, but the refusal is only recorded, with verdict `would_deny`. No credential is put in, and whatever
    /// the proxy itself refuses (special-purpose addresses, malformed requests, misused placeholders) stays refused.
    #[must_use]
    pub fn rehearsing(deny: Deny) -> Self {
        let rule = deny.rule.clone().unwrap_or_else(|| Arc::from(""));
        Self { generation: deny.generation, would_deny: Some(Arc::new(deny)), ..Self::by(rule) }
    }

    /// By the policy of this load.
    #[must_use]
    pub fn of_generation(mut self, generation: u64) -> Self {
        self.generation = Some(generation);
        self
    }

    /// The rule that decided, allowing or refusing.
    #[must_use]
    pub fn decided_by(&self) -> Option<Arc<str>> {
        match &self.would_deny {
            Some(deny) => deny.rule.clone(),
            None => Some(Arc::clone(&self.rule)),
        }
    }

    /// With the credential of this name.
    #[must_use]
    pub fn with_credential(mut self, name: impl Into<Arc<str>>) -> Self {
        self.credential = Some(name.into());
        self
    }

    /// Through the upstream proxy of this name.
    #[must_use]
    pub fn via(mut self, name: impl Into<Arc<str>>) -> Self {
        self.upstream = Some(name.into());
        self
    }

    /// By a pattern with a wildcard, if `wildcard`.
    #[must_use]
    pub fn with_wildcard(mut self, wildcard: bool) -> Self {
        self.wildcard = wildcard;
        self
    }

    /// With limits of the rule's own.
    #[must_use]
    pub fn with_limits(mut self, limits: RuleLimits) -> Self {
        self.limits = limits;
        self
    }

    /// With responses that cannot be searched handled this way.
    #[must_use]
    pub fn with_on_opaque(mut self, on_opaque: OnOpaque) -> Self {
        self.on_opaque = on_opaque;
        self
    }

    /// With TLS handled this way.
    #[must_use]
    pub fn with_tls(mut self, tls: TlsMode) -> Self {
        self.tls = tls;
        self
    }
}

/// What happens to the TLS of an allowed connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum TlsMode {
    /// Terminated with the sandbox's authority; every request inside is decided anew.
    #[default]
    Inspect,
    /// Passed through unread, after the `ClientHello` named the same host.
    Opaque,
}

/// What becomes of a response that must be searched for secrets and cannot be: in an unknown coding, or a part.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum OnOpaque {
    /// It is refused.
    #[default]
    Refuse,
    /// It passes unsearched, and its record says so; its headers and trailers are searched.
    Pass,
}

/// A refused connection, request or name.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Deny {
    /// The rule that denies it; `None` if no rule allows it.
    pub rule: Option<Arc<str>>,
    /// One sentence for the client.
    pub reason: String,
    /// What to do about it, for the client; a general hint stands in for `None`.
    pub hint: Option<String>,
    /// Which load of the policy decided, for the record.
    pub generation: Option<u64>,
    /// Somebody may be asked about it: see [`Ask`](super::Ask).
    pub may_ask: bool,
}

impl Deny {
    /// No rule allows it.
    #[must_use]
    pub fn unmatched(reason: impl Into<String>) -> Self {
        Self { rule: None, reason: reason.into(), hint: None, generation: None, may_ask: false }
    }

    /// `rule` denies it.
    #[must_use]
    pub fn by(rule: impl Into<Arc<str>>, reason: impl Into<String>) -> Self {
        Self { rule: Some(rule.into()), reason: reason.into(), hint: None, generation: None, may_ask: false }
    }

    /// By the policy of this load.
    #[must_use]
    pub fn of_generation(mut self, generation: u64) -> Self {
        self.generation = Some(generation);
        self
    }

    /// Unless [`Ask`](super::Ask) says otherwise.
    #[must_use]
    pub fn unless_asked(mut self) -> Self {
        self.may_ask = true;
        self
    }

    /// With a hint for the client.
    #[must_use]
    pub fn with_hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }
}
