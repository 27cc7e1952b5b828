//! Tokens that are renewed on the host before a request needs them.

use std::sync::{Arc, PoisonError};

use bytes::Bytes;
use credvault::limits::TOKEN_ANSWER_BYTES_MAX;
use credvault::{
    BindError, Masked, Next, OAuthError, Secret, Store, StoreError, Token, TokenLooks, TokenSource, Vault,
    mask_token_answer, os_clock, os_random,
};
use http::{HeaderName, HeaderValue};
use netproxy::hooks::{
    BoxFuture, Decided, HeaderFate, Inject, InjectError, Injected, Redact, RequestHead, ResponseFilter,
};
use tokio::runtime::Handle;
use tokio::sync::{Mutex, watch};
use zeroize::Zeroizing;

use crate::fetch::Fetch;
use crate::inject::Place;
use crate::keys::SecretSource;
use crate::redact::VaultRedact;
use crate::services::{Chosen, refresh_name};
use crate::sources::Sources;

/// Keeps a refresh token that replaces the one of this name.
pub type Keep = Arc<dyn Fn(&str, &Secret) + Send + Sync>;

/// Keeps it in the user's store, where the one that it replaces is from; what came from elsewhere comes from there again.
/// `report` is told if that fails.
#[must_use]
pub fn keep_in_store(
    sources: &Arc<Sources>,
    chosen: &Chosen,
    report: impl Fn(String) + Send + Sync + 'static,
) -> Keep {
    let stored = chosen.iter().filter(|(spec, _)| spec.source == SecretSource::Vault);
    let stored: Vec<String> = stored.map(|(spec, _)| spec.name.clone()).collect();
    let sources = Arc::clone(sources);
    Arc::new(move |name, value| {
        let is_stored = stored.iter().any(|stored| stored == name);
        if let Some(opened) = sources.in_use().filter(|_| is_stored)
            && let Err(error) = replace(&*opened.store, name, value)
        {
            report(format!("the new refresh token of {name} could not be stored: {error}"));
        }
    })
}

/// The end that the user gave the entry stays.
fn replace(store: &dyn Store, name: &str, value: &Secret) -> Result<(), StoreError> {
    let old = store.entries()?.into_iter().find(|stored| stored.name == name);
    store.put_until(name, value, old.and_then(|stored| stored.not_after_s)).map(|_| ())
}

/// The sources of one vault's tokens.
pub struct Renewals {
    vault: Arc<Vault>,
    sources: Vec<Renewed>,
    fetch: Fetch,
    keep: Keep,
}

struct Renewed {
    name: String,
    source: TokenSource,
    /// The first request renews, the others wait for it.
    turn: Mutex<()>,
    /// Closed once the last refresh token is stored.
    keeping: std::sync::Mutex<Option<watch::Receiver<()>>>,
}

impl Renewed {
    /// Stores a refresh token after those before it, in a thread of its own: the store's calls block.
    fn keep(&self, keep: &Keep, token: &Token) {
        let Some(refresh) = &token.refresh else { return };
        let (keep, name, value) = (Arc::clone(keep), self.name.clone(), refresh.duplicate());
        let (done, finished) = watch::channel(());
        let before = self.keeping.lock().unwrap_or_else(PoisonError::into_inner).replace(finished);
        let runtime = Handle::current();
        tokio::task::spawn_blocking(move || {
            if let Some(before) = before {
                runtime.block_on(closed(before));
            }
            keep(&name, &value);
            drop(done);
        });
    }

    /// Returns once all of them are stored.
    async fn kept(&self) {
        let last = self.keeping.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if let Some(last) = last {
            closed(last).await;
        }
    }
}

async fn closed(mut receiver: watch::Receiver<()>) {
    while receiver.changed().await.is_ok() {}
}

impl Renewals {
    /// For the sources of [`crate::services::bind`].
    #[must_use]
    pub fn new(vault: Arc<Vault>, sources: Vec<(String, TokenSource)>, fetch: Fetch, keep: Keep) -> Self {
        let renewed = |(name, source)| Renewed {
            name,
            source,
            turn: Mutex::default(),
            keeping: std::sync::Mutex::default(),
        };
        Self { vault, sources: sources.into_iter().map(renewed).collect(), fetch, keep }
    }

