//! Who puts credentials into requests.

use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderMap, Response};

use super::{BodyFilter, BoxFuture, Decided};

/// The parts of a decided request that [`Inject`] may change. Host, framing and connection headers are
/// written by the proxy afterwards; the path is what was judged and cannot change.
#[non_exhaustive]
pub struct RequestHead {
    /// End-to-end headers.
    pub headers: HeaderMap,
    /// The query without its `?`.
    pub query: Option<String>,
    /// The whole body, if [`Inject::reads_body`] asked for it; another one may be put in its place, of any length.
    pub body: Option<Bytes>,
    /// What the body has to pass through, if it is not in hand; empty when [`Inject`] is called.
    pub body_filter: Option<Box<dyn BodyFilter>>,
    /// What answers in the upstream's place, which is not dialled then; empty when [`Inject`] is called.
    pub answer: Option<OwnAnswer>,
}

/// An answer that a hook gets by means of its own. It runs in a task of its own and so to its end, whatever the client
/// does: for what must not be cut off in the middle. Whoever makes it bounds its time, its size and how many there are.
/// The client gets it like an upstream's, redacted as [`Redact`](super::Redact) sees fit once it is there.
pub type OwnAnswer = BoxFuture<'static, Response<Bytes>>;

impl RequestHead {
    /// With these headers and this query (without its `?`).
    #[must_use]
    pub fn new(headers: HeaderMap, query: Option<String>) -> Self {
        Self { headers, query, body: None, body_filter: None, answer: None }
    }
}

/// Without the body, which may hold a secret.
impl std::fmt::Debug for RequestHead {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RequestHead").field("headers", &self.headers).finish_non_exhaustive()
    }
}

/// What [`Inject`] did.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Injected {
    /// The name of the credential that was put in, for the audit record.
    pub credential: Option<Arc<str>>,
}

impl Injected {
    /// This credential was put in.
    #[must_use]
    pub fn credential(name: impl Into<Arc<str>>) -> Self {
        Self { credential: Some(name.into()) }
    }
}

/// Why a request cannot get its credential. None of the texts may hold a secret: clients see them.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum InjectError {
    /// The store has no such credential.
    #[error("the credential {name} does not exist on the host")]
    Missing {
        /// Its name.
        name: String,
    },
    /// The store is locked.
    #[error("the credential {name} is locked on the host")]
    Locked {
        /// Its name.
        name: String,
    },
    /// The request may not have it, e.g. a placeholder sent to another host.
    #[error("{reason}")]
    Refused {
        /// One sentence for the client.
        reason: String,
    },
}

/// Puts credentials into decided requests. Also called when the verdict names no credential, so that a
/// placeholder sent to the wrong place can be refused. The body is passed on as it comes, encoded or not.
pub trait Inject: Send + Sync {
    /// Whether [`RequestHead::body`] must be in hand, because a signature covers it or a placeholder is in it. Then
    /// nothing is sent before the whole body is here; one larger than [`crate::limits::Limits::held_body_bytes_max`]
    /// is refused (413).
    fn reads_body(&self, _decided: &Decided<'_>, _head: &RequestHead) -> bool {
        false
    }

    /// Alters `head`.
    ///
    /// # Errors
    /// [`InjectError`] refuses the request; nothing of it is sent.
    fn inject<'a>(
        &'a self,
        decided: &'a Decided<'a>,
        head: &'a mut RequestHead,
    ) -> BoxFuture<'a, Result<Injected, InjectError>>;
}

/// Changes nothing.
#[derive(Debug, Clone, Copy, Default)]
pub struct InjectNothing;

impl Inject for InjectNothing {
    fn inject<'a>(
        &'a self,
        _: &'a Decided<'a>,
        _: &'a mut RequestHead,
    ) -> BoxFuture<'a, Result<Injected, InjectError>> {
        Box::pin(std::future::ready(Ok(Injected::default())))
    }
}
