//! HMAC-SHA-256 over a template of the request's parts, for services that sign in a way of their own (webhooks,
//! exchanges, chat APIs). As data: no code per service.

use std::str::FromStr;

use zeroize::Zeroizing;

use super::{Payload, SignError, SignedHeaders, Signer, SigningRequest, hex, hmac, sha256_hex};
use crate::encode::base64_padded;
use crate::injection::InjectionError;
use crate::secret::Secret;

/// How the tag is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HmacEncoding {
    /// Lower-case hexadecimal.
    Hex,
    /// Base64 with padding.
    Base64,
}

/// `hmac-sha256 HEADER ENCODING TIME_HEADER TEMPLATE`, such as
/// `hmac-sha256 x-signature hex x-timestamp {time}{method}{path}{body}`.
///
/// In the template stand `{method}`, `{path}` (with query), `{time}` (seconds since 1970), `{body}` and
/// `{body-sha256}`; `\n` is a line end. `-` in place of the time's header sends no time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HmacTemplate {
    /// Header of the signature, lower case.
    pub header: String,
    /// How it is written.
    pub encoding: HmacEncoding,
    /// Header of the time, lower case.
    pub time_header: Option<String>,
    template: String,
}

impl HmacTemplate {
    fn message(&self, request: &SigningRequest<'_>, time: &str) -> Result<Vec<u8>, SignError> {
        let mut out = Vec::new();
        let mut rest = self.template.as_str();
        while let Some((text, after)) = rest.split_once('{') {
            let (name, after) = after.split_once('}').unwrap_or((after, ""));
            out.extend_from_slice(text.as_bytes());
            match name {
                "method" => out.extend_from_slice(request.method.as_bytes()),
                "time" => out.extend_from_slice(time.as_bytes()),
                "path" => {
                    out.extend_from_slice(request.path.as_bytes());
                    if let Some(query) = request.query {
                        out.push(b'?');
                        out.extend_from_slice(query.as_bytes());
                    }
                }
                "body" => out.extend_from_slice(body(request)?),
                _ => out.extend_from_slice(sha256_hex(body(request)?).as_bytes()),
            }
            rest = after;
        }
        out.extend_from_slice(rest.as_bytes());
        Ok(out)
    }
}

impl HmacTemplate {
    /// Whether the body is part of what is signed.
    #[must_use]
    pub fn covers_body(&self) -> bool {
        self.template.contains("{body}") || self.template.contains("{body-sha256}")
    }
}

fn body<'a>(request: &SigningRequest<'a>) -> Result<&'a [u8], SignError> {
    match request.payload {
        Payload::Bytes(body) => Ok(body),
        Payload::Empty => Ok(b""),
        Payload::Unknown | Payload::Streamed | Payload::Hash(_) => Err(SignError::BodyNeeded),
    }
}

impl Signer for HmacTemplate {
    fn sign(&self, request: &SigningRequest<'_>, secret: &Secret) -> Result<SignedHeaders, SignError> {
        let time = request.now_s.to_string();
        let tag = hmac(secret.expose(), &[&self.message(request, &time)?]);
        let tag = match self.encoding {
            HmacEncoding::Hex => Zeroizing::new(hex(&tag[..]).into_bytes()),
            HmacEncoding::Base64 => base64_padded(&tag[..]),
        };
        let mut headers = vec![(self.header.clone(), tag)];
        headers.extend(self.time_header.clone().map(|name| (name, Zeroizing::new(time.into_bytes()))));
        Ok(headers)
    }
}

impl FromStr for HmacTemplate {
    type Err = InjectionError;

    fn from_str(text: &str) -> Result<Self, InjectionError> {
        const KNOWN: [&str; 5] = ["method", "path", "time", "body", "body-sha256"];
        let mut words = text.splitn(5, ' ');
        let mut word = || words.next().ok_or(InjectionError::Form);
        if word()? != "hmac-sha256" {
            return Err(InjectionError::Form);
        }
        let header = crate::injection::header_name(word()?)?;
        let encoding = match word()? {
            "hex" => HmacEncoding::Hex,
            "base64" => HmacEncoding::Base64,
            _ => return Err(InjectionError::Form),
        };
        let time_header = match word()? {
            "-" => None,
            name => Some(crate::injection::header_name(name)?),
        };
        let template = word()?.replace("\\n", "\n");
        let mut places = template.split('{').skip(1);
        let known = |place: &str| place.split_once('}').is_some_and(|(name, _)| KNOWN.contains(&name));
        if template.is_empty() || !places.all(known) {
            return Err(InjectionError::Place);
        }
        Ok(Self { header, encoding, time_header, template })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request<'a>(payload: Payload<'a>) -> SigningRequest<'a> {
        SigningRequest {
            method: "POST",
            path: "/v1/orders",
            query: Some("a=1"),
            headers: &[],
            payload,
            now_s: 1_700_000_000,
        }
    }

    #[test]
    fn parts_are_put_in_their_order() {
        let template: HmacTemplate =
            "hmac-sha256 x-sign hex x-time {time}\\n{method} {path}|{body}".parse().unwrap();
        let request = request(Payload::Bytes(b"{}"));
        let message = template.message(&request, "1700000000").unwrap();
        assert_eq!(message, b"1700000000\nPOST /v1/orders?a=1|{}");
        let headers = template.sign(&request, &Secret::new(b"key".to_vec())).unwrap();
        assert_eq!(headers[0].1.len(), 64);
        assert_eq!(headers[1], ("x-time".to_owned(), Zeroizing::new(b"1700000000".to_vec())));
    }

    #[test]
    fn a_body_that_is_not_known_is_an_error() {
        let template: HmacTemplate = "hmac-sha256 x-sign base64 - {body-sha256}".parse().unwrap();
        let key = Secret::new(b"key".to_vec());
        assert_eq!(template.sign(&request(Payload::Unknown), &key).unwrap_err(), SignError::BodyNeeded);
        assert_eq!(template.sign(&request(Payload::Empty), &key).unwrap()[0].1.len(), 44);
    }

    #[test]
    fn bad_templates_are_refused() {
        for bad in [
            "",
            "hmac-sha1 a hex - x",
            "hmac-sha256 a hex -",
            "hmac-sha256 a hex - {secret}",
            "hmac-sha256 host hex - x",
            "hmac-sha256 a hex - {body",
        ] {
            assert!(bad.parse::<HmacTemplate>().is_err(), "{bad}");
        }
    }
}
