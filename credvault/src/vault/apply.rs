//! Puts one credential into one request. Must never leave another authentication header beside it.

use zeroize::Zeroizing;

use super::{Clock, Entry, InjectError, InjectOutcome};
use crate::binding::Endpoint;
use crate::headers::HeaderAccess;
use crate::injection::{AUTH_HEADERS, AUTH_PARAMETERS, Injection};
use crate::secret::Secret;
use crate::sign::{
    AwsKeys, ChunkResigner, Payload, SigV4, SignError, Signer, SigningRequest, is_aws_authorization,
    uri_decode, uri_encode,
};
use crate::target::Target;

const TOKEN_HEADER: &str = "x-amz-security-token";
const CONTENT_HASH: &str = "x-amz-content-sha256";

/// The request beside its headers.
pub(super) struct Sending<'a> {
    pub(super) target: &'a Target<'a>,
    pub(super) payload: Payload<'a>,
    pub(super) clock: &'a Clock,
}

/// Headers as they are signed, a session token among them.
type Pairs = Vec<(Vec<u8>, Zeroizing<Vec<u8>>)>;

fn is_auth_header(header: &[u8]) -> bool {
    AUTH_HEADERS.iter().any(|name| is_read_as(name, header))
}

/// Whether a server may take a header for the one of this name.
fn is_read_as(name: &str, header: &[u8]) -> bool {
    let folded = |byte: &u8| if *byte == b'_' { b'-' } else { byte.to_ascii_lowercase() };
    name.as_bytes().iter().map(folded).eq(header.iter().map(folded))
}

fn same_name(name: &str, header: &[u8]) -> bool {
    name.as_bytes().eq_ignore_ascii_case(header)
}

impl Entry {
    pub(super) fn apply(
        &self,
        endpoint: &Endpoint,
        sending: &Sending<'_>,
        headers: &mut dyn HeaderAccess,
    ) -> Result<InjectOutcome<'_>, InjectError> {
        let version = self.live(sending.clock)?;
        let secret = &version.secret;
        let mut done = InjectOutcome { credential: Some(&self.binding.name), ..InjectOutcome::default() };
        let signing = |reason| InjectError::Sign { name: self.binding.name.clone(), reason };
        match &endpoint.injection {
            Injection::Header { .. } | Injection::Basic { .. } => {
                if let Some((name, value)) = endpoint.injection.header(secret.expose()) {
                    headers.remove(&mut |header| is_auth_header(header) || is_read_as(name, header));
                    headers.append(name, &value)?;
                    done.query = without_credentials(sending.target);
                }
            }
            Injection::Replace { headers: names } => {
                if self.replace(|header| names.contains(header), secret, headers)? {
                    done.query = without_credentials(sending.target);
                } else {
                    done.credential = None;
                }
            }
            Injection::Query { parameter } => {
                headers.remove(&mut is_auth_header);
                done.query = Some(with_parameter(sending.target, parameter, secret));
            }
            Injection::Hmac(template) => {
                let request = sending.request(&[]);
                let signed = template.sign(&request, secret).map_err(signing)?;
                let is_signed = |header: &[u8]| signed.iter().any(|(name, _)| is_read_as(name, header));
                headers.remove(&mut |header| is_auth_header(header) || is_signed(header));
                for (name, value) in &signed {
                    headers.append(name, value)?;
                }
            }
            Injection::AwsSigV4 => {
                let resigned = resign(sending, secret, headers).map_err(signing)?;
                let Some(Resigned { set, query, chunks }) = resigned else {
                    return Ok(InjectOutcome::default());
                };
                let is_set = |header: &[u8]| set.iter().any(|(name, _)| same_name(name, header));
                headers.remove(&mut |header| {
                    is_auth_header(header) || same_name(TOKEN_HEADER, header) || is_set(header)
                });
                for (name, value) in &set {
                    headers.append(name, value)?;
                }
                (done.query, done.chunks) = (query, chunks);
            }
            Injection::Body => done.credential = None,
        }
        Ok(done)
    }

    /// Replaces the placeholder in the headers that `names` allows; whether there was one.
    fn replace(
        &self,
        names: impl Fn(&[u8]) -> bool,
        secret: &Secret,
        headers: &mut dyn HeaderAccess,
    ) -> Result<bool, InjectError> {
        let ours = |name: &[u8], value: &[u8]| {
            let value =
                names(name).then(|| Injection::replaced(value, self.placeholder.as_bytes(), secret.expose()));
            value.flatten()
        };
        let (mut replaced, mut any) = (Vec::new(), false);
        // Cookies are many in one; of any other field there is one, and what else is called so could be the one that the
        // server takes.
        headers.rewrite(&mut |name, value| {
            let new = ours(name, value)?;
            any = true;
            if same_name("cookie", name) {
                return Some(new);
            }
            replaced.push((String::from_utf8_lossy(name).into_owned(), new));
            None
        })?;
        if any {
            headers.remove(&mut |header| {
                is_auth_header(header) || replaced.iter().any(|(name, _)| is_read_as(name, header))
            });
        }
        for (name, value) in replaced {
            headers.append(&name, &value)?;
        }
        Ok(any)
    }
}