    /// Sees to it that the token of this number is good, and that what it was made from is stored.
    async fn renew(&self, number: usize) -> Result<(), String> {
        let Some(renewed) = self.sources.get(number) else { return Ok(()) };
        let Renewed { name, source, .. } = renewed;
        let _turn = renewed.turn.lock().await;
        // Of a token that the guest's own tool was given.
        renewed.kept().await;
        let explain = |error: &dyn std::fmt::Display| format!("credential `{name}`: {error}");
        let request = match source.next(os_clock()) {
            Ok(Next::Send(request)) => request,
            Ok(_) => return Ok(()),
            Err(error) => return Err(explain(&error)),
        };
        let ticket = request.ticket;
        let (status, body) = match self.fetch.send(request).await {
            Ok(answer) => answer,
            Err(error) => {
                source.failed(ticket, os_clock());
                return Err(explain(&error));
            }
        };
        let token =
            source.answer(ticket, os_clock(), (status, &body[..])).map_err(|error| explain(&error))?;
        renewed.keep(&self.keep, &token);
        renewed.kept().await;
        self.put(name, token).map_err(|error| explain(&error))
    }

    /// A new token, where requests and answers find it.
    fn put(&self, name: &str, token: Token) -> Result<(), BindError> {
        let as_body = refresh_name(name);
        if let Some(refresh) = token.refresh
            && self.vault.placeholder(&as_body).is_some()
        {
            let end = self.vault.version(&as_body).and_then(|(_, end)| end);
            self.vault.rotate(&as_body, refresh, end)?;
        }
        self.vault.rotate(name, token.access, Some(token.not_after_s)).map(|_| ())
    }

    /// What the guest's own tool may see of an answer of the token server; the host keeps the rest. An answer that is
    /// not understood does not pass: it could hold tokens.
    fn mask(&self, number: usize, body: &[u8]) -> Vec<u8> {
        let failure = |code: &str| format!("{{\"error\":\"{code}\"}}").into_bytes();
        let Some(renewed) = self.sources.get(number) else { return failure("server_error") };
        let Renewed { name, source, .. } = renewed;
        let (access, refresh) = (self.vault.placeholder(name), self.vault.placeholder(&refresh_name(name)));
        let (Some(access), Some(refresh)) = (access, refresh) else { return failure("server_error") };
        let looks = TokenLooks { access, refresh };
        match mask_token_answer(os_clock(), body, looks, &mut os_random) {
            Ok(Masked { body, token }) => {
                source.learn(&token);
                renewed.keep(&self.keep, &token);
                // Only a token that cannot stand in a header is refused, and that was checked when it was read.
                let _ = self.put(name, token);
                body
            }
            Err(OAuthError::Refused { code, .. }) => failure(&code),
            Err(_) => failure("server_error"),
        }
    }
}

/// Scrubs as the vault does, and masks what token servers answer to the guest.
pub struct TokenRedact {
    inner: VaultRedact,
    renewals: Arc<Renewals>,
}

impl TokenRedact {
    /// From the vault of `renewals`.
    #[must_use]
    pub fn new(renewals: Arc<Renewals>) -> Self {
        Self { inner: VaultRedact(Arc::clone(&renewals.vault)), renewals }
    }
}

impl Redact for TokenRedact {
    fn filter(&self, decided: &Decided<'_>) -> Option<Box<dyn ResponseFilter>> {
        let inner = self.inner.filter(decided)?;
        let place = Place::of(decided, None);
        let is_asked = |name: &str| self.renewals.vault.covers(&refresh_name(name), &place.target(decided));
        let number = self.renewals.sources.iter().position(|renewed| is_asked(&renewed.name));
        let Some(number) = number else { return Some(inner) };
        Some(Box::new(Answer {
            inner,
            renewals: Arc::clone(&self.renewals),
            number,
            held: Zeroizing::default(),
            scrubbed: 0,
        }))
    }
}

