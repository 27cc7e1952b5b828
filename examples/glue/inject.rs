//! `netproxy` asks for a credential, `credvault` puts it in.

use std::borrow::Cow;
use std::sync::Arc;

use bytes::Bytes;
use credvault::{
    ChunkError, ChunkResigner, InjectError as VaultError, Payload, Scheme as VaultScheme, Target, Vault,
};
use netproxy::Host;
use netproxy::hooks::{
    BodyFilter, BodyRefused, BoxFuture, Decided, Inject, InjectError, Injected, RequestHead, Scheme,
};

/// Injects from one vault.
pub struct VaultInject(pub Arc<Vault>);

impl Inject for VaultInject {
    fn reads_body(&self, decided: &Decided<'_>, head: &RequestHead) -> bool {
        let place = Place::of(decided, Some(head));
        self.0.needs_body(decided.allow.credential.as_deref(), &place.target(decided), &head.headers)
    }

    fn inject<'a>(
        &'a self,
        decided: &'a Decided<'a>,
        head: &'a mut RequestHead,
    ) -> BoxFuture<'a, Result<Injected, InjectError>> {
        Box::pin(std::future::ready(self.inject_now(decided, head)))
    }
}

/// As the vault writes it: an IPv6 address without brackets.
pub(crate) fn vault_host(host: &Host) -> Cow<'_, str> {
    match host {
        Host::Name(name) => Cow::Borrowed(name.as_str()),
        Host::Ip(ip) => Cow::Owned(ip.to_string()),
    }
}

/// Host and URL as texts.
pub(crate) struct Place<'a> {
    host: Cow<'a, str>,
    url: Cow<'a, str>,
}

impl<'p> Place<'p> {
    /// With the query of `head`, or else the one that was judged.
    pub(crate) fn of(decided: &Decided<'p>, head: Option<&RequestHead>) -> Self {
        let path = decided.request.path;
        let query = head.map_or(decided.request.query, |head| head.query.as_deref());
        let url = match query {
            Some(query) => format!("{path}?{query}").into(),
            None => path.into(),
        };
        Self { host: vault_host(decided.request.authority.host()), url }
    }

    pub(crate) fn target<'a>(&'a self, decided: &Decided<'a>) -> Target<'a> {
        let scheme = match decided.request.scheme {
            Scheme::Https => VaultScheme::Https,
            Scheme::Http => VaultScheme::Http,
        };
        let (port, method) = (decided.request.authority.port(), decided.request.method);
        Target { scheme, host: &self.host, port, method, path: &self.url }
    }
}

impl VaultInject {
    pub(crate) fn inject_now(
        &self,
        decided: &Decided<'_>,
        head: &mut RequestHead,
    ) -> Result<Injected, InjectError> {
        let place = Place::of(decided, Some(head));
        let target = place.target(decided);
        if decided.allow.would_deny.is_some() {
            // The policy refuses it and only records that: nobody said that this request may have a key.
            self.0.check(&target, &head.headers).map_err(|error| refusal(&error))?;
            if let Some(body) = &head.body {
                // Only for what it refuses.
                self.0.replace_in_body(&target, body).map_err(|error| refusal(&error))?;
            }
            return Ok(Injected::default());
        }
        let body = head.body.clone();
        let payload = body.as_deref().map_or(Payload::Streamed, Payload::Bytes);
        let outcome = match &decided.allow.credential {
            Some(name) => self.0.inject_named_with(name, &target, &mut head.headers, payload),
            None => self.0.inject_with(&target, &mut head.headers, payload),
        };
        let mut outcome = outcome.map_err(|error| refusal(&error))?;
        if let Some(query) = &outcome.query {
            head.query = Some(query.to_string()).filter(|query| !query.is_empty());
        }
        if let Some(chunks) = outcome.chunks.take() {
            head.body_filter = Some(Box::new(Chunks(chunks)));
        }
        if let (None, Some(body)) = (outcome.credential, &body)
            && let Some((new, name)) =
                self.0.replace_in_body(&target, body).map_err(|error| refusal(&error))?
        {
            head.body = Some(Bytes::copy_from_slice(&new));
            return Ok(Injected::credential(name));
        }
        Ok(outcome.credential.map(Injected::credential).unwrap_or_default())
    }
}

/// Chunks of a body that are signed anew as they pass.
struct Chunks(ChunkResigner);

impl BodyFilter for Chunks {
    fn push(&mut self, chunk: Bytes) -> Result<Bytes, BodyRefused> {
        let mut out = Vec::with_capacity(chunk.len());
        self.0.push(&chunk, &mut out).map_err(refused)?;
        Ok(out.into())
    }

    fn finish(&mut self) -> Result<Bytes, BodyRefused> {
        self.0.finish().map(|()| Bytes::new()).map_err(refused)
    }

    fn held_bytes(&self) -> usize {
        self.0.held_bytes()
    }
}

fn refused(error: ChunkError) -> BodyRefused {
    BodyRefused { reason: error.to_string() }
}

fn refusal(error: &VaultError) -> InjectError {
    match error {
        VaultError::NoSuchCredential { name } => InjectError::Missing { name: name.clone() },
        VaultError::Locked { name } => InjectError::Locked { name: name.clone() },
        other => InjectError::Refused { reason: other.to_string() },
    }
}
