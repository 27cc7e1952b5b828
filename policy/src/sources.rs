//! What a policy may name and this crate cannot fetch, since it does no I/O: other files, and the package
//! registries that the machine's own clients are set up to use. The embedder hands both in.

use std::fmt;

use crate::facts::Scheme;

/// Reads what `include` names.
pub trait Includes: Send + Sync {
    /// The file `wanted`, as written in the file `from`; both are names, with what they mean left to the
    /// implementation. It also decides which files may be named at all.
    ///
    /// # Errors
    /// One sentence that says what is wrong and what to do.
    fn read(&self, from: &str, wanted: &str) -> Result<Included, String>;
}

/// An included file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Included {
    /// Its name for verdicts and errors; the same file must always get the same.
    pub name: String,
    /// Its text.
    pub text: String,
}

/// Reads where the machine's own package clients get their packages: no policy and no preset spells that
/// out, since users have mirrors.
pub trait RegistryHosts: Send + Sync {
    /// Every place that the client talks to: indexes, downloads, checksums.
    ///
    /// # Errors
    /// One sentence that says what is wrong and what to do. No place at all is an error, too.
    fn hosts(&self, registry: Registry) -> Result<Vec<RegistryHost>, String>;
}

/// One place of a registry.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RegistryHost {
    /// `https` or `http`.
    pub scheme: Scheme,
    /// Canonical name.
    pub host: String,
    /// 1–65535.
    pub port: u16,
}

/// A kind of package registry, named after its client.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Registry {
    /// Python.
    Pip,
    /// JavaScript.
    Npm,
    /// Rust.
    Cargo,
    /// Debian and its kin.
    Apt,
    /// Go.
    Go,
    /// Java.
    Maven,
    /// Images, as Docker and Podman pull them.
    Containers,
}

impl Registry {
    /// All of them.
    pub const ALL: [Self; 7] =
        [Self::Pip, Self::Npm, Self::Cargo, Self::Apt, Self::Go, Self::Maven, Self::Containers];

    /// As in `registry = "…"`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pip => "pip",
            Self::Npm => "npm",
            Self::Cargo => "cargo",
            Self::Apt => "apt",
            Self::Go => "go",
            Self::Maven => "maven",
            Self::Containers => "containers",
        }
    }

    pub(crate) fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|registry| registry.as_str() == name)
    }
}

impl fmt::Display for Registry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
