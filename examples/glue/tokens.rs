//! Tokens that are renewed on the host before a request needs them, or when a tool of the guest asks for it.
//!
//! ```text
//! request with a token  ─▶ good for a while? ──────────────────────────────────────────▶ injected
//!                                        └▶ turn ─▶ task: ask ─▶ store ─▶ vault ─▶ turn ends ─▶ injected
//! guest's own renewal   ─▶ not so soon? ─▶ turn ─▶ task: ask ─▶ store ─▶ vault ─▶ turn ends ─▶ masked answer
//!                                        └▶ a masked answer with the token in use
//! ```
//!
//! A refresh token is mostly good for one use, so whoever asks with it has the turn of its source, from before the request
//! is made until its successor is in the vault; and asks in a task of its own, so that no client that hangs up can leave a
//! refresh token used and its successor unread.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, MutexGuard, PoisonError};
use std::time::Duration;

use credvault::limits::TOKEN_EARLY_S;
use credvault::{
    BindError, Next, Secret, Store, StoreError, Token, TokenRequest, TokenSource, Vault, os_clock,
};
use netproxy::hooks::{BoxFuture, Decided, Inject, InjectError, Injected, RequestHead};
use tokio::sync::{Mutex, OwnedMutexGuard};
use tokio::task::spawn_blocking;
use tokio::time::timeout;

use crate::fetch::{FETCH_TIME, Fetch};
use crate::inject::Place;
use crate::keys::SecretSource;
use crate::services::{Chosen, refresh_name};
use crate::sources::Sources;
use pace::Pace;

/// What storing may take, where the program waits for it to end.
const KEEP_TIME: Duration = Duration::from_secs(10);

/// Keeps a refresh token that replaces the one of this name.
pub type Keep = Arc<dyn Fn(&str, &Secret) + Send + Sync>;

/// Tells the user, in a sentence without a secret.
pub type Report = Arc<dyn Fn(String) + Send + Sync>;

/// Keeps it in the user's store, where the one that it replaces is from; what came from elsewhere comes from there again.
/// `report` is told if that fails.
#[must_use]
pub fn keep_in_store(sources: &Arc<Sources>, chosen: &Chosen, report: Report) -> Keep {
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
    report: Report,
    /// No renewal begins any more.
    ended: AtomicBool,
}

struct Renewed {
    name: String,
    source: TokenSource,
    /// Whoever has it may ask the token server.
    turn: Arc<Mutex<()>>,
    /// Held by the one of the guest's that waits for it.
    guests: Mutex<()>,
    pace: std::sync::Mutex<Pace>,
}

impl Renewed {
    fn new((name, source): (String, TokenSource)) -> Self {
        Self {
            name,
            source,
            turn: Arc::default(),
            guests: Mutex::default(),
            pace: std::sync::Mutex::default(),
        }
    }

    fn pace(&self) -> MutexGuard<'_, Pace> {
        self.pace.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Held by whoever asks the token server of a source.
type Turn = OwnedMutexGuard<()>;

impl Renewals {
    /// For the sources of [`crate::services::bind`]. `report` is told how the renewals end that the guest asked for: its
    /// tool may have hung up, and then nobody else is.
    #[must_use]
    pub fn new(
        vault: Arc<Vault>,
        sources: Vec<(String, TokenSource)>,
        fetch: Fetch,
        (keep, report): (Keep, Report),
    ) -> Self {
        let sources = sources.into_iter().map(Renewed::new).collect();
        Self { vault, sources, fetch, keep, report, ended: AtomicBool::new(false) }
    }

    /// Lets no further renewal begin, and waits for those under way: with the program, what they are answered would be lost.
    /// That may take forty seconds: `waits` is told if there is one.
    pub async fn finish(&self, waits: impl FnOnce(&str)) {
        self.ended.store(true, Ordering::Release);
        if self.sources.iter().any(|renewed| renewed.turn.try_lock().is_err()) {
            waits("a token is being renewed: waiting for what its server answers, which would be lost");
        }
        let all = async {
            for renewed in &self.sources {
                drop(renewed.turn.lock().await);
            }
        };
        // One that hangs in the user's store is not waited for: nobody could tell why.
        let _ = timeout(FETCH_TIME.saturating_add(KEEP_TIME), all).await;
    }

