//! Versions of a credential's value: the newest is used, and the one before it is still kept out of answers.
//! Must never serve a value whose time is over.

use std::sync::{Arc, PoisonError};

use super::build::check_secret;
use super::{BindError, Clock, Entry, InjectError, Vault};
use crate::binding::Binding;
use crate::injection::Injection;
use crate::placeholder::Placeholder;
use crate::scrub::ScrubSet;
use crate::secret::Secret;
use crate::sign::AwsKeys;

/// One value of a credential.
pub(super) struct Version {
    pub(super) number: u64,
    pub(super) secret: Secret,
    /// Its parts, if it is not one text: those are what an answer could hold.
    parts: Vec<Secret>,
    pub(super) not_after_s: Option<u64>,
}

impl Version {
    pub(super) fn first(
        binding: &Binding,
        placeholder: &Placeholder,
        secret: Secret,
    ) -> Result<Self, BindError> {
        check_secret(&binding.name, secret.expose())?;
        let is_piece = placeholder.as_bytes().windows(secret.len()).any(|piece| piece == secret.expose());
        if is_piece {
            return Err(BindError::Prefix { name: binding.name.clone() });
        }
        let mut parts = Vec::new();
        if binding.endpoints.iter().any(|endpoint| endpoint.injection == Injection::AwsSigV4) {
            let keys = AwsKeys::parse(secret.expose())
                .map_err(|reason| BindError::Value { name: binding.name.clone(), reason })?;
            let all = [Some(keys.id.as_bytes()), Some(keys.secret), keys.token];
            parts.extend(all.into_iter().flatten().map(|part| Secret::new(part.to_vec())));
        }
        Ok(Self { number: 1, secret, parts, not_after_s: None })
    }

    fn scrubbed(&self) -> impl Iterator<Item = &Secret> {
        let whole = self.parts.is_empty().then_some(&self.secret);
        whole.into_iter().chain(&self.parts)
    }
}

/// What answers are scrubbed of: every part of both versions of every entry.
pub(super) fn scrub_set(entries: &[Entry]) -> Arc<ScrubSet> {
    let versions: Vec<_> = entries
        .iter()
        .flat_map(|entry| entry.both().into_iter().map(move |version| (entry, version)))
        .collect();
    ScrubSet::new(versions.iter().flat_map(|(entry, version)| {
        let markers = std::iter::once(&entry.placeholder).chain(&entry.companions);
        let last = entry.companions.last().unwrap_or(&entry.placeholder);
        let markers = markers.chain(std::iter::repeat(last));
        version.scrubbed().zip(markers).map(|(secret, marker)| (secret, marker.as_bytes()))
    }))
}

impl Entry {
    pub(super) fn current(&self) -> Option<Arc<Version>> {
        self.versions.read().unwrap_or_else(PoisonError::into_inner).0.clone()
    }

    /// The current version, if its time is not over.
    pub(super) fn live(&self, clock: &Clock) -> Result<Arc<Version>, InjectError> {
        let version =
            self.current().ok_or_else(|| InjectError::Locked { name: self.binding.name.clone() })?;
        match version.not_after_s {
            Some(end) if clock() >= end => Err(InjectError::Expired { name: self.binding.name.clone() }),
            _ => Ok(version),
        }
    }

    fn both(&self) -> Vec<Arc<Version>> {
        let versions = self.versions.read().unwrap_or_else(PoisonError::into_inner);
        versions.0.iter().chain(&versions.1).map(Arc::clone).collect()
    }
}

impl Vault {
    /// Replaces the value of a credential while the sandbox runs, without a new placeholder: requests that
    /// begin from now on get the new value, and answers are still scrubbed of the old one. `not_after_s`
    /// (seconds since 1970) is when it stops being sent. Returns the number of the version: 1 for a credential that
    /// was bound while its store was locked, else from 2.
    ///
    /// Scrubbers made before know the old values only: make one per response.
    ///
    /// # Errors
    /// [`BindError`]; the old value stays then.
    pub fn rotate(&self, name: &str, value: Secret, not_after_s: Option<u64>) -> Result<u64, BindError> {
        let entry = self.entry(name).ok_or_else(|| BindError::NoSuchCredential { name: name.to_owned() })?;
        let mut new = Version::first(&entry.binding, &entry.placeholder, value)?;
        new.not_after_s = not_after_s;
        // Held until the new set stands, so that two rotations cannot leave an older one.
        let mut scrub = self.scrub.write().unwrap_or_else(PoisonError::into_inner);
        let number = {
            let mut versions = entry.versions.write().unwrap_or_else(PoisonError::into_inner);
            new.number = versions.0.as_ref().map_or(1, |old| old.number.saturating_add(1));
            let number = new.number;
            versions.1 = versions.0.replace(Arc::new(new));
            number
        };
        *scrub = scrub_set(&self.entries);
        Ok(number)
    }

    /// [`Vault::rotate`], unless value and end are those in use already: `None` then, and nothing changes.
    ///
    /// # Errors
    /// As [`Vault::rotate`].
    pub fn renew(
        &self,
        name: &str,
        value: Secret,
        not_after_s: Option<u64>,
    ) -> Result<Option<u64>, BindError> {
        let same = self.entry(name).and_then(|entry| entry.current());
        if same.is_some_and(|version| version.not_after_s == not_after_s && version.secret == value) {
            return Ok(None);
        }
        self.rotate(name, value, not_after_s).map(Some)
    }

    /// Number of the version in use, from 1, and when it ends. `None` also while the store is locked.
    #[must_use]
    pub fn version(&self, name: &str) -> Option<(u64, Option<u64>)> {
        self.entry(name)?.current().map(|version| (version.number, version.not_after_s))
    }
}
