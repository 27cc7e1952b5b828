//! AWS's published test suite for Signature V4, in `testdata/sigv4.toml` (made from the directories of
//! the Common Runtime's `aws-c-auth`, Apache-2.0): signatures in headers and in the query.

use super::sigv4::EMPTY;
use super::*;

#[derive(serde::Deserialize)]
struct Suite {
    case: Vec<Case>,
}

#[derive(serde::Deserialize)]
struct Case {
    name: String,
    request: String,
    access_key_id: String,
    secret_access_key: String,
    #[serde(default)]
    token: Option<String>,
    normalize: bool,
    sign_body: bool,
    omit_session_token: bool,
    expiration_in_seconds: u32,
    header_canonical: String,
    header_signature: String,
    query_canonical: String,
    query_signature: String,
}

const DAY: &str = "20150830";
const TIME: &str = "20150830T123600Z";

struct Parsed {
    method: String,
    path: String,
    query: Option<String>,
    headers: Vec<(String, String)>,
    body: String,
}

fn parsed(text: &str) -> Parsed {
    let (head, body) = text.split_once("\n\n").unwrap_or((text, ""));
    let mut lines = head.lines();
    let (method, rest) = lines.next().unwrap().split_once(' ').unwrap();
    let (url, _) = rest.rsplit_once(' ').unwrap();
    let (path, query) =
        url.split_once('?').map_or((url, None), |(path, query)| (path, Some(query.to_owned())));
    let mut headers: Vec<(String, String)> = Vec::new();
    for line in lines {
        match line.split_once(':').filter(|_| !line.starts_with(' ')) {
            Some((name, value)) => headers.push((name.to_owned(), value.to_owned())),
            None => headers.last_mut().unwrap().1 += line,
        }
    }
    Parsed { method: method.into(), path: path.into(), query, headers, body: body.into() }
}

fn names(headers: &[(String, String)]) -> String {
    let mut names: Vec<_> = headers.iter().map(|(name, _)| name.to_ascii_lowercase()).collect();
    names.sort_unstable();
    names.dedup();
    names.join(";")
}

fn canonical_text(sig: &SigV4<'_>, request: &SigningRequest<'_>) -> String {
    let mut text = String::new();
    sig.canonical_request(request, &mut |part| text.push_str(part)).unwrap();
    text
}

fn check(case: &Case, parsed: &Parsed, canonical: &str, signature: &str) {
    let names = names(&parsed.headers);
    let style = CanonicalStyle { is_normalized: case.normalize, is_encoded_twice: false };
    let scope = AwsScope { day: DAY, region: "us-east-1", service: "service" };
    let sig = SigV4 { scope, time: TIME, signed_headers: &names, style };
    let headers: Vec<_> =
        parsed.headers.iter().map(|(name, value)| (name.as_bytes(), value.as_bytes())).collect();
    let hash = sha256_hex(parsed.body.as_bytes());
    let request = SigningRequest {
        method: &parsed.method,
        path: &parsed.path,
        query: parsed.query.as_deref(),
        headers: &headers,
        payload: Payload::Hash(&hash),
        now_s: 0,
    };
    assert_eq!(canonical_text(&sig, &request), canonical, "{}", case.name);
    assert_eq!(
        sig.signature(&request, case.secret_access_key.as_bytes()).unwrap(),
        signature,
        "{}",
        case.name
    );
}

#[test]
fn every_case_in_headers_and_in_the_query() {
    let suite: Suite = toml::from_str(include_str!("../../../testdata/sigv4.toml")).unwrap();
    assert!(suite.case.len() >= 38, "{}", suite.case.len());
    for case in &suite.case {
        let mut header = parsed(&case.request);
        header.headers.push(("x-amz-date".into(), TIME.into()));
        if case.sign_body {
            header.headers.push(("x-amz-content-sha256".into(), sha256_hex(header.body.as_bytes())));
        }
        if let Some(token) = case.token.as_ref().filter(|_| !case.omit_session_token) {
            header.headers.push(("x-amz-security-token".into(), token.clone()));
        }
        check(case, &header, &case.header_canonical, &case.header_signature);

        let mut query = parsed(&case.request);
        let credential = format!("{}/{DAY}/us-east-1/service/aws4_request", case.access_key_id);
        let mut encoded = String::new();
        sigv4::uri_encode(names(&query.headers).bytes(), false, &mut encoded);
        let mut added = format!(
            "X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential={}&X-Amz-Date={TIME}&X-Amz-SignedHeaders={encoded}&X-Amz-Expires={}",
            credential.replace('/', "%2F"),
            case.expiration_in_seconds
        );
        if let Some(token) = case.token.as_ref().filter(|_| !case.omit_session_token) {
            added += "&X-Amz-Security-Token=";
            sigv4::uri_encode(token.bytes(), false, &mut added);
        }
        query.query = Some(query.query.map_or(added.clone(), |own| format!("{own}&{added}")));
        check(case, &query, &case.query_canonical, &case.query_signature);
    }
}

