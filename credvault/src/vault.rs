//! The vault of one sandbox: bindings, their secrets, their placeholders.
//!
//! ```text
//! store ─▶ Secret ─┐
//! binding ─────────┼─▶ Vault ─▶ env()       placeholders for the guest
//! randomness ──────┘         ├─▶ inject()    request: placeholder or nothing ─▶ credential
//!                            └─▶ scrubber()  response: credential ─▶ placeholder
//! ```
//!
//! Must never put a credential into a request that its binding does not cover, and never let one of its
//! placeholders through to another target.

mod apply;
mod build;
mod version;

use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::{fmt, io};

use zeroize::Zeroizing;

use crate::binding::{Binding, Endpoint};
use crate::headers::{BadHeader, HeaderAccess};
use crate::injection::{Injection, replace_all};
use crate::limits::BODY_BYTES_MAX;
use crate::lock::Protection;
use crate::placeholder::Placeholder;
use crate::scrub::{Patterns, ScrubSet, Scrubber};
use crate::sign::{ChunkResigner, Payload, SignError};
use crate::target::Target;
pub use build::{BindError, VaultBuilder};
use version::Versions;

/// Source of randomness: fills the buffer. [`crate::os_random`] outside tests.
pub type Random<'a> = &'a mut dyn FnMut(&mut [u8]) -> io::Result<()>;

/// Credentials of one sandbox. Build it with [`Vault::builder`], share it with `Arc`.
pub struct Vault {
    entries: Vec<Entry>,
    placeholders: Patterns,
    scrub: RwLock<Arc<ScrubSet>>,
    /// Held while a value is replaced.
    rotating: Mutex<()>,
    clock: Clock,
}

/// A body with a credential in it, and its name.
pub type ReplacedBody<'v> = (Zeroizing<Vec<u8>>, &'v str);

/// A clock: seconds since 1970.
pub type Clock = Box<dyn Fn() -> u64 + Send + Sync>;

struct Entry {
    binding: Binding,
    versions: RwLock<Versions>,
    placeholder: Placeholder,
    companions: Vec<Placeholder>,
}

/// What [`Vault::inject`] did.
#[derive(Default)]
#[non_exhaustive]
pub struct InjectOutcome<'v> {
    /// Name of the credential that is in the request now; `None` if the request was left as it was.
    pub credential: Option<&'v str>,
    /// What to send in place of the query, or of none if it is empty; may hold the secret. `None`: the query stays.
    pub query: Option<Zeroizing<String>>,
    /// What the body has to pass through, if [`Payload::Streamed`] was promised and is needed.
    pub chunks: Option<ChunkResigner>,
}

/// Without the query, which may hold a secret.
impl fmt::Debug for InjectOutcome<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("InjectOutcome").field("credential", &self.credential).finish_non_exhaustive()
    }
}

/// Where in a request a placeholder was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// A header's value or name.
    Header,
    /// The path.
    Url,
    /// The query.
    Query,
    /// The body.
    Body,
}

/// Why a request must be refused. The texts may be shown to the guest: they name no secret.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum InjectError {
    /// A placeholder on its way to a place that its credential is not bound to.
    #[error(
        "the placeholder of credential `{name}` was sent to a target it is not bound to: send it to its own service only"
    )]
    PlaceholderElsewhere {
        /// The credential.
        name: String,
        /// Where it was found.
        place: Place,
    },
    /// A placeholder in path or query: the credential would end up in logs.
    #[error("the placeholder of credential `{name}` is in the URL: send it in a header")]
    PlaceholderInUrl {
        /// The credential.
        name: String,
    },
    /// Two credentials fit and nothing tells which is meant.
    #[error(
        "credentials `{first}` and `{second}` both fit this request: send the placeholder of one, or name one in the rule"
    )]
    Ambiguous {
        /// One.
        first: String,
        /// The other.
        second: String,
    },
    /// A rule names a credential that this vault does not have.
    #[error(
        "the rule wants credential `{name}`, which this sandbox does not have: add it, or remove it from the rule"
    )]
    NoSuchCredential {
        /// The credential.
        name: String,
    },
    /// A rule names a credential for a target that it is not bound to.
    #[error(
        "the rule wants credential `{name}`, which is not bound to this target: bind it to scheme, host, port, method and path"
    )]
    NotBound {
        /// The credential.
        name: String,
    },
    /// Its store was locked when it was bound, and no value has come since ([`VaultBuilder::bind_locked`]).
    #[error("credential `{name}` is in a store on the host that is locked: unlock it there")]
    Locked {
        /// The credential.
        name: String,
    },
    /// The credential's time is over and no newer one has come.
    #[error("credential `{name}` has expired on the host: renew it there")]
    Expired {
        /// The credential.
        name: String,
    },
    /// The request cannot be signed.
    #[error("credential `{name}`: {reason}")]
    Sign {
        /// The credential.
        name: String,
        /// Why.
        reason: SignError,
    },
    /// The header type refused the value.
    #[error(transparent)]
    Header(#[from] BadHeader),
}

