//! AWS Signature Version 4 ("Authenticating Requests", AWS General Reference; S3 API Reference for its
//! quirks): canonical request → string to sign → signature with a key derived per day, region, service.
//!
//! Must never sign with a scope of its own making: day, region, service and the choice of headers are the
//! client's, who knows what it calls.

use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

use super::{Payload, SignError, SignedHeaders, Signer, SigningRequest, hex, hmac, sha256_hex};
use crate::limits::SIGNED_FIELDS_MAX;
use crate::secret::Secret;

const ALGORITHM: &str = "AWS4-HMAC-SHA256";
/// SHA-256 of nothing.
pub(super) const EMPTY: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

/// `ACCESS_KEY_ID:SECRET_ACCESS_KEY[:SESSION_TOKEN]`, as it is stored. None of the three has a colon.
pub struct AwsKeys<'a> {
    /// Not secret, but not for the guest either.
    pub id: &'a str,
    /// The key.
    pub secret: &'a [u8],
    /// Of temporary credentials.
    pub token: Option<&'a [u8]>,
}

impl<'a> AwsKeys<'a> {
    /// Takes a stored value apart.
    ///
    /// # Errors
    /// [`SignError::AwsKeys`].
    pub fn parse(value: &'a [u8]) -> Result<Self, SignError> {
        let mut parts = value.splitn(3, |&byte| byte == b':');
        let id = parts.next().and_then(|id| str::from_utf8(id).ok()).unwrap_or_default();
        let secret = parts.next().unwrap_or_default();
        let id_is_good = (16..=128).contains(&id.len()) && id.bytes().all(|b| b.is_ascii_alphanumeric());
        if !id_is_good || secret.len() < 16 {
            return Err(SignError::AwsKeys);
        }
        Ok(Self { id, secret, token: parts.next().filter(|token| !token.is_empty()) })
    }
}

/// Day, region and service that a signature is valid for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AwsScope<'a> {
    /// `YYYYMMDD`.
    pub day: &'a str,
    /// Such as `eu-central-1`.
    pub region: &'a str,
    /// Such as `bedrock`.
    pub service: &'a str,
}

/// How a path is made canonical.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CanonicalStyle {
    /// Dot segments and empty ones are removed.
    pub is_normalized: bool,
    /// Encoded once more than it is sent.
    pub is_encoded_twice: bool,
}

impl CanonicalStyle {
    /// Nearly every service.
    pub const GENERAL: Self = Self { is_normalized: true, is_encoded_twice: true };
    /// Object keys may hold `..` and `//`, and are encoded once in total.
    pub const S3: Self = Self { is_normalized: false, is_encoded_twice: false };

    fn of(service: &str) -> Self {
        let is_s3 = ["s3", "s3-object-lambda", "s3express", "s3-outposts"].contains(&service);
        if is_s3 { Self::S3 } else { Self::GENERAL }
    }
}

/// One signature to make.
#[derive(Clone, Copy, Debug)]
pub struct SigV4<'a> {
    /// For what.
    pub scope: AwsScope<'a>,
    /// `YYYYMMDDTHHMMSSZ`.
    pub time: &'a str,
    /// Lower-case names in order, joined by `;`.
    pub signed_headers: &'a str,
    /// How the path is made canonical.
    pub style: CanonicalStyle,
}

/// Whether a header's value is a V4 signature.
#[must_use]
pub fn is_aws_authorization(value: &[u8]) -> bool {
    value.starts_with(ALGORITHM.as_bytes()) && value.get(ALGORITHM.len()) == Some(&b' ')
}

impl<'a> SigV4<'a> {
    /// Takes scope, headers and time over from a client that signed with other keys, in its
    /// `authorization` header.
    ///
    /// # Errors
    /// [`SignError::ClientSignature`].
    pub fn from_authorization(value: &'a str, time: &'a str) -> Result<Self, SignError> {
        let fields = value.strip_prefix(ALGORITHM).ok_or(SignError::ClientSignature)?;
        let field = |name: &str| {
            fields.split(',').find_map(|field| field.trim().strip_prefix(name)?.strip_prefix('='))
        };
        Self::new(field("Credential"), field("SignedHeaders"), time)
    }

    /// The same from the query of a presigned URL; the values must be decoded.
    ///
    /// # Errors
    /// [`SignError::ClientSignature`].
    pub fn new(
        credential: Option<&'a str>,
        signed_headers: Option<&'a str>,
        time: &'a str,
    ) -> Result<Self, SignError> {
        let bad = SignError::ClientSignature;
        let mut parts = credential.ok_or(bad)?.splitn(5, '/').skip(1);
        let mut part = || parts.next().filter(|part| is_scope_part(part)).ok_or(bad);
        let scope = AwsScope { day: part()?, region: part()?, service: part()? };
        let signed_headers = signed_headers.filter(|names| is_header_list(names)).ok_or(bad)?;
        let time_is_good = time.len() == 16 && time.bytes().all(|b| b.is_ascii_digit() || b"TZ".contains(&b));
        if part()? != "aws4_request" || !time_is_good || !time.starts_with(scope.day) {
            return Err(bad);
        }
        Ok(Self { scope, time, signed_headers, style: CanonicalStyle::of(scope.service) })
    }