#[test]
fn a_clients_signature_gives_scope_headers_and_time() {
    let value = "AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20150830/us-east-1/s3/aws4_request, SignedHeaders=host;x-amz-date, Signature=00";
    let sig = SigV4::from_authorization(value, TIME).unwrap();
    assert_eq!(sig.scope, AwsScope { day: DAY, region: "us-east-1", service: "s3" });
    assert_eq!((sig.signed_headers, sig.style), ("host;x-amz-date", CanonicalStyle::S3));
    assert!(is_aws_authorization(value.as_bytes()) && !is_aws_authorization(b"Bearer AWS4-HMAC-SHA256 "));
    for (bad, time) in [
        (value.replace("aws4_request", "aws5_request"), TIME),
        (value.replace("us-east-1", "us\neast"), TIME),
        (value.replace("host;", "Host;"), TIME),
        (value.replace("SignedHeaders=host;x-amz-date, ", ""), TIME),
        (value.replace("20150830", "20150831"), TIME),
        (value.to_owned(), "2015-08-30"),
    ] {
        assert!(SigV4::from_authorization(&bad, time).is_err(), "{bad} {time}");
    }
}

/// "GET Object" and "PUT Object" of "Signature Calculations for the Authorization Header: Transferring Payload
/// in a Single Chunk", S3 API Reference.
#[test]
fn s3_neither_normalizes_nor_encodes_twice() {
    let sign = |method, path, headers: &[(&[u8], &[u8])], hash| {
        let names: Vec<_> = headers.iter().map(|(name, _)| str::from_utf8(name).unwrap()).collect();
        let names = names.join(";");
        let credential = "AKIAIOSFODNN7EXAMPLE/20130524/us-east-1/s3/aws4_request";
        let sig = SigV4::new(Some(credential), Some(&names), "20130524T000000Z").unwrap();
        let payload = Payload::Hash(hash);
        let request = SigningRequest { method, path, query: None, headers, payload, now_s: 0 };
        sig.signature(&request, b"wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY").unwrap()
    };
    let host = (&b"host"[..], &b"examplebucket.s3.amazonaws.com"[..]);
    let time = (&b"x-amz-date"[..], &b"20130524T000000Z"[..]);
    let get = [host, (b"range", b"bytes=0-9"), (b"x-amz-content-sha256", EMPTY.as_bytes()), time];
    assert_eq!(
        sign("GET", "/test.txt", &get, EMPTY),
        "f0e8bdb87c964420e857bd35b5d6ed310bd44f0170aba48dd91039c6036bdb41"
    );
    let hash = "44ce7dd67c959e0d3524ffac1771dfbba87d2b6b4b4e99e42034a8b803f8b072";
    let put = [
        (&b"date"[..], &b"Fri, 24 May 2013 00:00:00 GMT"[..]),
        host,
        (b"x-amz-content-sha256", hash.as_bytes()),
        time,
        (b"x-amz-storage-class", b"REDUCED_REDUNDANCY"),
    ];
    assert_eq!(
        sign("PUT", "/test%24file.text", &put, hash),
        "98ad721746da40c64f1a55b78f14c238d841ea1380cd77a1b5971af0ece108bd"
    );
}

/// The suite's older cases `double-encode-path` and `double-url-encode`, as nearly every service wants it.
#[test]
fn other_services_encode_a_path_twice() {
    let credential = "AKIDEXAMPLE/20210511/us-east-2/lambda/aws4_request";
    let sig = SigV4::new(Some(credential), Some("host"), "20210511T154045Z").unwrap();
    for (path, canonical) in [
        ("/test/@connections/JBDvjfGEIAMCERw%3D", "/test/%40connections/JBDvjfGEIAMCERw%253D"),
        ("/functions/arn%3Aaws%3Alambda/invocations", "/functions/arn%253Aaws%253Alambda/invocations"),
    ] {
        let headers = [(&b"host"[..], &b"lambda.us-east-2.amazonaws.com"[..])];
        let payload = Payload::Empty;
        let request =
            SigningRequest { method: "POST", path, query: None, headers: &headers, payload, now_s: 0 };
        let text = canonical_text(&sig, &request);
        assert_eq!(text.lines().nth(1), Some(canonical));
    }
}