    /// Waits for the renewal under way, if there is one.
    async fn turn(&self, renewed: &Renewed) -> Result<Turn, String> {
        let turn = Arc::clone(&renewed.turn).lock_owned().await;
        match self.ended.load(Ordering::Acquire) {
            true => {
                Err(format!("credential `{}`: it is not renewed any more, the program ends", renewed.name))
            }
            false => Ok(turn),
        }
    }

    /// Whether the token in the vault is good for a while. What is there was stored before.
    fn is_good(&self, name: &str) -> bool {
        let end = self.vault.version(name).and_then(|(_, end)| end);
        end.is_some_and(|end| os_clock().saturating_add(TOKEN_EARLY_S) < end)
    }

    /// Sees to it that the token of this number is good, and that what it was made from is stored.
    async fn renew(self: &Arc<Self>, number: usize) -> Result<(), String> {
        let Some(renewed) = self.sources.get(number) else { return Ok(()) };
        if self.is_good(&renewed.name) {
            return Ok(());
        }
        let turn = self.turn(renewed).await?;
        let request = match renewed.source.next(os_clock()) {
            Ok(Next::Send(request)) => request,
            Ok(_) => return Ok(()),
            Err(error) => return Err(format!("credential `{}`: {error}", renewed.name)),
        };
        let renewals = Arc::clone(self);
        let task = tokio::spawn(async move { renewals.ask(number, request, turn).await });
        task.await.unwrap_or_else(|error| Err(error.to_string()))
    }

    /// Asks the token server for the host.
    async fn ask(&self, number: usize, request: TokenRequest, _turn: Turn) -> Result<(), String> {
        let Some(renewed) = self.sources.get(number) else { return Ok(()) };
        let Renewed { name, source, .. } = renewed;
        let explain = |error: &dyn std::fmt::Display| format!("credential `{name}`: {error}");
        let ticket = request.ticket;
        let (status, body) = self.fetch.send(request).await.map_err(|error| {
            source.failed(ticket, os_clock());
            explain(&error)
        })?;
        let answer = source.answer(ticket, os_clock(), (status.as_u16(), &body[..]));
        let token = answer.map_err(|error| explain(&error))?;
        self.take(renewed, token).await.map_err(|error| explain(&error))
    }

    /// Stores what replaces the refresh token, and only then puts both where requests and answers find them.
    async fn take(&self, renewed: &Renewed, token: Token) -> Result<(), String> {
        let Token { access, refresh, not_after_s } = token;
        if let Some(refresh) = &refresh {
            let (keep, name, value) = (Arc::clone(&self.keep), renewed.name.clone(), refresh.duplicate());
            // The store's calls block. One at a time for each source, as its turn is held. What fails there is told there.
            let _ = spawn_blocking(move || keep(&name, &value)).await;
        }
        renewed.pace().took(os_clock(), not_after_s);
        let (vault, name) = (Arc::clone(&self.vault), renewed.name.clone());
        let rotate = move || {
            let as_body = refresh_name(&name);
            if let Some(refresh) = refresh
                && vault.placeholder(&as_body).is_some()
            {
                let end = vault.version(&as_body).and_then(|(_, end)| end);
                vault.rotate(&as_body, refresh, end)?;
            }
            vault.rotate(&name, access, Some(not_after_s))
        };
        // The search for all values is prepared anew, which would hold up everybody whom this thread serves.
        match spawn_blocking(rotate).await {
            Ok(rotated) => rotated.map(|_| ()).map_err(|error: BindError| error.to_string()),
            Err(error) => Err(error.to_string()),
        }
    }
}

/// Sees to it that tokens are good before another hook injects them, and renews them where a tool of the guest asks for it.
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
            if let Some(login) = self.renewals.login_asked_for(decided, head)? {
                return guest::inject(&self.renewals, login, (&self.inner, decided, head)).await;
            }
            let (mut failed, place) = (None, Place::of(decided, Some(head)));
            for (number, Renewed { name, .. }) in self.renewals.sources.iter().enumerate() {
                if self.renewals.vault.covers(name, &place.target(decided)) {
                    failed = self.renewals.renew(number).await.err().or(failed);
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
mod guest;
mod pace;

#[cfg(test)]
mod tests;