    fn scope_text(&self) -> String {
        let AwsScope { day, region, service } = self.scope;
        format!("{day}/{region}/{service}/aws4_request")
    }

    /// Value of `Credential=` for an access key.
    #[must_use]
    pub fn credential(&self, id: &str) -> String {
        format!("{id}/{}", self.scope_text())
    }

    /// The signature in hexadecimal.
    ///
    /// # Errors
    /// [`SignError`].
    pub fn signature(&self, request: &SigningRequest<'_>, secret: &[u8]) -> Result<String, SignError> {
        let mut canonical = Sha256::new();
        self.canonical_request(request, &mut |part| canonical.update(part))?;
        let (time, scope, hash) = (self.time, self.scope_text(), hex(&canonical.finalize()));
        let text = format!("{ALGORITHM}\n{time}\n{scope}\n{hash}");
        Ok(hex(&hmac(&self.key(secret)[..], &[text.as_bytes()])[..]))
    }

    /// The whole `authorization` value.
    ///
    /// # Errors
    /// [`SignError`].
    pub fn authorization(
        &self,
        request: &SigningRequest<'_>,
        keys: &AwsKeys<'_>,
    ) -> Result<String, SignError> {
        Ok(self.authorization_with(keys.id, &self.signature(request, keys.secret)?))
    }

    pub(crate) fn authorization_with(&self, id: &str, signature: &str) -> String {
        let (credential, headers) = (self.credential(id), self.signed_headers);
        format!("{ALGORITHM} Credential={credential}, SignedHeaders={headers}, Signature={signature}")
    }

    /// Key of one day, region and service.
    pub(super) fn key(&self, secret: &[u8]) -> Zeroizing<[u8; 32]> {
        let mut first = Zeroizing::new(Vec::with_capacity(secret.len().saturating_add(4)));
        first.extend_from_slice(b"AWS4");
        first.extend_from_slice(secret);
        let AwsScope { day, region, service } = self.scope;
        let key = hmac(&first, &[day.as_bytes()]);
        let key = hmac(&key[..], &[region.as_bytes()]);
        let key = hmac(&key[..], &[service.as_bytes()]);
        hmac(&key[..], &[b"aws4_request"])
    }

    /// Signs one chunk of `STREAMING-AWS4-HMAC-SHA256-PAYLOAD` after the signature before it.
    pub(super) fn chunk_signature(&self, key: &[u8], previous: &str, chunk: &[u8]) -> String {
        let (time, scope, hash) = (self.time, self.scope_text(), sha256_hex(chunk));
        let text = format!("{ALGORITHM}-PAYLOAD\n{time}\n{scope}\n{previous}\n{EMPTY}\n{hash}");
        hex(&hmac(key, &[text.as_bytes()])[..])
    }

    /// Gives the canonical request piece by piece: a session token is in it, and nobody keeps a copy.
    pub(super) fn canonical_request(
        &self,
        request: &SigningRequest<'_>,
        out: Out<'_>,
    ) -> Result<(), SignError> {
        for part in [request.method, "\n", &canonical_path(request.path, self.style), "\n"] {
            out(part);
        }
        canonical_query(request.query.unwrap_or_default(), out)?;
        out("\n");
        for name in self.signed_headers.split(';') {
            out(name);
            out(":");
            canonical_header(request.headers, name, out)?;
            out("\n");
        }
        let hash = match request.payload {
            Payload::Empty => EMPTY.to_owned(),
            Payload::Bytes(body) => sha256_hex(body),
            Payload::Hash(text) => text.to_owned(),
            Payload::Unknown | Payload::Streamed => return Err(SignError::BodyNeeded),
        };
        for part in ["\n", self.signed_headers, "\n", &hash] {
            out(part);
        }
        Ok(())
    }
}

/// Takes a text piece by piece.
type Out<'o> = &'o mut dyn FnMut(&str);

/// Signs with the keys stored as [`AwsKeys`] says; the headers must have `host` and what is signed.
impl Signer for SigV4<'_> {
    fn sign(&self, request: &SigningRequest<'_>, secret: &Secret) -> Result<SignedHeaders, SignError> {
        let keys = AwsKeys::parse(secret.expose())?;
        let value = self.authorization(request, &keys)?;
        Ok(vec![("authorization".to_owned(), Zeroizing::new(value.into_bytes()))])
    }
}

fn is_scope_part(part: &str) -> bool {
    (1..=64).contains(&part.len()) && part.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_".contains(&b))
}

