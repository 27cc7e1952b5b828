//! What somebody meant who wrote a request that is not canonical: for error texts alone, never to decide by.

use crate::canonical::PATH_BYTES_LAX;
use crate::facts::{Facts, Host, Layer, Scheme};

/// The canonical spelling of a line that [`Facts::parse`] reads; `None` where it is canonical, or has none that is sure.
pub(crate) fn canonical_form(line: &str) -> Option<String> {
    let facts = Facts::parse(line).ok()?;
    if facts.check().is_ok() {
        return None;
    }
    let name;
    let host = match facts.host() {
        Host::Name(written) => {
            name = written.to_ascii_lowercase();
            Host::Name(name.strip_suffix('.').unwrap_or(&name))
        }
        Host::Ip(ip) => ip.into(),
    };
    let port = facts.port().unwrap_or_default();
    let (method, path);
    let respelled = match facts.layer() {
        Layer::Dns => match host {
            Host::Name(name) => Facts::dns(name),
            Host::Ip(_) => return None,
        },
        Layer::Connect => Facts::connect(host, port),
        Layer::Tcp => Facts::tcp(host, port),
        Layer::Http => {
            method = facts.method()?.to_ascii_uppercase();
            path = path_of(facts.path()?);
            Facts::http(facts.scheme().unwrap_or(Scheme::Https), host, port, &method, &path)
        }
    };
    respelled.check().ok()?;
    let query = facts.query().filter(|query| !query.is_empty()).map(|query| format!("?{query}"));
    Some(format!("{respelled}{}", query.unwrap_or_default()))
}

/// Encodes what must be and nothing else (RFC 3986 §6.2.2), and walks dot segments (§5.2.4).
fn path_of(written: &str) -> String {
    let mut spelled = String::new();
    let mut rest = written.as_bytes();
    while let Some((&byte, after)) = rest.split_first() {
        rest = after;
        let encoded = match (byte, after) {
            (b'%', [high, low, beyond @ ..]) => hex(*high).zip(hex(*low)).map(|(high, low)| {
                rest = beyond;
                high << 4 | low
            }),
            _ => None,
        };
        match encoded {
            Some(meant) if is_unreserved(meant) => spelled.push(char::from(meant)),
            Some(meant) => spelled.push_str(&format!("%{meant:02X}")),
            None if is_unreserved(byte) || b"/!$&'()*+,;=:@".contains(&byte) => {
                spelled.push(char::from(byte))
            }
            None if PATH_BYTES_LAX.contains(&byte) => spelled.push(char::from(byte)),
            None => spelled.push_str(&format!("%{byte:02X}")),
        }
    }
    without_dot_segments(&spelled)
}

fn is_unreserved(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-._~".contains(&byte)
}

fn hex(digit: u8) -> Option<u8> {
    char::from(digit).to_digit(16).and_then(|value| u8::try_from(value).ok())
}

fn without_dot_segments(path: &str) -> String {
    let mut kept: Vec<&str> = Vec::new();
    let mut segments = path.split('/').skip(1).peekable();
    while let Some(segment) = segments.next() {
        let is_last = segments.peek().is_none();
        match segment {
            "." | ".." => {
                if segment == ".." {
                    kept.pop();
                }
                if is_last {
                    kept.push("");
                }
            }
            other => kept.push(other),
        }
    }
    format!("/{}", kept.join("/"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_meant_is_named_in_canonical_form() {
        for (written, meant) in [
            ("get https://API.Example.COM./v1", Some("GET https://api.example.com/v1")),
            ("GET https://a.x/%7euser/%2f/a b?q=%zz", Some("GET https://a.x/~user/%2F/a%20b?q=%zz")),
            ("GET https://a.x/a/./b/../c/%2e%2e", Some("GET https://a.x/a/")),
            ("GET https://a.x:8443/../../x%", Some("GET https://a.x:8443/x%25")),
            ("CONNECT DB.example.com:5432", Some("CONNECT db.example.com:5432")),
            ("TCP [::ffff:10.0.0.1]:22", Some("TCP 10.0.0.1:22")),
            ("DNS A.x.", Some("DNS a.x")),
            // Nothing to say: canonical; several meanings; none.
            ("GET https://a.x/a;b//c", None),
            ("GET https://a.x/a/..;x/b", None),
            ("GET https://b\u{fc}cher.example/", None),
            ("GET https://a.7/", None),
            ("nonsense", None),
        ] {
            assert_eq!(canonical_form(written).as_deref(), meant, "{written}");
            assert!(meant.is_none_or(|meant| canonical_form(meant).is_none()), "{written}");
        }
    }
}
