//! The request target (RFC 9112 §3.2) taken apart. Only the forms that a proxy for programs needs.

use super::path::{CanonicalPath, PathError};
use crate::authority::{Authority, AuthorityError};
use crate::hooks::Scheme;

/// Why a target is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TargetError {
    /// `OPTIONS *`, `host:port` without `CONNECT`, or anything else.
    #[error("the request target is neither a path nor an http:// or https:// URL")]
    Form,
    /// The host of an absolute URL.
    #[error("the URL is not usable: {0}")]
    Authority(#[from] AuthorityError),
    /// The path.
    #[error("the path is not usable: {0}")]
    Path(#[from] PathError),
}

/// A target, canonical.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// Scheme and authority of an absolute URL; `None` for a path alone.
    pub absolute: Option<(Scheme, Authority)>,
    /// The path.
    pub path: CanonicalPath,
    /// The query without its `?`, as sent.
    pub query: Option<String>,
}

impl Target {
    /// Parses an origin-form (`/path?query`) or absolute-form (`http://host/path?query`) target.
    ///
    /// # Errors
    /// See [`TargetError`].
    pub fn parse(text: &str) -> Result<Self, TargetError> {
        if text.starts_with('/') {
            return Self::at(None, text);
        }
        match text.split_once(':') {
            Some((scheme, rest)) => {
                let rest = rest.strip_prefix("//").ok_or(TargetError::Form)?;
                let scheme = if scheme.eq_ignore_ascii_case("http") {
                    Scheme::Http
                } else if scheme.eq_ignore_ascii_case("https") {
                    Scheme::Https
                } else {
                    return Err(TargetError::Form);
                };
                let end = rest.find(['/', '?']).unwrap_or(rest.len());
                let (authority, rest) = rest.split_at_checked(end).ok_or(TargetError::Form)?;
                Self::of_url(scheme, authority, rest)
            }
            None => Err(TargetError::Form),
        }
    }

    /// Of an URL that was taken apart: what stands between `//` and the path, and what comes from there on.
    ///
    /// # Errors
    /// See [`TargetError`].
    pub fn of_url(scheme: Scheme, authority: &str, path_and_query: &str) -> Result<Self, TargetError> {
        let authority = Authority::parse(authority, Some(scheme.default_port()))?;
        Self::at(Some((scheme, authority)), path_and_query)
    }

    fn at(absolute: Option<(Scheme, Authority)>, path_and_query: &str) -> Result<Self, TargetError> {
        let (path, query) = match memchr::memchr(b'?', path_and_query.as_bytes()) {
            Some(end) => {
                let (path, query) = path_and_query.split_at_checked(end).ok_or(TargetError::Form)?;
                (path, query.strip_prefix('?').map(str::to_owned))
            }
            None => (path_and_query, None),
        };
        let path = CanonicalPath::parse(if path.is_empty() { "/" } else { path })?;
        Ok(Self { absolute, path, query })
    }
}
