//! What all connections of one sandbox share, and the moment of a decision.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use rustls::ClientConfig;

use super::control::Control;
use super::door::distrust::Distrust;
use super::door::dns::DnsState;
use super::door::token::Token;
use super::exchange::held::Budget;
use super::limiter::Limiter;
use super::trace::Span;
use super::upstream::local::Local;
use super::upstream::pool::Pool;
use super::upstream::proxy::UpstreamProxy;
use crate::audit::{Layer, Outcome, Record, milliseconds};
use crate::coding::Room;
use crate::guard::Guard;
use crate::hooks::{Ask, Audit, Authorize, Inject, Redact, Resolve};
use crate::id::{DecisionId, IdSource};
use crate::limits::Limits;
use crate::metrics::Metrics;
use crate::refuse::{Refusal, Subject};
use crate::tls::{ClientCertificates, LeafCache};

pub struct Shared {
    /// The sandbox's.
    pub name: Arc<str>,
    pub metrics: Metrics,
    pub authorize: Arc<dyn Authorize>,
    pub ask: Arc<dyn Ask>,
    pub inject: Arc<dyn Inject>,
    pub redact: Arc<dyn Redact>,
    pub audit: Arc<dyn Audit>,
    pub resolve: Arc<dyn Resolve>,
    pub ids: Arc<dyn IdSource>,
    pub limits: Limits,
    pub limiter: Limiter,
    pub guard: Guard,
    /// What is near this machine.
    pub local: Local,
    /// Memory for decoding answers.
    pub coding: Room,
    pub leaves: LeafCache,
    /// Clients that do not take what those are signed with.
    pub distrust: Distrust,
    /// Offers HTTP/1.1.
    pub upstream_tls: Arc<ClientConfig>,
    /// The same, but offers HTTP/2 first.
    pub upstream_tls_http2: Arc<ClientConfig>,
    pub client_certificates: ClientCertificates,
    pub pool: Pool,
    /// What bodies that are held take up.
    pub held: Arc<Budget>,
    pub control: Control,
    pub dns: DnsState,
    pub upstream_proxies: BTreeMap<Arc<str>, UpstreamProxy>,
    /// What a SOCKS client must give as its user name, if anything.
    pub socks_token: Option<Token>,
}

/// One decision: its id and when it was taken.
#[derive(Clone)]
pub struct Decision {
    pub id: DecisionId,
    pub time: SystemTime,
    pub started: Instant,
    /// The policy that it is taken by, or an older one, as [`Control`] counts.
    pub policy: u64,
    pub span: Span,
}

impl Shared {
    pub fn begin(&self) -> Decision {
        let time = SystemTime::now();
        let unix = time.duration_since(UNIX_EPOCH).unwrap_or_default();
        let id = self.ids.mint(u64::try_from(unix.as_millis()).unwrap_or(0));
        let span = Span::decision(&id);
        Decision { id, time, started: Instant::now(), policy: self.control.policy(), span }
    }

    /// Records a refusal; `answered` says whether the client got it.
    pub fn record_refusal(&self, decision: &Decision, refusal: &Refusal, answered: bool) {
        let outcome = match (refusal.kind.is_denial(), &refusal.would_deny) {
            (true, _) => Outcome::Deny,
            (false, None) => Outcome::Error,
            (false, Some(_)) => Outcome::WouldDeny,
        };
        let mut record = Record::new(decision.time, decision.id.clone(), refusal.layer, outcome);
        record.rule = refusal.rule.clone();
        record.error = Some(refusal.kind.code());
        record.reason = Some(match &refusal.would_deny {
            Some(deny) if outcome == Outcome::WouldDeny => format!("{}; {}", deny.reason, refusal.detail),
            _ => refusal.detail.clone(),
        });
        record.generation = refusal.generation;
        record.about(refusal.subject.clone());
        let before = &refusal.before;
        record.bytes_up = before.bytes_up;
        record.credential = before.credential.clone();
        (record.ms_dns, record.ms_connect, record.ms_tls) = (before.ms_dns, before.ms_connect, before.ms_tls);
        record.ms_first_byte = before.ms_first_byte;
        record.status = answered.then(|| refusal.kind.status().as_u16());
        record.ms_total = milliseconds(decision.started.elapsed());
        self.record(&decision.span, record);
    }

    /// Records what nobody waited for: a verdict, or what it allows. The error says who is gone.
    pub fn record_unheard(
        &self,
        decision: &Decision,
        (layer, subject): (Layer, Subject),
        error: &'static str,
    ) {
        let mut record = Record::new(decision.time, decision.id.clone(), layer, Outcome::Error);
        record.error = Some(error);
        record.about(subject);
        record.ms_total = milliseconds(decision.started.elapsed());
        self.record(&decision.span, record);
    }

    /// Records what became of the policy as a whole.
    pub fn record_policy(&self, outcome: Outcome, error: Option<&'static str>, reason: String) {
        let decision = self.begin();
        let mut record = Record::new(decision.time, decision.id, Layer::Policy, outcome);
        record.error = error;
        record.reason = Some(reason);
        self.record(&decision.span, record);
    }

    /// Every record goes this way.
    pub fn record(&self, span: &Span, mut record: Record) {
        span.conclude(&record);
        record.sandbox = Some(Arc::clone(&self.name));
        self.metrics.count(&record);
        self.audit.record(record);
    }
}

/// Random bytes of one id.
const ID_RANDOM_BYTES: usize = 10;
/// Ids made of one call to the operating system. One call for each cost more than the decision that it names.
const IDS_PER_CALL: usize = 25;

/// The shipped id source: the operating system's randomness, in portions.
#[derive(Default)]
pub struct RandomIds(Mutex<Vec<[u8; ID_RANDOM_BYTES]>>);

impl IdSource for RandomIds {
    fn mint(&self, unix_ms: u64) -> DecisionId {
        let mut portion = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let random = portion.pop().or_else(|| {
            let mut fresh = [[0; ID_RANDOM_BYTES]; IDS_PER_CALL];
            getrandom::fill(fresh.as_flattened_mut()).ok()?;
            portion.extend_from_slice(&fresh);
            portion.pop()
        });
        // Ids only have to differ; without randomness the time alone still names the decision.
        DecisionId::new(unix_ms, random.unwrap_or_default())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn ids_of_one_moment_differ_within_and_between_portions() {
        let ids = RandomIds::default();
        let seen: HashSet<DecisionId> = (0..4 * IDS_PER_CALL).map(|_| ids.mint(7)).collect();
        assert_eq!(seen.len(), 4 * IDS_PER_CALL);
    }
}
