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

use std::io;
use std::sync::Arc;

use crate::binding::{Binding, Endpoint, is_credential_name, is_env_name};
use crate::headers::{BadHeader, HeaderAccess};
use crate::injection::{AUTH_HEADERS, Injection};
use crate::limits::{BINDINGS_MAX, SECRET_BYTES_MAX, SECRET_BYTES_MIN};
use crate::placeholder::Placeholder;
use crate::scrub::{Patterns, ScrubSet, Scrubber, patterns_of};
use crate::secret::Secret;
use crate::target::Target;

/// Source of randomness: fills the buffer. [`crate::os_random`] outside tests.
pub type Random<'a> = &'a mut dyn FnMut(&mut [u8]) -> io::Result<()>;

/// Credentials of one sandbox. Build it with [`Vault::builder`], share it with `Arc`.
pub struct Vault {
    entries: Vec<Entry>,
    placeholders: Patterns,
    scrub: Arc<ScrubSet>,
}

struct Entry {
    binding: Binding,
    secret: Secret,
    placeholder: Placeholder,
}

/// Collects what goes into a [`Vault`].
#[derive(Default)]
pub struct VaultBuilder {
    entries: Vec<Entry>,
}

/// Why a credential cannot be bound. No variant holds a byte of the secret.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BindError {
    /// The name is not one.
    #[error("credential name is not usable: use 1 to 64 characters of `A-Z a-z 0-9 - _ .`")]
    Name,
    /// The name is bound already.
    #[error("credential `{name}` is bound twice: give one of them another name")]
    Twice {
        /// The credential.
        name: String,
    },
    /// A variable cannot be given to the guest.
    #[error("credential `{name}`: `{variable}` cannot be a variable of the guest: choose another")]
    Variable {
        /// The credential.
        name: String,
        /// The variable, escaped.
        variable: String,
    },
    /// Two credentials want the same variable.
    #[error(
        "credentials `{name}` and `{other}` both want the variable `{variable}`: bind only one, or rename it"
    )]
    VariableTwice {
        /// The credential.
        name: String,
        /// The one that has the variable.
        other: String,
        /// The variable.
        variable: String,
    },
    /// Too short to be told from ordinary text.
    #[error(
        "the value of `{name}` is shorter than {SECRET_BYTES_MIN} bytes: it could not be kept out of answers; check that the whole value was stored"
    )]
    TooShort {
        /// The credential.
        name: String,
    },
    /// Too long for a header.
    #[error(
        "the value of `{name}` is longer than {SECRET_BYTES_MAX} bytes: no server takes such a header; check that it is the token and not a file around it"
    )]
    TooLong {
        /// The credential.
        name: String,
    },
    /// CR, LF, NUL or another control character: it could end the header and begin another.
    #[error(
        "the value of `{name}` has a line end or another control character: store it again without (often a newline at the end of a file)"
    )]
    ControlCharacter {
        /// The credential.
        name: String,
    },
    /// A space at either end, which servers cut off.
    #[error("the value of `{name}` begins or ends with a space: store it again without")]
    Space {
        /// The credential.
        name: String,
    },
    /// The value is a piece of its own placeholder, such as the public prefix of a key.
    #[error("the value of `{name}` is only the fixed part of such keys: store the whole key")]
    Prefix {
        /// The credential.
        name: String,
    },
    /// The vault is full.
    #[error("more than {BINDINGS_MAX} credentials for one sandbox: bind fewer")]
    TooMany,
    /// No randomness, so no placeholder.
    #[error("no placeholder could be made, as the system gave no randomness")]
    Random(#[from] io::Error),
}

/// What [`Vault::inject`] did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InjectOutcome<'v> {
    /// Name of the credential that is in the request now; `None` if the request was left as it was.
    pub credential: Option<&'v str>,
}

/// Where in a request a placeholder was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// A header's value or name.
    Header,
    /// Path or query.
    Url,
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
    /// The header type refused the value.
    #[error(transparent)]
    Header(#[from] BadHeader),
}

