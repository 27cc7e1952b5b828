//! Tokens that the host gets and renews, so that neither the guest nor a request to the service ever carries what
//! they are made from: OAuth 2 refresh tokens, keys of GitHub Apps and of Google service accounts.
//!
//! Nothing here opens a connection or reads a clock. Whoever embeds it sends what [`TokenSource::next`] asks for and
//! gives the answer back:
//!
//! ```text
//!            next(now) ─▶ Fresh                        the token in the vault is good
//! TokenSource          ─▶ Wait                         somebody else is asking already
//!                      ─▶ Send(TokenRequest) ─▶ https ─▶ answer(now, status, body) ─▶ Token ─▶ Vault::rotate
//! ```
//!
//! Must never have two requests under way for one source: the second would use up a refresh token that the first has
//! replaced, and a server that sees that ends the whole grant (RFC 9700 §4.14.2).

mod answer;
mod grant;
mod jwt;
mod mask;

use std::sync::{Mutex, PoisonError};

use zeroize::Zeroizing;

use crate::limits::{TOKEN_EARLY_S, TOKEN_REQUEST_S_MAX, TOKEN_RETRY_S};
use crate::secret::Secret;
use grant::Grant;

pub use answer::Token;
pub use mask::{Masked, TokenLooks, mask_token_answer};

/// Where tokens are asked for, always over https.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TokenEndpoint {
    /// Canonical.
    pub host: String,
    /// 443 unless the URL says otherwise.
    pub port: u16,
    /// With its leading slash; no query.
    pub path: String,
}

/// A `POST` to send over https. It holds what no guest and no log may see.
pub struct TokenRequest {
    /// Where to.
    pub endpoint: TokenEndpoint,
    /// Beside `host` and `content-length`.
    pub headers: Vec<(&'static str, Zeroizing<String>)>,
    /// The body.
    pub body: Zeroizing<Vec<u8>>,
    /// Which request it is, for [`TokenSource::answer`].
    pub ticket: u64,
}

/// What to do for a good token.
#[non_exhaustive]
pub enum Next {
    /// Nothing: the last one is good for a while.
    Fresh,
    /// Nothing: a request is under way, or has failed just now. The last token may still be good.
    Wait,
    /// Send this.
    Send(TokenRequest),
}

/// Why there is no token. No text holds a part of one; those from the network are cut and checked.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum OAuthError {
    /// Not an https URL that leads to one place.
    #[error("the token URL is not understood: write `https://HOST[:PORT]/PATH`, without query or user")]
    Url,
    /// Not a key that can sign.
    #[error(
        "the private key is not understood: store the PEM file as it was downloaded (RSA, 2048 bits or more)"
    )]
    Key,
    /// Not the file of a Google service account.
    #[error(
        "the service account is not understood: store the JSON file with `client_email`, `private_key` and `token_uri`"
    )]
    Account,
    /// An id that would change the request's path.
    #[error("an id of a GitHub App or its installation is a number or a client id: letters, digits, `.`")]
    Id,
    /// The server refused, and a new try will not help.
    #[error("the token server refused with status {status} ({code}): log in again on the host")]
    Refused {
        /// HTTP status.
        status: u16,
        /// `error` of RFC 6749 §5.2, or `none`.
        code: String,
    },
    /// The answer is no token.
    #[error("the token server's answer is not understood: it must be JSON with a token of ordinary length")]
    Answer,
    /// An answer nobody waits for any more.
    #[error("the token server's answer came too late")]
    Late,
}

/// Gets and renews the token of one credential.
pub struct TokenSource {
    grant: Grant,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// Only of grants that have one; replaced when the server replaces it.
    refresh: Option<Secret>,
    not_after_s: Option<u64>,
    ticket: u64,
    /// When the request under way was made.
    asked_s: Option<u64>,
    /// Not before.
    retry_s: u64,
}

impl TokenSource {
    /// A refresh token of OAuth 2 (RFC 6749 §6); `client_secret` goes into the body, where clients have one.
    ///
    /// # Errors
    /// [`OAuthError::Url`].
    pub fn refresh(
        token_url: &str,
        client_id: &str,
        client_secret: Option<Secret>,
        refresh_token: Secret,
    ) -> Result<Self, OAuthError> {
        let endpoint = TokenEndpoint::parse(token_url)?;
        let grant = Grant::Refresh { endpoint, client_id: client_id.to_owned(), client_secret };
        let state = State { refresh: Some(refresh_token), ..State::default() };
        Ok(Self { grant, state: Mutex::new(state) })
    }