impl<'a> Sending<'a> {
    fn request<'h>(&self, headers: &'h [(&'h [u8], &'h [u8])]) -> SigningRequest<'h>
    where
        'a: 'h,
    {
        SigningRequest {
            method: self.target.method,
            path: self.target.path_alone(),
            query: query_of(self.target),
            headers,
            payload: match self.payload {
                Payload::Unknown | Payload::Streamed if has_no_body(self.target) => Payload::Empty,
                known => known,
            },
            now_s: (self.clock)(),
        }
    }
}

/// Methods whose requests have no body that a server would read (RFC 9110 §9.3).
fn has_no_body(target: &Target<'_>) -> bool {
    ["GET", "HEAD", "DELETE", "OPTIONS"].contains(&target.method)
}

fn query_of<'a>(target: &Target<'a>) -> Option<&'a str> {
    target.path.split_once('?').map(|(_, query)| query)
}

/// Whether a parameter carries a key of the client's. Only letters and digits are looked at: servers read the rest in many
/// ways.
fn is_credential(parameter: &str) -> bool {
    let mut name = name_of(parameter);
    name.retain(u8::is_ascii_alphanumeric);
    AUTH_PARAMETERS.iter().any(|known| same_name(known, &name))
}

/// Whether a server may take a parameter for the one of this name: also `KEY`, and the list `key[]`.
fn is_parameter(name: &str, parameter: &str) -> bool {
    let found = name_of(parameter);
    let plain = found.split(|byte| *byte == b'[').next().unwrap_or_default().trim_ascii();
    same_name(name, &found) || (!plain.is_empty() && same_name(name, plain))
}

fn name_of(parameter: &str) -> Vec<u8> {
    uri_decode(parameter.split_once('=').map_or(parameter, |(name, _)| name), true)
}

/// The query without these parameters. Some servers (Rack before 3) take `;` for a separator, too.
fn without(query: &str, is_gone: impl Fn(&str) -> bool) -> String {
    let left = query.split('&').filter_map(|piece| {
        let left: Vec<&str> = piece.split(';').filter(|parameter| !is_gone(parameter)).collect();
        (!left.is_empty()).then(|| left.join(";"))
    });
    left.collect::<Vec<_>>().join("&")
}

/// The query without the client's own keys; `None` if it has none.
fn without_credentials(target: &Target<'_>) -> Option<Zeroizing<String>> {
    let own = query_of(target)?;
    own.split(['&', ';']).any(is_credential).then(|| Zeroizing::new(without(own, is_credential)))
}

