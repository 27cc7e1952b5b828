//! Where a request goes, as facts that are already canonical. Must never normalise: what is not in
//! canonical form matches nothing, so it gets no credential.

use std::fmt;

/// The protocol of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Scheme {
    /// HTTP over TLS, also `wss`.
    Https,
    /// HTTP in the clear, also `ws`: a credential goes there only where its endpoint says so.
    Http,
}

impl fmt::Display for Scheme {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Https => "https",
            Self::Http => "http",
        })
    }
}

/// The target of one request. The caller's parser has made it canonical.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Target<'a> {
    /// https or http.
    pub scheme: Scheme,
    /// Lower-case A-labels without trailing dot, or an IP address without brackets.
    pub host: &'a str,
    /// The port that is dialled.
    pub port: u16,
    /// The method, in its own case.
    pub method: &'a str,
    /// Path and query as they are sent.
    pub path: &'a str,
}

impl<'a> Target<'a> {
    /// The path without its query.
    pub(crate) fn path_alone(&self) -> &'a str {
        self.path.split_once('?').map_or(self.path, |(path, _)| path)
    }
}