    /// An installation of a GitHub App: `api_url` is `https://api.github.com`, or a server's own `https://HOST/api/v3`;
    /// `app` is the App's id or client id, `key` its PEM file.
    ///
    /// # Errors
    /// [`OAuthError::Url`], [`OAuthError::Id`] or [`OAuthError::Key`].
    pub fn github_app(api_url: &str, app: &str, installation: &str, key: Secret) -> Result<Self, OAuthError> {
        let is_id = |id: &str| {
            (1..=64).contains(&id.len()) && id.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'.')
        };
        let is_number = installation.bytes().all(|b| b.is_ascii_digit());
        if !is_id(installation) || !is_number || !is_id(app) {
            return Err(OAuthError::Id);
        }
        let mut endpoint = TokenEndpoint::parse(api_url)?;
        let base = endpoint.path.trim_end_matches('/');
        endpoint.path = format!("{base}/app/installations/{installation}/access_tokens");
        jwt::check_key(&jwt::der(key.expose())?)?;
        Ok(Self::new(Grant::GitHubApp { endpoint, app: app.to_owned(), key }))
    }

    /// A Google service account: `account` is its JSON file, `scope` what is asked for, separated by spaces.
    ///
    /// # Errors
    /// [`OAuthError::Account`], [`OAuthError::Url`] or [`OAuthError::Key`].
    pub fn google_service_account(account: Secret, scope: &str) -> Result<Self, OAuthError> {
        let parsed = grant::Account::parse(account.expose())?;
        let endpoint = TokenEndpoint::parse(&parsed.token_uri)?;
        jwt::check_key(&jwt::der(parsed.private_key.as_bytes())?)?;
        drop(parsed);
        Ok(Self::new(Grant::GoogleServiceAccount { endpoint, account, scope: scope.to_owned() }))
    }

    fn new(grant: Grant) -> Self {
        Self { grant, state: Mutex::default() }
    }

    /// Where it asks.
    #[must_use]
    pub fn endpoint(&self) -> &TokenEndpoint {
        self.grant.endpoint()
    }

    /// What to do at `now_s` (seconds since 1970).
    ///
    /// # Errors
    /// [`OAuthError::Key`] or [`OAuthError::Account`], if the key cannot sign after all.
    pub fn next(&self, now_s: u64) -> Result<Next, OAuthError> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if state.not_after_s.is_some_and(|end| now_s.saturating_add(TOKEN_EARLY_S) < end) {
            return Ok(Next::Fresh);
        }
        let is_under_way =
            state.asked_s.is_some_and(|asked| now_s.saturating_sub(asked) < TOKEN_REQUEST_S_MAX);
        if is_under_way || now_s < state.retry_s {
            return Ok(Next::Wait);
        }
        let (headers, body) = self.grant.request(now_s, state.refresh.as_ref())?;
        state.ticket = state.ticket.wrapping_add(1);
        state.asked_s = Some(now_s);
        let endpoint = self.grant.endpoint().clone();
        Ok(Next::Send(TokenRequest { endpoint, headers, body, ticket: state.ticket }))
    }

    /// The answer to a request: the new token, to be put into the vault, and the refresh token that replaces the stored
    /// one, if the server gave one. The caller clears `body`.
    ///
    /// # Errors
    /// [`OAuthError`]; a new request is made after [`TOKEN_RETRY_S`] at the earliest.
    pub fn answer(&self, ticket: u64, now_s: u64, (status, body): (u16, &[u8])) -> Result<Token, OAuthError> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if state.ticket != ticket || state.asked_s.is_none() {
            return Err(OAuthError::Late);
        }
        state.asked_s = None;
        state.retry_s = now_s.saturating_add(TOKEN_RETRY_S);
        let token = answer::read(now_s, status, body)?;
        state.retry_s = 0;
        state.not_after_s = Some(token.not_after_s);
        if let Some(refresh) = &token.refresh {
            state.refresh = Some(refresh.duplicate());
        }
        Ok(token)
    }

    /// A request could not be sent, or was not answered.
    pub fn failed(&self, ticket: u64, now_s: u64) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if state.ticket == ticket {
            state.asked_s = None;
            state.retry_s = now_s.saturating_add(TOKEN_RETRY_S);
        }
    }

    /// Tokens that the guest's own tool was given by the same endpoint, as [`mask_token_answer`] read them.
    pub fn learn(&self, token: &Token) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        // An older request's answer must not put back what this one replaced.
        state.ticket = state.ticket.wrapping_add(1);
        state.asked_s = None;
        state.not_after_s = Some(token.not_after_s);
        if let Some(refresh) = &token.refresh {
            state.refresh = Some(refresh.duplicate());
        }
    }
}

impl TokenEndpoint {
    /// From a URL.
    ///
    /// # Errors
    /// [`OAuthError::Url`].
    pub fn parse(url: &str) -> Result<Self, OAuthError> {
        let rest = url.strip_prefix("https://").ok_or(OAuthError::Url)?;
        let (authority, path) = match rest.split_once('/') {
            Some((authority, path)) => (authority, format!("/{path}")),
            None => (rest, "/".to_owned()),
        };
        let (host, port) = match authority.rsplit_once(':') {
            Some((host, port)) => {
                let digits = !port.is_empty() && port.bytes().all(|b| b.is_ascii_digit());
                let port = port.parse().ok().filter(|port| digits && *port > 0);
                (host, port.ok_or(OAuthError::Url)?)
            }
            None => (authority, 443),
        };
        let host_is_good = host.parse::<crate::HostPattern>().is_ok() && !host.contains('*');
        let path_is_good = path.parse::<crate::PathPattern>().is_ok() && !path.contains('*');
        if host_is_good && path_is_good {
            Ok(Self { host: host.to_owned(), port, path })
        } else {
            Err(OAuthError::Url)
        }
    }
}

#[cfg(test)]
mod tests;