/// The query with this parameter, in place of the client's own of that name, and of other keys.
fn with_parameter(target: &Target<'_>, name: &str, secret: &Secret) -> Zeroizing<String> {
    let own = query_of(target).unwrap_or_default();
    let kept = without(own, |parameter| {
        parameter.is_empty() || is_parameter(name, parameter) || is_credential(parameter)
    });
    // Three bytes for each of the secret's at most: nothing is left behind by growing.
    let length = kept
        .len()
        .saturating_add(name.len())
        .saturating_add(secret.len().saturating_mul(3))
        .saturating_add(2);
    let mut out = Zeroizing::new(String::with_capacity(length));
    if !kept.is_empty() {
        out.extend([&kept, "&"]);
    }
    out.extend([name, "="]);
    uri_encode(secret.expose().iter().copied(), false, &mut out);
    out
}

/// Whether the request has an AWS signature that covers the body, and does not say its hash.
pub(super) fn signature_lacks_hash(target: &Target<'_>, headers: &dyn HeaderAccess) -> bool {
    let (mut is_signed, mut names_hash) = (false, false);
    headers.visit(&mut |name, value| {
        is_signed |= same_name("authorization", name) && is_aws_authorization(value);
        names_hash |= same_name(CONTENT_HASH, name);
        true
    });
    let in_query = query_of(target).is_some_and(|query| parameter(query, "X-Amz-Algorithm").is_some());
    (is_signed && !names_hash) || (in_query && !is_signed)
}

struct Resigned {
    set: Vec<(String, Zeroizing<Vec<u8>>)>,
    query: Option<Zeroizing<String>>,
    chunks: Option<ChunkResigner>,
}

/// The client's signature made anew with the real keys; `None` for a request that is not signed.
fn resign(
    sending: &Sending<'_>,
    secret: &Secret,
    headers: &dyn HeaderAccess,
) -> Result<Option<Resigned>, SignError> {
    let keys = AwsKeys::parse(secret.expose())?;
    let mut all: Pairs = Vec::new();
    // Whichever way the client wrote it: the host is sent as it is written here.
    all.push((b"host".to_vec(), Zeroizing::new(host_value(sending.target).into_bytes())));
    headers.visit(&mut |name, value| {
        if !same_name(TOKEN_HEADER, name) && !same_name("host", name) {
            all.push((name.to_ascii_lowercase(), Zeroizing::new(value.to_vec())));
        }
        all.len() <= crate::limits::SIGNED_FIELDS_MAX
    });
    if all.len() > crate::limits::SIGNED_FIELDS_MAX {
        return Err(SignError::TooMany);
    }
    let text = |wanted: &str| {
        let value = all.iter().find(|(name, _)| same_name(wanted, name)).map(|(_, value)| value.as_slice());
        value.and_then(|value| str::from_utf8(value).ok()).map(str::to_owned)
    };
    if let Some(value) = text("authorization").filter(|value| is_aws_authorization(value.as_bytes())) {
        let time = text("x-amz-date").ok_or(SignError::HeaderMissing)?;
        return in_header(sending, &keys, all.clone(), &value, &time).map(Some);
    }
    let query = query_of(sending.target).unwrap_or_default();
    match parameter(query, "X-Amz-Algorithm") {
        Some(_) => in_query(sending, &keys, &all, query).map(Some),
        None => Ok(None),
    }
}

fn in_header(
    sending: &Sending<'_>,
    keys: &AwsKeys<'_>,
    mut all: Pairs,
    value: &str,
    time: &str,
) -> Result<Resigned, SignError> {
    let mut sig = SigV4::from_authorization(value, time)?;
    let mut names: Vec<&str> = sig.signed_headers.split(';').filter(|name| *name != TOKEN_HEADER).collect();
    let mut set = Vec::new();
    if let Some(token) = keys.token {
        all.push((TOKEN_HEADER.as_bytes().to_vec(), Zeroizing::new(token.to_vec())));
        set.push((TOKEN_HEADER.to_owned(), Zeroizing::new(token.to_vec())));
        names.push(TOKEN_HEADER);
        names.sort_unstable();
    }
    let names = names.join(";");
    sig.signed_headers = &names;
    let pairs = borrowed(&all);
    let mut request = sending.request(&pairs);
    let named = pairs.iter().find(|(name, _)| *name == CONTENT_HASH.as_bytes());
    let named = named.and_then(|(_, value)| str::from_utf8(value).ok());
    let is_streamed = named.is_some_and(|hash| hash.starts_with("STREAMING-AWS4-HMAC-SHA256-PAYLOAD"));
    // Trailers of a chunked body are signed in yet another way, which is refused.
    if is_streamed
        && (sending.payload != Payload::Streamed || named.is_some_and(|hash| hash.ends_with("-TRAILER")))
    {
        return Err(SignError::BodyNeeded);
    }
    if let Some(hash) = named {
        request.payload = Payload::Hash(hash);
    }
    let signature = sig.signature(&request, keys.secret)?;
    let chunks = is_streamed.then(|| ChunkResigner::new(&sig, keys.secret, &signature));
    let value = sig.authorization_with(keys.id, &signature);
    set.push(("authorization".to_owned(), Zeroizing::new(value.into_bytes())));
    Ok(Resigned { set, query: None, chunks })
}

