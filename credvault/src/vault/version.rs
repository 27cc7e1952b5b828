//! Versions of a credential's value: the newest is used, and those before it are still kept out of answers: until
//! their own end or, without one, for [`OLD_VALUE_S`]; at most [`OLD_VALUES_MAX`], and the last one always.
//! Must never serve a value whose time is over, nor one that answers are not scrubbed of.

use std::sync::{Arc, PoisonError};

use super::build::check_secret;
use super::{BindError, Clock, Entry, InjectError, Vault};
use crate::binding::Binding;
use crate::injection::Injection;
use crate::limits::{OLD_VALUE_S, OLD_VALUES_MAX};
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

/// The values of one credential.
#[derive(Clone)]
pub(super) struct Versions {
    /// `None` while the store that holds it is locked.
    pub(super) current: Option<Arc<Version>>,
    /// Replaced ones, newest first, and until when (seconds since 1970) they are scrubbed.
    old: Vec<(Arc<Version>, u64)>,
}

impl Versions {
    pub(super) fn first(current: Option<Arc<Version>>) -> Self {
        Self { current, old: Vec::new() }
    }

    /// With `new` in use. Replaced values whose time is over are dropped here and only here, so nothing has to
    /// watch the clock; no value is kept twice.
    fn succeeded_by(&self, mut new: Version, now_s: u64) -> Self {
        new.number = self.current.as_ref().map_or(1, |last| last.number.saturating_add(1));
        let last = self.current.iter().map(|last| {
            let until_s = last.not_after_s.unwrap_or_else(|| now_s.saturating_add(OLD_VALUE_S));
            (Arc::clone(last), until_s)
        });
        let older = self.old.iter().filter(|(_, until_s)| *until_s > now_s).cloned();
        let mut old: Vec<(Arc<Version>, u64)> = Vec::new();
        for (version, until_s) in last.chain(older) {
            let is_known = old.iter().any(|(other, _)| other.secret == version.secret);
            if !is_known && version.secret != new.secret && old.len() < OLD_VALUES_MAX {
                old.push((version, until_s));
            }
        }
        Self { current: Some(Arc::new(new)), old }
    }

    fn all(&self) -> impl Iterator<Item = &Version> {
        self.current.iter().chain(self.old.iter().map(|(version, _)| version)).map(Arc::as_ref)
    }
}

/// What answers are scrubbed of: every part of every version of every entry. `next` has other versions soon.
pub(super) fn scrub_set(entries: &[Entry], next: Option<(&Entry, &Versions)>) -> Arc<ScrubSet> {
    let versions: Vec<_> = entries
        .iter()
        .map(|entry| match next {
            Some((other, versions)) if std::ptr::eq(other, entry) => (entry, versions.clone()),
            _ => (entry, entry.versions.read().unwrap_or_else(PoisonError::into_inner).clone()),
        })
        .collect();
    let each = versions.iter().flat_map(|(entry, versions)| versions.all().map(move |one| (entry, one)));
    ScrubSet::new(each.flat_map(|(entry, version)| {
        let markers = std::iter::once(&entry.placeholder).chain(&entry.companions);
        let last = entry.companions.last().unwrap_or(&entry.placeholder);
        let markers = markers.chain(std::iter::repeat(last));
        version.scrubbed().zip(markers).map(|(secret, marker)| (secret, marker.as_bytes()))
    }))
}

impl Entry {
    pub(super) fn current(&self) -> Option<Arc<Version>> {
        self.versions.read().unwrap_or_else(PoisonError::into_inner).current.clone()
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
}

impl Vault {
    /// Replaces the value of a credential while the sandbox runs, without a new placeholder: requests that
    /// begin from here on get the new value, and answers are still scrubbed of the old ones: until the end of each, or
    /// for a week ([`OLD_VALUE_S`]) where it has none, but of no more than sixteen ([`OLD_VALUES_MAX`]).
    /// `not_after_s` (seconds since 1970) is when the new value stops being sent. Returns the number of the version: 1
    /// for a credential that was bound while its store was locked, else from 2.
    ///
    /// Scrubbers made before know the old values only: make one per response, and [`Vault::update`] it.
    ///
    /// # Errors
    /// [`BindError`]; the old value stays then.
    pub fn rotate(&self, name: &str, value: Secret, not_after_s: Option<u64>) -> Result<u64, BindError> {
        let entry = self.entry(name).ok_or_else(|| BindError::NoSuchCredential { name: name.to_owned() })?;
        let mut new = Version::first(&entry.binding, &entry.placeholder, value)?;
        new.not_after_s = not_after_s;
        // Two rotations at once must not leave a set that lacks one of them. Answers go on meanwhile.
        let _one_at_a_time = self.rotating.lock().unwrap_or_else(PoisonError::into_inner);
        let versions = entry.versions.read().unwrap_or_else(PoisonError::into_inner).clone();
        let versions = versions.succeeded_by(new, (self.clock)());
        let number = versions.current.as_ref().map_or(1, |version| version.number);
        // The set first: no request may carry what no answer is scrubbed of yet.
        let set = scrub_set(&self.entries, Some((entry, &versions)));
        *self.scrub.write().unwrap_or_else(PoisonError::into_inner) = set;
        *entry.versions.write().unwrap_or_else(PoisonError::into_inner) = versions;
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
