//! `netproxy` asks for a credential, `credvault` puts it in.

use std::sync::Arc;

use credvault::{InjectError as VaultError, Scheme as VaultScheme, Target, Vault};
use netproxy::hooks::{BoxFuture, Decided, Inject, InjectError, Injected, RequestHead, Scheme};

/// Injects from one vault.
pub struct VaultInject(pub Arc<Vault>);

impl Inject for VaultInject {
    fn inject<'a>(
        &'a self,
        decided: &'a Decided<'a>,
        head: &'a mut RequestHead,
    ) -> BoxFuture<'a, Result<Injected, InjectError>> {
        Box::pin(std::future::ready(self.inject_now(decided, head)))
    }
}

impl VaultInject {
    fn inject_now(&self, decided: &Decided<'_>, head: &mut RequestHead) -> Result<Injected, InjectError> {
        let request = &decided.request;
        let host = request.authority.host().to_string();
        let url = match &head.query {
            Some(query) => format!("{}?{query}", request.path),
            None => request.path.to_owned(),
        };
        let target = Target {
            scheme: match request.scheme {
                Scheme::Https => VaultScheme::Https,
                Scheme::Http => VaultScheme::Http,
            },
            host: &host,
            port: request.authority.port(),
            method: request.method,
            path: &url,
        };
        let outcome = match &decided.allow.credential {
            Some(name) => self.0.inject_named(name, &target, &mut head.headers),
            None => self.0.inject(&target, &mut head.headers),
        };
        let outcome = outcome.map_err(|error| refusal(&error))?;
        if let Some(query) = &outcome.query {
            head.query = Some(query.to_string());
        }
        Ok(outcome.credential.map(Injected::credential).unwrap_or_default())
    }
}

fn refusal(error: &VaultError) -> InjectError {
    match error {
        VaultError::NoSuchCredential { name } => InjectError::Missing { name: name.clone() },
        VaultError::Locked { name } => InjectError::Locked { name: name.clone() },
        other => InjectError::Refused { reason: other.to_string() },
    }
}