/// A token server's answer, held until it is whole.
struct Answer {
    inner: Box<dyn ResponseFilter>,
    renewals: Arc<Renewals>,
    number: usize,
    held: Zeroizing<Vec<u8>>,
    /// Hits of the scrubber in what was masked.
    scrubbed: u64,
}

impl ResponseFilter for Answer {
    fn header(&mut self, name: &HeaderName, value: &HeaderValue) -> HeaderFate {
        self.inner.header(name, value)
    }

    fn body(&mut self, chunk: Bytes) -> Bytes {
        // One byte more than may be, so that too much is seen to be too much.
        let room = (TOKEN_ANSWER_BYTES_MAX + 1).saturating_sub(self.held.len());
        if self.held.capacity() == 0 {
            // At once: a vector that grows leaves its old bytes behind.
            self.held.reserve_exact(TOKEN_ANSWER_BYTES_MAX + 1);
        }
        self.held.extend_from_slice(chunk.get(..room).unwrap_or(&chunk));
        Bytes::new()
    }

    fn finish(&mut self) -> Bytes {
        let masked = self.renewals.mask(self.number, &self.held);
        // A scrubber made now knows the new tokens, wherever else in the answer they stand.
        let mut scrubber = self.renewals.vault.scrubber();
        let mut clean = Vec::with_capacity(masked.len());
        scrubber.push(&masked, &mut clean);
        scrubber.finish(&mut clean);
        self.scrubbed = scrubber.redactions();
        clean.into()
    }

    fn redactions(&self) -> u64 {
        self.inner.redactions().saturating_add(1).saturating_add(self.scrubbed)
    }
}

/// Sees to it that tokens are good before another hook injects them.
pub struct RenewingInject<I> {
    inner: I,
    renewals: Arc<Renewals>,
}

impl<I: Inject> RenewingInject<I> {
    /// `inner` injects from the vault of `renewals`.
    #[must_use]
    pub fn new(inner: I, renewals: Arc<Renewals>) -> Self {
        Self { inner, renewals }
    }
}

impl<I: Inject> Inject for RenewingInject<I> {
    fn reads_body(&self, decided: &Decided<'_>, head: &RequestHead) -> bool {
        self.inner.reads_body(decided, head)
    }

    fn inject<'a>(
        &'a self,
        decided: &'a Decided<'a>,
        head: &'a mut RequestHead,
    ) -> BoxFuture<'a, Result<Injected, InjectError>> {
        Box::pin(async move {
            let mut failed = None;
            for (number, Renewed { name, .. }) in self.renewals.sources.iter().enumerate() {
                let target = Place::of(decided, Some(head));
                let own = self.renewals.vault.placeholder(&refresh_name(name));
                if let Some(own) = own
                    && self.renewals.vault.covers(&refresh_name(name), &target.target(decided))
                    // Servers that read the query as well would take the login from there.
                    && !(head.query.is_none()
                        && head.body.as_deref().is_some_and(|body| asked::asks_to_renew(body, own.as_str())))
                {
                    let reason = format!(
                        "the token server of `{name}` may only be asked to renew this sandbox's own login \
                         (no query; one grant_type=refresh_token with one refresh_token, its placeholder)"
                    );
                    return Err(InjectError::Refused { reason });
                }
                if self.renewals.vault.covers(name, &Place::of(decided, Some(head)).target(decided)) {
                    let renewals = Arc::clone(&self.renewals);
                    // A task of its own: a client that goes away must not leave a refresh token used and its
                    // successor unread.
                    let renewed = tokio::spawn(async move { renewals.renew(number).await });
                    failed = renewed.await.unwrap_or_else(|error| Err(error.to_string())).err().or(failed);
                }
            }
            match (self.inner.inject(decided, head).await, failed) {
                // The old token may be good still; if it is not, this is why.
                (Err(InjectError::Refused { .. }), Some(reason)) => Err(InjectError::Refused { reason }),
                (outcome, _) => outcome,
            }
        })
    }
}

mod asked;

#[cfg(test)]
mod tests;
