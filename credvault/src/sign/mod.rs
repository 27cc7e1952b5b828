//! Signatures that stand in for a secret which is never sent: AWS Signature V4 and HMAC over a template.
//!
//! Everything here is a function of the request, the secret and the time that the caller passes. Must never
//! leave a key, or a key derived from one, in memory that is not cleared.

mod chunks;
mod hmac_template;
mod sigv4;
#[cfg(test)]
mod suite_tests;

pub use chunks::{ChunkError, ChunkResigner};
pub use hmac_template::{HmacEncoding, HmacTemplate};
pub use sigv4::{AwsKeys, AwsScope, CanonicalStyle, SigV4};
pub(crate) use sigv4::{is_aws_authorization, uri_decode, uri_encode};

use hmac::{Hmac, KeyInit, Mac};
use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

use crate::secret::Secret;

/// What is known of the body when the head is signed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Payload<'a> {
    /// Nothing: the signature must name the hash itself, or the method must have no body.
    #[default]
    Unknown,
    /// Not here, but it will go through [`crate::InjectOutcome::chunks`].
    Streamed,
    /// There is none.
    Empty,
    /// The whole body.
    Bytes(&'a [u8]),
    /// What goes into the signature as it is: a SHA-256 in hexadecimal, `UNSIGNED-PAYLOAD`, or one of the
    /// `STREAMING-…` words of S3.
    Hash(&'a str),
}

/// A request to be signed, as it will be sent.
#[derive(Clone, Copy)]
pub struct SigningRequest<'a> {
    /// The method, in its own case.
    pub method: &'a str,
    /// The path as it is sent, without query.
    pub path: &'a str,
    /// The query without its `?`.
    pub query: Option<&'a str>,
    /// Names in any case, and values. `host` must be among them.
    pub headers: &'a [(&'a [u8], &'a [u8])],
    /// The body.
    pub payload: Payload<'a>,
    /// Seconds since 1970, for signatures that hold a time of their own.
    pub now_s: u64,
}

/// Headers to set on the signed request. A client's own of the same name are to be removed.
pub type SignedHeaders = Vec<(String, Zeroizing<Vec<u8>>)>;

/// Signs a request with a secret.
pub trait Signer: Send + Sync {
    /// The headers that carry the signature.
    ///
    /// # Errors
    /// [`SignError`]; the request must not be sent then.
    fn sign(&self, request: &SigningRequest<'_>, secret: &Secret) -> Result<SignedHeaders, SignError>;
}

/// Why a request cannot be signed. Texts may be shown to the guest: they hold no secret.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SignError {
    /// The stored value is no pair of keys.
    #[error(
        "the stored AWS credential is not understood: store it as ACCESS_KEY_ID:SECRET_ACCESS_KEY[:SESSION_TOKEN]"
    )]
    AwsKeys,
    /// The client's signature, whose scope is taken over, makes no sense.
    #[error(
        "the request's own AWS signature is not understood: sign with AWS Signature Version 4 (`AWS4-HMAC-SHA256`)"
    )]
    ClientSignature,
    /// A header that the client signed is not in the request.
    #[error(
        "the request's AWS signature covers a header that the request does not have: send every signed header"
    )]
    HeaderMissing,
    /// The signature covers the body and nothing tells its hash.
    #[error(
        "the signature covers the body, which is not known here: send `x-amz-content-sha256` (its SHA-256, or UNSIGNED-PAYLOAD where the service takes it)"
    )]
    BodyNeeded,
    /// More headers or parameters than any client sends.
    #[error("the request has too many headers or parameters to be signed: send fewer")]
    TooMany,
}

/// HMAC-SHA-256 (RFC 2104, FIPS 180-4).
///
/// ```
/// use credvault::{Secret, hmac_sha256};
/// // RFC 4231 §4.3.
/// let tag = hmac_sha256(&Secret::new(b"Jefe".to_vec()), &[b"what do ya want ", b"for nothing?"]);
/// assert_eq!(tag[..4], [0x5b, 0xdc, 0xc1, 0x46]);
/// ```
#[must_use]
pub fn hmac_sha256(key: &Secret, parts: &[&[u8]]) -> [u8; 32] {
    *hmac(key.expose(), parts)
}

fn hmac(key: &[u8], parts: &[&[u8]]) -> Zeroizing<[u8; 32]> {
    // A key of any length is taken (RFC 2104 §3), so this is never the default.
    let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(key) else { return Zeroizing::default() };
    parts.iter().for_each(|part| mac.update(part));
    Zeroizing::new(mac.finalize().into_bytes().into())
}

/// SHA-256 in lower-case hexadecimal.
pub(crate) fn sha256_hex(bytes: &[u8]) -> String {
    hex(&Sha256::digest(bytes))
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    const DIGITS: [char; 16] =
        ['0', '1', '2', '3', '4', '5', '6', '7', '8', '9', 'a', 'b', 'c', 'd', 'e', 'f'];
    let mut out = String::with_capacity(bytes.len().saturating_mul(2));
    for byte in bytes {
        for nibble in [byte >> 4, byte & 0xf] {
            out.extend(DIGITS.get(usize::from(nibble)));
        }
    }
    out
}