impl Vault {
    /// Begins a vault.
    #[must_use]
    pub fn builder() -> VaultBuilder {
        VaultBuilder::default()
    }

    /// Variables for the guest's environment, with placeholders as values.
    pub fn env(&self) -> impl Iterator<Item = (&str, &str)> {
        self.entries.iter().flat_map(|entry| {
            let first = entry.binding.env.iter().map(|variable| (variable, &entry.placeholder));
            let pairs = entry.binding.companions.iter().zip(&entry.companions);
            let others = pairs.flat_map(|(companion, placeholder)| {
                companion.env.iter().map(move |variable| (variable, placeholder))
            });
            first.chain(others).map(|(variable, placeholder)| (variable.as_str(), placeholder.as_str()))
        })
    }

    /// Whether there is nothing to inject and nothing to scrub, so that bodies may pass untouched.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// The bindings, to show them.
    pub fn bindings(&self) -> impl Iterator<Item = &Binding> {
        self.entries.iter().map(|entry| &entry.binding)
    }

    /// What the system granted for the memory of all secrets: a part is true if it is for each.
    #[must_use]
    pub fn protection(&self) -> Protection {
        self.entries
            .iter()
            .filter_map(|entry| Some(entry.current()?.secret.protection()))
            .fold(Protection::FULL, Protection::and)
    }

