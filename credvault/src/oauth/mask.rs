//! The answer of a token server to the guest's own tool, with placeholders in place of its tokens: the tool goes on as if
//! it were logged in, and what it could steal is worth nothing.

use std::collections::BTreeMap;

use serde_json::value::RawValue;
use zeroize::Zeroizing;

use super::{OAuthError, Token, answer};
use crate::limits::{TOKEN_ANSWER_BYTES_MAX, TOKEN_ANSWER_DEPTH_MAX};
use crate::placeholder::{Placeholder, PlaceholderFormat};
use crate::secret::Secret;
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

/// Masks an answer: status and body. Every other field, however deep, whose name says that it holds a token, secret,
/// assertion or key gets a placeholder that is good for nothing, as does all that stands below such a field; `id_token`
/// keeps the look of a JWT. A text that holds one of the two tokens gets a placeholder whatever its field's name.
///
/// # Errors
/// [`OAuthError`]: the answer must not pass, as it may hold a token in a form that is not known; nor is what a refusal holds
/// a token.
pub fn mask_token_answer(
    now_s: u64,
    (status, body): (u16, &[u8]),
    looks: TokenLooks<'_>,
    random: Random<'_>,
) -> Result<Masked, OAuthError> {
    if body.len() > TOKEN_ANSWER_BYTES_MAX {
        return Err(OAuthError::Answer);
    }
    let token = answer::read(now_s, status, body)?;
    let fields: BTreeMap<&str, &RawValue> = serde_json::from_slice(body).map_err(|_| OAuthError::Answer)?;
    let tokens = [Some(&token.access), token.refresh.as_ref()];
    let mut masker = Masker { random, tokens, out: String::with_capacity(body.len()) };
    masker.object(fields, |masker, name, value| match name {
        "access_token" | "token" => {
            masker.text(looks.access);
            Ok(())
        }
        "refresh_token" => {
            masker.text(looks.refresh);
            Ok(())
        }
        _ => masker.field(name, value, false, 1),
    })?;
    let out = Zeroizing::new(masker.out);
    // In a name or a number, say.
    if holds(tokens, &out) {
        return Err(OAuthError::Answer);
    }
    let body = out.as_bytes().to_vec();
    Ok(Masked { body, token })
}

/// Tokens are visible ASCII.
fn holds(tokens: [Option<&Secret>; 2], text: &str) -> bool {
    tokens.iter().flatten().any(|token| {
        let mut windows = text.as_bytes().windows(token.len());
        windows.any(|window| window == token.expose())
    })
}

struct Masker<'a> {
    random: Random<'a>,
    tokens: [Option<&'a Secret>; 2],
    out: String,
}

impl Masker<'_> {
    fn object<'v>(
        &mut self,
        fields: BTreeMap<&'v str, &'v RawValue>,
        mut write: impl FnMut(&mut Self, &str, &'v RawValue) -> Result<(), OAuthError>,
    ) -> Result<(), OAuthError> {
        self.out.push('{');
        for (place, (name, value)) in fields.into_iter().enumerate() {
            // A name that serde could borrow has no escapes, so it is written as it was.
            self.out.extend([if place == 0 { "\"" } else { ",\"" }, name, "\":"]);
            write(self, name, value)?;
        }
        self.out.push('}');
        Ok(())
    }

    fn field(
        &mut self,
        name: &str,
        value: &RawValue,
        is_secret: bool,
        depth: usize,
    ) -> Result<(), OAuthError> {
        let lower = name.to_ascii_lowercase();
        match lower.as_str() {
            "token_type" | "issued_token_type" | "expires_in" | "refresh_token_expires_in" => {
                let is_nested = value.get().starts_with(['{', '[']);
                self.value(value, is_secret && is_nested, depth)
            }
            "id_token" if !value.get().starts_with(['{', '[']) => {
                self.minted("eyJ{17:alnum}.eyJ{61:alnum}.{43:word}")
            }
            _ => {
                let says = |word: &&str| lower.contains(word);
                let is_secret = is_secret || ["token", "secret", "assertion", "key"].iter().any(says);
                self.value(value, is_secret, depth)
            }
        }
    }

    fn value(&mut self, value: &RawValue, is_secret: bool, depth: usize) -> Result<(), OAuthError> {
        if depth > TOKEN_ANSWER_DEPTH_MAX {
            return Err(OAuthError::Answer);
        }
        let text = value.get();
        let below = depth.saturating_add(1);
        let read = |_| OAuthError::Answer;
        if text.starts_with('{') {
            let fields: BTreeMap<&str, &RawValue> = serde_json::from_str(text).map_err(read)?;
            self.object(fields, |masker, name, value| masker.field(name, value, is_secret, below))
        } else if text.starts_with('[') {
            let values: Vec<&RawValue> = serde_json::from_str(text).map_err(read)?;
            self.out.push('[');
            for (place, value) in values.into_iter().enumerate() {
                if place > 0 {
                    self.out.push(',');
                }
                self.value(value, is_secret, below)?;
            }
            self.out.push(']');
            Ok(())
        } else if self.holds_token(text)? || (is_secret && !matches!(text, "true" | "false" | "null")) {
            self.minted("{40:alnum}")
        } else {
            self.out.push_str(text);
            Ok(())
        }
    }

    /// Also where it is written with escapes.
    fn holds_token(&self, text: &str) -> Result<bool, OAuthError> {
        if !text.starts_with('"') {
            return Ok(false);
        }
        if !text.contains('\\') {
            return Ok(holds(self.tokens, text));
        }
        let plain: Zeroizing<String> =
            Zeroizing::new(serde_json::from_str(text).map_err(|_| OAuthError::Answer)?);
        Ok(holds(self.tokens, &plain))
    }

    fn minted(&mut self, format: &str) -> Result<(), OAuthError> {
        let format: PlaceholderFormat = format.parse().map_err(|_| OAuthError::Answer)?;
        let placeholder = format.mint(&mut *self.random).map_err(|_| OAuthError::Answer)?;
        self.text(&placeholder);
        Ok(())
    }

    fn text(&mut self, placeholder: &Placeholder) {
        self.out.extend(["\"", placeholder.as_str(), "\""]);
    }
}