impl VaultBuilder {
    /// Binds a secret and mints its placeholder.
    ///
    /// # Errors
    /// [`BindError`]; the builder is unchanged then.
    pub fn bind(
        &mut self,
        binding: Binding,
        secret: Secret,
        random: Random<'_>,
    ) -> Result<&mut Self, BindError> {
        self.check_binding(&binding)?;
        check_secret(&binding.name, secret.expose())?;
        let placeholder = binding.placeholder.mint(random)?;
        let is_piece = placeholder.as_bytes().windows(secret.len()).any(|piece| piece == secret.expose());
        if is_piece {
            return Err(BindError::Prefix { name: binding.name });
        }
        self.entries.push(Entry { binding, secret, placeholder });
        Ok(self)
    }

    /// The vault.
    #[must_use]
    pub fn build(self) -> Vault {
        let entries = self.entries;
        let placeholders = patterns_of(entries.iter().map(|entry| entry.placeholder.as_bytes()));
        let scrub = ScrubSet::new(entries.iter().map(|entry| (&entry.secret, entry.placeholder.as_bytes())));
        Vault { entries, placeholders, scrub }
    }

    fn check_binding(&self, binding: &Binding) -> Result<(), BindError> {
        let name = || binding.name.clone();
        if !is_credential_name(&binding.name) {
            return Err(BindError::Name);
        }
        if self.entries.len() >= BINDINGS_MAX {
            return Err(BindError::TooMany);
        }
        for variable in &binding.env {
            if !is_env_name(variable) {
                return Err(BindError::Variable {
                    name: name(),
                    variable: variable.escape_debug().to_string(),
                });
            }
        }
        for Entry { binding: other, .. } in &self.entries {
            if other.name == binding.name {
                return Err(BindError::Twice { name: name() });
            }
            if let Some(variable) = binding.env.iter().find(|variable| other.env.contains(variable)) {
                let (other, variable) = (other.name.clone(), variable.clone());
                return Err(BindError::VariableTwice { name: name(), other, variable });
            }
        }
        Ok(())
    }
}

