//! The answer of a token server to the guest's own tool, with placeholders in place of its tokens: the tool goes on as if
//! it were logged in, and what it could steal is worth nothing.

use std::collections::BTreeMap;

use serde_json::value::RawValue;

use super::{OAuthError, Token, answer};
use crate::limits::TOKEN_ANSWER_BYTES_MAX;
use crate::placeholder::{Placeholder, PlaceholderFormat};
use crate::vault::Random;

/// What stands in for the tokens.
#[derive(Clone, Copy)]
pub struct TokenLooks<'a> {
    /// For `access_token`: the placeholder of the credential whose requests get it.
    pub access: &'a Placeholder,
    /// For `refresh_token`: that of the credential that stands in the body of requests for a new one.
    pub refresh: &'a Placeholder,
}

/// An answer that the guest may have.
pub struct Masked {
    /// JSON.
    pub body: Vec<u8>,
    /// What was in it, for the vault.
    pub token: Token,
}

/// Masks an answer with status 200. Every other field whose name says that it holds a token gets a placeholder that is
/// good for nothing; `id_token` keeps the look of a JWT.
///
/// # Errors
/// [`OAuthError`]: the answer must not pass, as it may hold a token in a form that is not known.
pub fn mask_token_answer(
    now_s: u64,
    body: &[u8],
    looks: TokenLooks<'_>,
    random: Random<'_>,
) -> Result<Masked, OAuthError> {
    if body.len() > TOKEN_ANSWER_BYTES_MAX {
        return Err(OAuthError::Answer);
    }
    let token = answer::read(now_s, 200, body)?;
    let fields: BTreeMap<&str, &RawValue> = serde_json::from_slice(body).map_err(|_| OAuthError::Answer)?;
    let mut minted = |format: &str| {
        let format: PlaceholderFormat = format.parse().map_err(|_| OAuthError::Answer)?;
        format.mint(&mut *random).map_err(|_| OAuthError::Answer)
    };
    let mut out = String::from("{");
    for (name, value) in fields {
        let is_secret = |word: &str| name.to_ascii_lowercase().contains(word);
        let replaced = match name {
            "access_token" | "token" => Some(looks.access.clone()),
            "refresh_token" => Some(looks.refresh.clone()),
            "id_token" => Some(minted("eyJ{17:alnum}.eyJ{61:alnum}.{43:word}")?),
            "token_type" | "issued_token_type" | "expires_in" | "refresh_token_expires_in" => None,
            _ if is_secret("token") || is_secret("secret") || is_secret("assertion") => {
                Some(minted("{40:alnum}")?)
            }
            _ => None,
        };
        if out.len() > 1 {
            out.push(',');
        }
        // A name that serde could borrow has no escapes, so it is written as it was.
        out.extend(["\"", name, "\":"]);
        match replaced {
            Some(placeholder) => out.extend(["\"", placeholder.as_str(), "\""]),
            None => out.push_str(value.get()),
        }
    }
    out.push('}');
    Ok(Masked { body: out.into_bytes(), token })
}
