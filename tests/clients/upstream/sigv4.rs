//! A second opinion on AWS Signature V4, written from AWS's description and for the requests of these tests only: paths
//! without dot segments or escapes, one value for each header.

use aws_lc_rs::digest::{SHA256, digest};
use aws_lc_rs::hmac::{HMAC_SHA256, Key, sign};

use super::http::Request;

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn sha256(bytes: &[u8]) -> String {
    hex(digest(&SHA256, bytes).as_ref())
}

fn mac(key: &[u8], text: &str) -> Vec<u8> {
    sign(&Key::new(HMAC_SHA256, key), text.as_bytes()).as_ref().to_vec()
}

/// Why the signature of `request` is not the one of these keys; for chunks that are signed, theirs too.
pub fn check(request: &Request, id: &str, secret: &str) -> Result<(), String> {
    let authorization = request.header("authorization").ok_or("no authorization")?;
    let field = |name: &str| {
        let (_, rest) = authorization.split_once(&format!("{name}=")).ok_or(format!("no {name}"))?;
        Ok::<_, String>(rest.split(',').next().unwrap_or_default().trim().to_owned())
    };
    let (credential, names, signature) = (field("Credential")?, field("SignedHeaders")?, field("Signature")?);
    let (key_id, scope) = credential.split_once('/').ok_or("no scope")?;
    if key_id != id {
        return Err(format!("signed by {key_id}"));
    }
    let time = request.header("x-amz-date").ok_or("no time")?;
    let mut headers = String::new();
    for name in names.split(';') {
        let value = request.header(name).ok_or(format!("{name} is signed and not there"))?;
        headers += &format!("{name}:{}\n", value.split_whitespace().collect::<Vec<_>>().join(" "));
    }
    let hash = request.header("x-amz-content-sha256").map_or_else(|| sha256(&request.body), str::to_owned);
    if hash.len() == 64 && hash != sha256(&request.body) {
        return Err("the body is another one than its hash says".to_owned());
    }
    let mut query: Vec<&str> = request.query.split('&').filter(|part| !part.is_empty()).collect();
    query.sort_unstable();
    let query: Vec<_> = query
        .iter()
        .map(|part| part.split_once('=').map_or(format!("{part}="), |_| (*part).to_owned()))
        .collect();
    let (method, path, query) = (&request.method, &request.path, query.join("&"));
    let canonical = format!("{method}\n{path}\n{query}\n{headers}\n{names}\n{hash}");
    let mut key = format!("AWS4{secret}").into_bytes();
    for part in scope.split('/') {
        key = mac(&key, part);
    }
    let text = format!("AWS4-HMAC-SHA256\n{time}\n{scope}\n{}", sha256(canonical.as_bytes()));
    if hex(&mac(&key, &text)) != signature {
        return Err(format!("another signature than that of\n{canonical}"));
    }
    if hash == "STREAMING-AWS4-HMAC-SHA256-PAYLOAD" {
        chunks(request, &key, (time, scope, signature))
    } else {
        Ok(())
    }
}

fn chunks(request: &Request, key: &[u8], (time, scope, seed): (&str, &str, String)) -> Result<(), String> {
    let (mut rest, mut previous, empty) = (&request.body[..], seed, sha256(b""));
    loop {
        let end = rest.windows(2).position(|pair| pair == b"\r\n").ok_or("no line end")?;
        let line = String::from_utf8_lossy(&rest[..end]).into_owned();
        let (size, signature) = line.split_once(";chunk-signature=").ok_or("no signature")?;
        let size = usize::from_str_radix(size, 16).map_err(|error| error.to_string())?;
        let data = rest.get(end + 2..end + 2 + size).ok_or("cut off")?;
        let hash = sha256(data);
        let text = format!("AWS4-HMAC-SHA256-PAYLOAD\n{time}\n{scope}\n{previous}\n{empty}\n{hash}");
        if hex(&mac(key, &text)) != signature {
            return Err(format!("a chunk of {size} bytes has another signature"));
        }
        previous = signature.to_owned();
        rest = &rest[end + 2 + size + 2..];
        if size == 0 {
            return if rest.is_empty() { Ok(()) } else { Err("bytes after the last chunk".to_owned()) };
        }
    }
}