    /// Names of the credentials.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.entries.iter().map(|entry| entry.binding.name.as_str())
    }

    /// The placeholder of a credential.
    #[must_use]
    pub fn placeholder(&self, name: &str) -> Option<&Placeholder> {
        self.entries.iter().find(|entry| entry.binding.name == name).map(|entry| &entry.placeholder)
    }

    /// Makes a request to `target` an authenticated one, or leaves it alone if no credential is bound
    /// there. Call it for every request, also for those that need no credential: it is what finds
    /// placeholders that leave for elsewhere.
    ///
    /// With a header or Basic injection the client's own authentication headers are removed; with a
    /// replacement, only requests that carry the placeholder get the credential.
    ///
    /// # Errors
    /// [`InjectError`]: refuse the request. Its headers are unchanged, except after
    /// [`InjectError::Header`].
    pub fn inject(
        &self,
        target: &Target<'_>,
        headers: &mut dyn HeaderAccess,
    ) -> Result<InjectOutcome<'_>, InjectError> {
        self.inject_with(target, headers, Payload::Unknown)
    }

    /// Only looks for placeholders that leave for elsewhere, and puts nothing in: for a request that may pass without
    /// its credential.
    ///
    /// # Errors
    /// [`InjectError`]: refuse the request.
    pub fn check(&self, target: &Target<'_>, headers: &dyn HeaderAccess) -> Result<(), InjectError> {
        self.checked_placeholders(target, headers).map(|_| ())
    }

    /// As [`Vault::inject`], for signatures that cover the body.
    ///
    /// # Errors
    /// [`InjectError`]: refuse the request.
    pub fn inject_with(
        &self,
        target: &Target<'_>,
        headers: &mut dyn HeaderAccess,
        payload: Payload<'_>,
    ) -> Result<InjectOutcome<'_>, InjectError> {
        match self.chosen(target, headers)? {
            Some((entry, endpoint)) => {
                entry.apply(endpoint, &apply::Sending { target, payload, clock: &self.clock }, headers)
            }
            None => Ok(InjectOutcome::default()),
        }
    }

    /// Whether the whole body has to be passed to [`Vault::inject_with`] ([`Payload::Bytes`]), since a signature
    /// covers it and the head does not name its hash, or to [`Vault::replace_in_body`]. `rule` is the name of the
    /// credential that a rule chose, if it did.
    #[must_use]
    pub fn needs_body(&self, rule: Option<&str>, target: &Target<'_>, headers: &dyn HeaderAccess) -> bool {
        // Nearly no endpoint has to do with bodies, and then nothing is searched.
        if !self.bound(target).any(|(_, endpoint)| endpoint.injection.may_need_body()) {
            return false;
        }
        if self.bound(target).any(|(_, endpoint)| endpoint.injection == Injection::Body) {
            return true;
        }
        let chosen = match rule {
            Some(name) => self.named(name, target).map(Some),
            None => self.chosen(target, headers),
        };
        // What is wrong is for `inject` to say.
        chosen.ok().flatten().is_some_and(|(_, endpoint)| match &endpoint.injection {
            Injection::Hmac(template) => template.covers_body(),
            Injection::AwsSigV4 => apply::signature_lacks_hash(target, headers),
            _ => false,
        })
    }

    /// Whether the credential of this name is bound to `target`.
    #[must_use]
    pub fn covers(&self, name: &str, target: &Target<'_>) -> bool {
        self.named(name, target).is_ok()
    }

    /// Whether any credential is bound to `host` (canonical), at any port and path, in such a way that its value is sent
    /// there: not by signatures (HMAC, AWS Signature V4). The session token that goes beside a signature opens nothing without
    /// the key that made it.
    #[must_use]
    pub fn sends_to(&self, host: &str) -> bool {
        self.entries.iter().any(|entry| {
            let is_meant = |endpoint: &Endpoint| endpoint.hosts.iter().any(|pattern| pattern.matches(host));
            let mut meant = entry.binding.endpoints.iter().filter(|endpoint| is_meant(endpoint));
            meant.any(|endpoint| endpoint.injection.sends_value())
        })
    }

    fn bound(&self, target: &Target<'_>) -> impl Iterator<Item = Bound<'_>> {
        self.entries.iter().filter_map(move |entry| Some((entry, entry.binding.endpoint(target)?)))
    }

    /// The one credential for this request, by its placeholder or else by its target.
    fn chosen(
        &self,
        target: &Target<'_>,
        headers: &dyn HeaderAccess,
    ) -> Result<Option<Bound<'_>>, InjectError> {
        let present = self.checked_placeholders(target, headers)?;
        let is_shown = |entry: &Entry| present.iter().any(|&other| std::ptr::eq(entry, other));
        match only_one(self.bound(target).filter(|(entry, _)| is_shown(entry)))? {
            Some(shown) => Ok(Some(shown)),
            None => only_one(self.bound(target).filter(|(_, endpoint)| endpoint.injection.is_unasked())),
        }
    }

    /// As [`Vault::inject_with`], with the credential that a rule names. The binding still has to cover the
    /// target: a rule can choose, not widen.
    ///
    /// # Errors
    /// [`InjectError`]: refuse the request.
    pub fn inject_named_with(
        &self,
        name: &str,
        target: &Target<'_>,
        headers: &mut dyn HeaderAccess,
        payload: Payload<'_>,
    ) -> Result<InjectOutcome<'_>, InjectError> {
        self.checked_placeholders(target, headers)?;
        let (entry, endpoint) = self.named(name, target)?;
        entry.apply(endpoint, &apply::Sending { target, payload, clock: &self.clock }, headers)
    }

    /// [`Vault::inject_named_with`] without knowledge of the body.
    ///
    /// # Errors
    /// [`InjectError`]: refuse the request.
    pub fn inject_named(
        &self,
        name: &str,
        target: &Target<'_>,
        headers: &mut dyn HeaderAccess,
    ) -> Result<InjectOutcome<'_>, InjectError> {
        self.inject_named_with(name, target, headers, Payload::Unknown)
    }

    /// The whole body of a request with every placeholder replaced, where an endpoint says `body`, and the name of
    /// the (last) credential that is in it now; `None` if there is nothing to do.
    ///
    /// # Errors
    /// [`InjectError`]: refuse the request, since a placeholder is in a body bound for elsewhere.
    pub fn replace_in_body(
        &self,
        target: &Target<'_>,
        body: &[u8],
    ) -> Result<Option<ReplacedBody<'_>>, InjectError> {
        let mut present = Vec::new();
        self.collect(body, Place::Body, &mut present);
        let mut out: Option<ReplacedBody<'_>> = None;
        for (entry, place) in present {
            let name = entry.binding.name.clone();
            let Some(endpoint) = entry.binding.endpoint(target) else {
                return Err(InjectError::PlaceholderElsewhere { name, place });
            };
            if endpoint.injection == Injection::Body && body.len() <= BODY_BYTES_MAX {
                let secret = entry.live(&self.clock)?;
                let text = out.as_ref().map_or(body, |(text, _)| text.as_slice());
                let new = replace_all(text, entry.placeholder.as_bytes(), secret.secret.expose());
                out = new.map(|text| (text, entry.binding.name.as_str())).or(out);
            }
        }
        Ok(out)
    }

    fn named(&self, name: &str, target: &Target<'_>) -> Result<Bound<'_>, InjectError> {
        let name_owned = || name.to_owned();
        let entry = self.entry(name).ok_or_else(|| InjectError::NoSuchCredential { name: name_owned() })?;
        let endpoint =
            entry.binding.endpoint(target).ok_or_else(|| InjectError::NotBound { name: name_owned() })?;
        Ok((entry, endpoint))
    }

    fn entry(&self, name: &str) -> Option<&Entry> {
        self.entries.iter().find(|entry| entry.binding.name == name)
    }

    /// Whether a path or query holds one of our placeholders, in any of its forms.
    ///
    /// # Errors
    /// [`InjectError::PlaceholderInUrl`].
    pub fn check_url(&self, path: &str) -> Result<(), InjectError> {
        match self.placeholders.find(path.as_bytes()).and_then(|hit| self.entries.get(hit.owner)) {
            Some(entry) => Err(InjectError::PlaceholderInUrl { name: entry.binding.name.clone() }),
            None => Ok(()),
        }
    }

    /// A scrubber for one response: its body or another stream, headers and trailers. It knows every secret of this
    /// vault: a service may echo what it got from another one. What is replaced later it is told by [`Vault::update`].
    #[must_use]
    pub fn scrubber(&self) -> Scrubber {
        Scrubber::new(self.scrub_set())
    }

    /// Tells a scrubber of the values that have come since it was made: before each chunk, header or message of a
    /// response that may last. It keeps all that it knew when it was made. Costs next to nothing when there are none.
    pub fn update(&self, scrubber: &mut Scrubber) {
        scrubber.also(&self.scrub.read().unwrap_or_else(PoisonError::into_inner));
    }

    /// Scrubs one value, of what answers are scrubbed of at this moment; `None` when it is clean.
    #[must_use]
    pub fn scrub_value(&self, value: &[u8]) -> Option<Vec<u8>> {
        self.scrub_set().scrub_value(value)
    }

    fn scrub_set(&self) -> Arc<ScrubSet> {
        Arc::clone(&self.scrub.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// The entries whose placeholders the request carries; all of them are bound to `target`.
    fn checked_placeholders(
        &self,
        target: &Target<'_>,
        headers: &dyn HeaderAccess,
    ) -> Result<Vec<&Entry>, InjectError> {
        let mut present: Vec<(&Entry, Place)> = Vec::new();
        let (path, query) = target.path.split_once('?').unwrap_or((target.path, ""));
        self.collect(path.as_bytes(), Place::Url, &mut present);
        self.collect(query.as_bytes(), Place::Query, &mut present);
        headers.visit(&mut |name, value| {
            self.collect(name, Place::Header, &mut present);
            self.collect(value, Place::Header, &mut present);
            true
        });
        for &(entry, place) in &present {
            let name = || entry.binding.name.clone();
            let Some(endpoint) = entry.binding.endpoint(target) else {
                return Err(InjectError::PlaceholderElsewhere { name: name(), place });
            };
            let may_be_in_query = place == Place::Query && endpoint.injection.reads_query();
            if matches!(place, Place::Url | Place::Query) && !may_be_in_query {
                return Err(InjectError::PlaceholderInUrl { name: name() });
            }
        }
        Ok(present.into_iter().map(|(entry, _)| entry).collect())
    }

    fn collect<'v>(&'v self, text: &[u8], place: Place, present: &mut Vec<(&'v Entry, Place)>) {
        for hit in self.placeholders.hits(text, text.len()) {
            if let Some(entry) = self.entries.get(hit.owner)
                && !present.iter().any(|&(other, at)| std::ptr::eq(other, entry) && at == place)
            {
                present.push((entry, place));
            }
        }
    }
}

type Bound<'v> = (&'v Entry, &'v Endpoint);

fn only_one<'v>(mut fitting: impl Iterator<Item = Bound<'v>>) -> Result<Option<Bound<'v>>, InjectError> {
    match (fitting.next(), fitting.next()) {
        (Some((first, _)), Some((second, _))) => Err(InjectError::Ambiguous {
            first: first.binding.name.clone(),
            second: second.binding.name.clone(),
        }),
        (one, _) => Ok(one),
    }
}

#[cfg(test)]
mod signing_tests;
#[cfg(test)]
mod tests;
