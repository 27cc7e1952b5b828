//! What is sent for a token, for each kind of grant.

use std::borrow::Cow;

use zeroize::{Zeroize, Zeroizing};

use super::{OAuthError, TokenEndpoint, jwt};
use crate::secret::Secret;
use crate::sign::uri_encode;

/// What a token is made from.
pub(super) enum Grant {
    Refresh { endpoint: TokenEndpoint, client_id: String, client_secret: Option<Secret> },
    GitHubApp { endpoint: TokenEndpoint, app: String, key: Secret },
    GoogleServiceAccount { endpoint: TokenEndpoint, account: Secret, scope: String },
}

type Parts = (Vec<(&'static str, Zeroizing<String>)>, Zeroizing<Vec<u8>>);

/// The file of a Google service account. What serde had to unescape is cleared.
#[derive(serde::Deserialize)]
pub(super) struct Account<'a> {
    #[serde(borrow)]
    pub(super) client_email: Cow<'a, str>,
    #[serde(borrow)]
    pub(super) private_key: Cow<'a, str>,
    #[serde(borrow)]
    pub(super) token_uri: Cow<'a, str>,
}

impl<'a> Account<'a> {
    pub(super) fn parse(json: &'a [u8]) -> Result<Self, OAuthError> {
        serde_json::from_slice(json).map_err(|_| OAuthError::Account)
    }
}

impl Drop for Account<'_> {
    fn drop(&mut self) {
        if let Cow::Owned(key) = &mut self.private_key {
            key.zeroize();
        }
    }
}

impl Grant {
    pub(super) fn endpoint(&self) -> &TokenEndpoint {
        match self {
            Self::Refresh { endpoint, .. }
            | Self::GitHubApp { endpoint, .. }
            | Self::GoogleServiceAccount { endpoint, .. } => endpoint,
        }
    }

    pub(super) fn request(&self, now_s: u64, refresh: Option<&Secret>) -> Result<Parts, OAuthError> {
        match self {
            Self::Refresh { client_id, client_secret, .. } => {
                let token = refresh.map(Secret::expose).unwrap_or_default();
                let secret = client_secret.as_ref().map(|secret| ("client_secret", secret.expose()));
                let fields = [
                    ("grant_type", &b"refresh_token"[..]),
                    ("refresh_token", token),
                    ("client_id", client_id.as_bytes()),
                ];
                Ok(form(fields.into_iter().chain(secret)))
            }
            Self::GitHubApp { app, key, .. } => {
                // "Generating a JSON Web Token (JWT) for a GitHub App": the clock may be ahead by a minute, and ten
                // minutes is the most.
                let (from, to) = (now_s.saturating_sub(60), now_s.saturating_add(540));
                let claims = serde_json::json!({ "iat": from, "exp": to, "iss": app });
                let assertion = jwt::sign(&claims.to_string(), &jwt::der(key.expose())?)?;
                let mut bearer = Zeroizing::new(String::with_capacity(assertion.len().saturating_add(7)));
                bearer.push_str("Bearer ");
                bearer.push_str(&assertion);
                let fixed = |text: &str| Zeroizing::new(text.to_owned());
                let headers = vec![
                    ("authorization", bearer),
                    ("accept", fixed("application/vnd.github+json")),
                    ("user-agent", fixed("credvault")),
                ];
                Ok((headers, Zeroizing::default()))
            }
            Self::GoogleServiceAccount { account, scope, .. } => {
                let account = Account::parse(account.expose())?;
                let claims = serde_json::json!({
                    "iss": account.client_email, "scope": scope, "aud": account.token_uri,
                    "iat": now_s, "exp": now_s.saturating_add(3600),
                });
                let der = jwt::der(account.private_key.as_bytes())?;
                let assertion = jwt::sign(&claims.to_string(), &der)?;
                Ok(form([
                    ("grant_type", &b"urn:ietf:params:oauth:grant-type:jwt-bearer"[..]),
                    ("assertion", assertion.as_bytes()),
                ]))
            }
        }
    }
}

/// `application/x-www-form-urlencoded`, in a buffer that does not grow.
fn form<'a>(fields: impl IntoIterator<Item = (&'a str, &'a [u8])> + Clone) -> Parts {
    let length = |(name, value): (&str, &[u8])| {
        name.len().saturating_add(value.len().saturating_mul(3)).saturating_add(2)
    };
    let length = fields.clone().into_iter().map(length).fold(0usize, usize::saturating_add);
    let mut body = Zeroizing::new(String::with_capacity(length));
    for (name, value) in fields {
        if !body.is_empty() {
            body.push('&');
        }
        body.push_str(name);
        body.push('=');
        uri_encode(value.iter().copied(), false, &mut body);
    }
    let fixed = |text: &str| Zeroizing::new(text.to_owned());
    let headers = vec![
        ("content-type", fixed("application/x-www-form-urlencoded")),
        ("accept", fixed("application/json")),
    ];
    (headers, Zeroizing::new(std::mem::take(&mut *body).into_bytes()))
}