/// RFC 9110 §5.5: a field value has no CR, LF or NUL, and spaces at its ends are not part of it.
fn check_secret(name: &str, value: &[u8]) -> Result<(), BindError> {
    let name = || name.to_owned();
    if value.iter().any(u8::is_ascii_control) {
        return Err(BindError::ControlCharacter { name: name() });
    }
    if value.len() < SECRET_BYTES_MIN {
        return Err(BindError::TooShort { name: name() });
    }
    if value.len() > SECRET_BYTES_MAX {
        return Err(BindError::TooLong { name: name() });
    }
    if value.trim_ascii().len() != value.len() {
        return Err(BindError::Space { name: name() });
    }
    Ok(())
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
            entry.binding.env.iter().map(|variable| (variable.as_str(), entry.placeholder.as_str()))
        })
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
        let present = self.checked_placeholders(target, headers)?;
        let bound = || self.entries.iter().filter_map(|entry| Some((entry, entry.binding.endpoint(target)?)));
        let shown =
            only_one(bound().filter(|(entry, _)| present.iter().any(|&other| std::ptr::eq(*entry, other))))?;
        let chosen = match shown {
            Some(shown) => Some(shown),
            None => only_one(
                bound().filter(|(_, endpoint)| !matches!(endpoint.injection, Injection::Replace { .. })),
            )?,
        };
        match chosen {
            Some((entry, endpoint)) => entry.apply(endpoint, headers),
            None => Ok(InjectOutcome { credential: None }),
        }
    }

    /// As [`Vault::inject`], with the credential that a rule names. The binding still has to cover the
    /// target: a rule can choose, not widen.
    ///
    /// # Errors
    /// [`InjectError`]: refuse the request.
    pub fn inject_named(
        &self,
        name: &str,
        target: &Target<'_>,
        headers: &mut dyn HeaderAccess,
    ) -> Result<InjectOutcome<'_>, InjectError> {
        self.checked_placeholders(target, headers)?;
        let name_owned = || name.to_owned();
        let entry = self
            .entries
            .iter()
            .find(|entry| entry.binding.name == name)
            .ok_or_else(|| InjectError::NoSuchCredential { name: name_owned() })?;
        let endpoint =
            entry.binding.endpoint(target).ok_or_else(|| InjectError::NotBound { name: name_owned() })?;
        entry.apply(endpoint, headers)
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

    /// A scrubber for the body, or another stream, of one response. It knows every secret of this vault:
    /// a service may echo what it got from another one.
    #[must_use]
    pub fn scrubber(&self) -> Scrubber {
        Scrubber::new(Arc::clone(&self.scrub))
    }

    /// Scrubs one header or trailer value of a response; `None` when it is clean.
    #[must_use]
    pub fn scrub_value(&self, value: &[u8]) -> Option<Vec<u8>> {
        self.scrub.scrub_value(value)
    }

    /// The entries whose placeholders the request carries; all of them are bound to `target`.
    fn checked_placeholders(
        &self,
        target: &Target<'_>,
        headers: &dyn HeaderAccess,
    ) -> Result<Vec<&Entry>, InjectError> {
        let mut present: Vec<(&Entry, Place)> = Vec::new();
        self.collect(target.path.as_bytes(), Place::Url, &mut present);
        headers.visit(&mut |name, value| {
            self.collect(name, Place::Header, &mut present);
            self.collect(value, Place::Header, &mut present);
            true
        });
        for &(entry, place) in &present {
            let name = || entry.binding.name.clone();
            if entry.binding.endpoint(target).is_none() {
                return Err(InjectError::PlaceholderElsewhere { name: name(), place });
            }
            if place == Place::Url {
                return Err(InjectError::PlaceholderInUrl { name: name() });
            }
        }
        Ok(present.into_iter().map(|(entry, _)| entry).collect())
    }

    fn collect<'v>(&'v self, text: &[u8], place: Place, present: &mut Vec<(&'v Entry, Place)>) {
        self.placeholders.scan(text, |hit| {
            if let Some(entry) = self.entries.get(hit.owner)
                && !present.iter().any(|&(other, at)| std::ptr::eq(other, entry) && at == place)
            {
                present.push((entry, place));
            }
            true
        });
    }
}

fn is_auth_header(header: &[u8]) -> bool {
    AUTH_HEADERS.iter().any(|name| same_name(name, header))
}

fn same_name(name: &str, header: &[u8]) -> bool {
    name.as_bytes().eq_ignore_ascii_case(header)
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

impl Entry {
    fn apply(
        &self,
        endpoint: &Endpoint,
        headers: &mut dyn HeaderAccess,
    ) -> Result<InjectOutcome<'_>, InjectError> {
        let done = InjectOutcome { credential: Some(&self.binding.name) };
        if let Some((name, value)) = endpoint.injection.header(self.secret.expose()) {
            headers.remove(&mut |header| is_auth_header(header) || same_name(name, header));
            headers.append(name, &value)?;
            return Ok(done);
        }
        let Injection::Replace { headers: names } = &endpoint.injection else { return Ok(done) };
        let mut replaced = Vec::new();
        headers.rewrite(&mut |header, value| {
            let name = names.iter().find(|name| same_name(name, header))?;
            let new = Injection::replaced(value, self.placeholder.as_bytes(), self.secret.expose())?;
            replaced.push(name.as_str());
            Some(new)
        })?;
        if replaced.is_empty() {
            return Ok(InjectOutcome { credential: None });
        }
        // Another key of the client's beside ours could be the one the server takes.
        headers.remove(&mut |header| {
            is_auth_header(header) && !replaced.iter().any(|name| same_name(name, header))
        });
        Ok(done)
    }
}

#[cfg(test)]
mod tests;
