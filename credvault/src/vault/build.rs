//! Building a vault: what may be bound, and minting placeholders. Must never put a byte of a secret into an
//! error.

use std::io;
use std::sync::{Arc, Mutex, RwLock};

use super::version::{Version, Versions, scrub_set};
use super::{Clock, Entry, Random, Vault};
use crate::binding::{Binding, is_credential_name, is_env_name};
use crate::limits::{BINDINGS_MAX, SECRET_BYTES_MAX, SECRET_BYTES_MIN};
use crate::scrub::patterns_of;
use crate::secret::Secret;

/// Collects what goes into a [`Vault`].
#[derive(Default)]
pub struct VaultBuilder {
    entries: Vec<Entry>,
    clock: Option<Clock>,
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
    /// There is none.
    #[error("the value of `{name}` is empty; check where it comes from")]
    Empty {
        /// The credential.
        name: String,
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
    /// A value that its way of injection cannot use.
    #[error("the value of `{name}` cannot be used: {reason}")]
    Value {
        /// The credential.
        name: String,
        /// What it should look like.
        reason: crate::sign::SignError,
    },
    /// There is none of this name.
    #[error("this sandbox has no credential `{name}`: its names are fixed when it starts")]
    NoSuchCredential {
        /// The credential.
        name: String,
    },
    /// No randomness, so no placeholder.
    #[error("no placeholder could be made, as the system gave no randomness")]
    Random(#[from] io::Error),
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
        self.bind_until(binding, secret, None, random)
    }

    /// The same with an end (seconds since 1970): from then on, requests that want the credential are refused.
    ///
    /// # Errors
    /// As [`VaultBuilder::bind`].
    pub fn bind_until(
        &mut self,
        binding: Binding,
        secret: Secret,
        not_after_s: Option<u64>,
        random: Random<'_>,
    ) -> Result<&mut Self, BindError> {
        self.push(binding, Some((secret, not_after_s)), random)
    }

    /// Binds a credential whose store is locked, so that the guest has its placeholder all the same: requests that
    /// need it are refused ([`InjectError::Locked`](super::InjectError::Locked)) until [`Vault::rotate`] brings
    /// the value.
    ///
    /// # Errors
    /// [`BindError`]; the builder is unchanged then.
    pub fn bind_locked(&mut self, binding: Binding, random: Random<'_>) -> Result<&mut Self, BindError> {
        self.push(binding, None, random)
    }

    fn push(
        &mut self,
        binding: Binding,
        value: Option<(Secret, Option<u64>)>,
        random: Random<'_>,
    ) -> Result<&mut Self, BindError> {
        self.check_binding(&binding)?;
        let placeholder = binding.placeholder.mint(random)?;
        let mut companions = Vec::new();
        for companion in &binding.companions {
            companions.push(companion.placeholder.mint(random)?);
        }
        let first = |(secret, not_after_s)| {
            let mut version = Version::first(&binding, &placeholder, secret)?;
            version.not_after_s = not_after_s;
            Ok::<_, BindError>(version)
        };
        let version = value.map(first).transpose()?;
        let versions = RwLock::new(Versions::first(version.map(Arc::new)));
        self.entries.push(Entry { binding, versions, placeholder, companions });
        Ok(self)
    }

    /// Binds a credential whose value comes later and is renewed: until [`Vault::rotate`] brings one, requests that need
    /// it are refused as [`super::InjectError::Expired`].
    ///
    /// # Errors
    /// [`BindError`]; the builder is unchanged then.
    pub fn bind_renewed(&mut self, binding: Binding, random: Random<'_>) -> Result<&mut Self, BindError> {
        // Never sent, and nobody can guess it: it only holds the place.
        let nobodys = crate::PlaceholderFormat::generic().mint(random)?;
        self.bind(binding, Secret::new(nobodys.as_bytes().to_vec()), random)?;
        if let Some(entry) = self.entries.last_mut() {
            let versions = entry.versions.get_mut().unwrap_or_else(std::sync::PoisonError::into_inner);
            if let Some(version) = versions.current.as_mut().and_then(Arc::get_mut) {
                version.not_after_s = Some(0);
            }
        }
        Ok(self)
    }

    /// Another clock than the system's: seconds since 1970. Asked only for credentials that have an end, where a value
    /// is replaced, and for signatures that hold the time.
    pub fn clock(&mut self, clock: impl Fn() -> u64 + Send + Sync + 'static) -> &mut Self {
        self.clock = Some(Box::new(clock));
        self
    }

    /// The vault.
    #[must_use]
    pub fn build(self) -> Vault {
        let entries = self.entries;
        let placeholders = entries.iter().enumerate().flat_map(|(index, entry)| {
            let all = std::iter::once(&entry.placeholder).chain(&entry.companions);
            all.map(move |placeholder| (index, placeholder.as_bytes()))
        });
        let placeholders = patterns_of(placeholders);
        let scrub = RwLock::new(scrub_set(&entries, None));
        let clock = self.clock.unwrap_or_else(|| Box::new(crate::secret::os_clock));
        Vault { entries, placeholders, scrub, rotating: Mutex::new(()), clock }
    }

    fn check_binding(&self, binding: &Binding) -> Result<(), BindError> {
        let name = || binding.name.clone();
        if !is_credential_name(&binding.name) {
            return Err(BindError::Name);
        }
        if self.entries.len() >= BINDINGS_MAX {
            return Err(BindError::TooMany);
        }
        for variable in binding.variables() {
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
            if let Some(variable) =
                binding.variables().find(|&variable| other.variables().any(|name| name == variable))
            {
                let (other, variable) = (other.name.clone(), variable.to_owned());
                return Err(BindError::VariableTwice { name: name(), other, variable });
            }
        }
        Ok(())
    }
}

/// RFC 9110 §5.5: a field value has no CR, LF or NUL, and spaces at its ends are not part of it.
pub(super) fn check_secret(name: &str, value: &[u8]) -> Result<(), BindError> {
    let name = || name.to_owned();
    if value.iter().any(u8::is_ascii_control) {
        return Err(BindError::ControlCharacter { name: name() });
    }
    if value.is_empty() {
        return Err(BindError::Empty { name: name() });
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