fn in_query(
    sending: &Sending<'_>,
    keys: &AwsKeys<'_>,
    all: &Pairs,
    query: &str,
) -> Result<Resigned, SignError> {
    let decoded = |name| parameter(query, name);
    let (credential, names) = (decoded("X-Amz-Credential"), decoded("X-Amz-SignedHeaders"));
    let time = decoded("X-Amz-Date").ok_or(SignError::ClientSignature)?;
    let sig = SigV4::new(credential.as_deref(), names.as_deref(), &time)?;
    let replaced = ["X-Amz-Credential", "X-Amz-Security-Token", "X-Amz-Signature"];
    let kept = query.split('&').filter(|part| {
        let key = part.split_once('=').map_or(*part, |(key, _)| key);
        !part.is_empty() && !replaced.iter().any(|name| uri_decode(key, true) == name.as_bytes())
    });
    let credential = sig.credential(keys.id);
    let added = [("X-Amz-Credential", Some(credential.as_bytes())), ("X-Amz-Security-Token", keys.token)];
    // Three bytes for each that is encoded, and names and the signature: nothing is left behind by growing.
    let encoded: usize =
        added.iter().filter_map(|(_, value)| *value).map(|value| value.len().saturating_mul(3)).sum();
    let length = query.len().saturating_add(encoded).saturating_add(256);
    let mut new = Zeroizing::new(String::with_capacity(length));
    for part in kept {
        new.extend([part, "&"]);
    }
    for (name, value) in added {
        if let Some(value) = value {
            new.extend([name, "="]);
            uri_encode(value.iter().copied(), false, &mut new);
            new.push('&');
        }
    }
    new.pop();
    let pairs = borrowed(all);
    let mut request = sending.request(&pairs);
    request.query = Some(&new);
    // "Authenticating Requests: Using Query Parameters", S3 API Reference: the payload is not signed.
    if sig.style == crate::sign::CanonicalStyle::S3 {
        request.payload = Payload::Hash("UNSIGNED-PAYLOAD");
    }
    let signature = sig.signature(&request, keys.secret)?;
    new.extend(["&X-Amz-Signature=", &signature]);
    Ok(Resigned { set: Vec::new(), query: Some(new), chunks: None })
}

fn borrowed(pairs: &Pairs) -> Vec<(&[u8], &[u8])> {
    pairs.iter().map(|(name, value)| (name.as_slice(), value.as_slice())).collect()
}

/// The decoded value of a parameter.
fn parameter(query: &str, name: &str) -> Option<String> {
    let (_, value) =
        query.split('&').filter_map(|part| part.split_once('=')).find(|(key, _)| *key == name)?;
    String::from_utf8(uri_decode(value, true)).ok()
}

/// `host` as it is sent: without the scheme's own port.
fn host_value(target: &Target<'_>) -> String {
    let host = if target.host.contains(':') { format!("[{}]", target.host) } else { target.host.to_owned() };
    match (target.scheme, target.port) {
        (crate::target::Scheme::Https, 443) | (crate::target::Scheme::Http, 80) => host,
        (_, port) => format!("{host}:{port}"),
    }
}
