//! JSON Web Tokens signed with RSA (RFC 7515, RS256 of RFC 7518 §3.3), with keys as they are downloaded. A key is parsed
//! for each signature and cleared after it: there is one an hour.

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::KeyPair;
use aws_lc_rs::signature::RSA_PKCS1_SHA256;
use zeroize::Zeroizing;

use super::OAuthError;
use crate::encode::{Alphabet, base64, base64_decode};

/// The key inside a PEM file (RFC 7468): PKCS #1 as GitHub gives it, or PKCS #8 as Google does.
pub(super) struct Der {
    bytes: Zeroizing<Vec<u8>>,
    is_pkcs8: bool,
}

pub(super) fn der(pem: &[u8]) -> Result<Der, OAuthError> {
    let pem = str::from_utf8(pem).map_err(|_| OAuthError::Key)?;
    for (label, is_pkcs8) in [("RSA PRIVATE KEY", false), ("PRIVATE KEY", true)] {
        let (begin, end) = (format!("-----BEGIN {label}-----"), format!("-----END {label}-----"));
        let Some((_, rest)) = pem.split_once(&begin) else { continue };
        let (text, _) = rest.split_once(&end).ok_or(OAuthError::Key)?;
        let mut digits = Zeroizing::new(Vec::with_capacity(text.len()));
        digits.extend(text.bytes().filter(|byte| !byte.is_ascii_whitespace()));
        let bytes = base64_decode(&digits).ok_or(OAuthError::Key)?;
        return Ok(Der { bytes, is_pkcs8 });
    }
    Err(OAuthError::Key)
}

fn key_pair(der: &Der) -> Result<KeyPair, OAuthError> {
    let key = if der.is_pkcs8 { KeyPair::from_pkcs8(&der.bytes) } else { KeyPair::from_der(&der.bytes) };
    key.map_err(|_| OAuthError::Key)
}

/// Whether it can sign.
pub(super) fn check_key(der: &Der) -> Result<(), OAuthError> {
    key_pair(der).map(|_| ())
}

/// `header.claims.signature`
pub(super) fn sign(claims: &str, der: &Der) -> Result<Zeroizing<String>, OAuthError> {
    let encoded =
        |bytes: &[u8]| String::from_utf8(base64(bytes, Alphabet::UrlSafe).to_vec()).unwrap_or_default();
    let message = format!("{}.{}", encoded(br#"{"alg":"RS256","typ":"JWT"}"#), encoded(claims.as_bytes()));
    let key = key_pair(der)?;
    let mut signature = vec![0; key.public_modulus_len()];
    key.sign(&RSA_PKCS1_SHA256, &SystemRandom::new(), message.as_bytes(), &mut signature)
        .map_err(|_| OAuthError::Key)?;
    Ok(Zeroizing::new(format!("{message}.{}", encoded(&signature))))
}
