//! What the embedder decides, each a small trait with a safe do-nothing: [`Authorize`] ([`DenyAll`]),
//! [`Ask`] ([`AskNobody`]), [`Inject`] ([`InjectNothing`]), [`Redact`] ([`RedactNothing`]), [`Audit`] ([`AuditNothing`]) and
//! [`Resolve`] ([`ResolveNothing`], [`StaticResolve`]). They are called per request, never per byte.
//!
//! A hook sees only values that were parsed and made canonical; it is never handed raw bytes of a head.

mod audit;
mod authorize;
mod body;
mod facts;
mod inject;
mod redact;
mod resolve;
mod shared;
mod verdict;

use std::future::Future;
use std::pin::Pin;

pub use self::audit::{Audit, AuditNothing, AuditUnavailable};
pub use self::authorize::{Ask, AskNobody, Authorize, DenyAll};
pub use self::body::{BodyFilter, BodyRefused};
pub use self::facts::{AddressFacts, ConnectFacts, Decided, Miss, RequestFacts, Scheme};
pub use self::inject::{Inject, InjectError, InjectNothing, Injected, OwnAnswer, RequestHead};
pub use self::redact::{HeaderFate, Redact, RedactNothing, ResponseFilter};
pub use self::resolve::{Resolve, ResolveError, ResolveNothing, StaticResolve};
pub use self::verdict::{Allow, Deny, OnOpaque, RuleLimits, TlsMode, Verdict};
pub use crate::audit::Record;

/// The future that an asynchronous hook returns.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;
