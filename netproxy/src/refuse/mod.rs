//! One refusal, rendered for whoever asked: HTTP 403 and its relatives with RFC 9457 JSON and an RFC 9209
//! `Proxy-Status`, or NXDOMAIN with RFC 8914 EDE 15. A refusal of ours can be told from any answer of an
//! upstream: only ours has a `Proxy-Status` member of our name, since forged ones are removed.
//!
//! It never echoes a header value, a query or a body, and never text that was not escaped.

mod answer;
mod forged;
mod kind;

use std::borrow::Cow;
use std::sync::Arc;

use http::HeaderName;

pub use self::answer::{dns_extra_text, head_shows_words_only, http_response, http1_bytes, shows_words_only};
pub use self::forged::strip_forged_proxy_status;
pub use self::kind::Kind;
use crate::audit::Layer;
use crate::hooks::{Allow, Deny, InjectError, Scheme};
use crate::wire::head::HeadError;

/// The name of our member in `Proxy-Status`.
pub const PROXY_NAME: &str = "agent-sandbox";
/// RFC 9209.
pub const PROXY_STATUS: HeaderName = HeaderName::from_static("proxy-status");

/// What was asked for, as far as it is known.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Subject {
    /// Scheme.
    pub scheme: Option<Scheme>,
    /// Canonical host.
    pub host: Option<Arc<str>>,
    /// Port.
    pub port: Option<u16>,
    /// Method.
    pub method: Option<Cow<'static, str>>,
    /// Path without its query.
    pub path: Option<Arc<str>>,
    /// Whether it is the handshake of a WebSocket.
    pub websocket: bool,
}

/// One refusal, whole.
#[derive(Debug, Clone, PartialEq)]
pub struct Refusal {
    /// What kind.
    pub kind: Kind,
    /// Where it was decided.
    pub layer: Layer,
    /// By which rule.
    pub rule: Option<Arc<str>>,
    /// One sentence.
    pub detail: String,
    /// What to do; `None` for the general hint of the kind.
    pub hint: Option<String>,
    /// What was asked for.
    pub subject: Subject,
    /// Whether the client is answered in plain words instead of JSON.
    pub words: bool,
    /// What the policy would have refused it for, had this not come first.
    pub would_deny: Option<Arc<Deny>>,
    /// Which load of the policy took part.
    pub generation: Option<u64>,
    /// What had come of it.
    pub before: Before,
}

/// What had come of a request or connection before it was refused; times are in milliseconds, as in
/// [`Record`](crate::audit::Record), and those of what failed are how long that took.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Before {
    /// Bytes of the request's body that had gone to the upstream.
    pub bytes_up: u64,
    /// The credential that was put in: the upstream may have it.
    pub credential: Option<Arc<str>>,
    /// To resolve the name and judge its addresses.
    pub ms_dns: Option<f64>,
    /// To dial.
    pub ms_connect: Option<f64>,
    /// Of the TLS handshake with the upstream.
    pub ms_tls: Option<f64>,
    /// To the head of the upstream's answer.
    pub ms_first_byte: Option<f64>,
}

impl Refusal {
    /// The same for a request that waited for what another one did.
    #[must_use]
    pub fn of_another(&self) -> Box<Self> {
        Box::new(Self { before: Before::default(), ..self.clone() })
    }

    /// A refusal of ours that no rule took part in.
    #[must_use]
    pub fn new(kind: Kind, layer: Layer, detail: impl Into<String>) -> Self {
        Self {
            kind,
            layer,
            rule: None,
            detail: detail.into(),
            hint: None,
            subject: Subject::default(),
            words: false,
            would_deny: None,
            generation: None,
            before: Before::default(),
        }
    }

    /// A verdict of the policy.
    #[must_use]
    pub fn policy(layer: Layer, deny: Deny) -> Self {
        let generation = deny.generation;
        Self { rule: deny.rule, hint: deny.hint, generation, ..Self::new(Kind::Policy, layer, deny.reason) }
    }

    /// A credential that cannot be put in.
    #[must_use]
    pub fn inject(error: &InjectError) -> Self {
        let kind = match error {
            InjectError::Missing { .. } => Kind::CredentialMissing,
            InjectError::Locked { .. } => Kind::CredentialLocked,
            InjectError::Refused { .. } => Kind::CredentialRefused,
        };
        Self::new(kind, Layer::Http, error.to_string())
    }

    /// A head that is not acceptable.
    #[must_use]
    pub fn head(error: HeadError) -> Self {
        let kind = match error {
            HeadError::TooLarge | HeadError::TooManyFields => Kind::HeadTooLarge,
            _ => Kind::Malformed,
        };
        Self::new(kind, Layer::Http, error.to_string())
    }

    /// With what was asked for.
    #[must_use]
    pub fn about(mut self, subject: Subject) -> Self {
        self.subject = subject;
        self
    }

    /// Of something that this verdict had let pass.
    #[must_use]
    pub fn after(self, allow: &Allow) -> Self {
        let (would_deny, generation) = (allow.would_deny.clone(), allow.generation);
        Self { rule: allow.decided_by(), would_deny, generation, ..self }
    }

    /// With the rule that took part.
    #[must_use]
    pub fn under(mut self, rule: Option<Arc<str>>) -> Self {
        self.rule = rule;
        self
    }
}