fn is_header_list(names: &str) -> bool {
    let is_name = |name: &str| crate::matching::is_http_token(name) && name == name.to_ascii_lowercase();
    names.split(';').count() <= SIGNED_FIELDS_MAX && names.split(';').all(is_name)
}

/// Encodes all but the unreserved characters of RFC 3986 §2.3, and slashes if `keep_slash`.
pub(crate) fn uri_encode(bytes: impl IntoIterator<Item = u8>, keep_slash: bool, out: &mut String) {
    for byte in bytes {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) || (keep_slash && byte == b'/') {
            out.push(char::from(byte));
        } else {
            let digits = [byte >> 4, byte & 0xf].map(|digit| char::from_digit(digit.into(), 16));
            out.push('%');
            out.extend(digits.into_iter().flatten().map(|digit| digit.to_ascii_uppercase()));
        }
    }
}

/// `%41` is `A`; an escape that is none stays as it is.
pub(crate) fn uri_decode(text: &str, plus_is_space: bool) -> Vec<u8> {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&byte, after)) = rest.split_first() {
        let escape = (byte == b'%').then(|| after.split_at_checked(2)).flatten();
        let digits = escape.and_then(|(pair, _)| str::from_utf8(pair).ok());
        let is_hex = |pair: &&str| pair.bytes().all(|b| b.is_ascii_hexdigit());
        match (digits.filter(is_hex).and_then(|pair| u8::from_str_radix(pair, 16).ok()), escape) {
            (Some(value), Some((_, after))) => {
                out.push(value);
                rest = after;
            }
            _ => {
                out.push(if byte == b'+' && plus_is_space { b' ' } else { byte });
                rest = after;
            }
        }
    }
    out
}

fn canonical_path(path: &str, style: CanonicalStyle) -> String {
    let mut out = String::with_capacity(path.len().saturating_add(16));
    let path = if style.is_normalized { normalized(path) } else { path.to_owned() };
    if style.is_encoded_twice {
        uri_encode(path.bytes(), true, &mut out);
    } else {
        uri_encode(uri_decode(&path, false), true, &mut out);
    }
    if out.is_empty() {
        out.push('/');
    }
    out
}

/// RFC 3986 §5.2.4, and empty segments removed.
fn normalized(path: &str) -> String {
    let mut kept: Vec<&str> = Vec::new();
    for segment in path.split('/') {
        match segment {
            "" | "." => {}
            ".." => drop(kept.pop()),
            other => kept.push(other),
        }
    }
    let ends_in_slash = path.ends_with('/') && !kept.is_empty();
    format!("/{}{}", kept.join("/"), if ends_in_slash { "/" } else { "" })
}

/// Parameters decoded, encoded in the one way, sorted by name and value.
fn canonical_query(query: &str, out: Out<'_>) -> Result<(), SignError> {
    let mut pairs: Vec<(Zeroizing<String>, Zeroizing<String>)> = Vec::new();
    for parameter in query.split('&').filter(|parameter| !parameter.is_empty()) {
        let (name, value) = parameter.split_once('=').unwrap_or((parameter, ""));
        let encoded = |text: &str| {
            // Three bytes for each at most: nothing is left behind by growing.
            let mut out = Zeroizing::new(String::with_capacity(text.len().saturating_mul(3)));
            uri_encode(Zeroizing::new(uri_decode(text, true)).iter().copied(), false, &mut out);
            out
        };
        // A presigned URL's own signature is not part of what it signs.
        if name != "X-Amz-Signature" {
            pairs.push((encoded(name), encoded(value)));
        }
        if pairs.len() > SIGNED_FIELDS_MAX {
            return Err(SignError::TooMany);
        }
    }
    pairs.sort_unstable_by(|(a, x), (b, y)| a.as_str().cmp(b).then(x.as_str().cmp(y)));
    for (at, (name, value)) in pairs.iter().enumerate() {
        for part in [if at == 0 { "" } else { "&" }, name, "=", value] {
            out(part);
        }
    }
    Ok(())
}

/// Values of one name joined by commas; runs of spaces become one.
fn canonical_header(headers: &[(&[u8], &[u8])], name: &str, out: Out<'_>) -> Result<(), SignError> {
    let mut found = false;
    for (_, value) in headers.iter().filter(|(other, _)| other.eq_ignore_ascii_case(name.as_bytes())) {
        if found {
            out(",");
        }
        found = true;
        let text = String::from_utf8_lossy(value);
        let mut words = text.split(|c: char| c.is_ascii_whitespace()).filter(|word| !word.is_empty());
        out(words.next().unwrap_or_default());
        words.for_each(|word| [" ", word].into_iter().for_each(&mut *out));
    }
    if found { Ok(()) } else { Err(SignError::HeaderMissing) }
}
