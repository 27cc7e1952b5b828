//! What a canonical host name, method and path look like. Answers yes or no with the fault named; never
//! repairs: whoever parsed the request must have made it canonical, or what we judge is not what is sent.

use crate::limits::{HOST_LABEL_BYTES_MAX, HOST_NAME_BYTES_MAX, METHOD_BYTES_MAX, PATH_BYTES_MAX};

/// Why facts were refused before any rule was looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, thiserror::Error, serde::Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Fault {
    /// Empty, too long, an empty label, a trailing dot, an upper-case letter, a byte outside `a-z 0-9 - _ .`.
    #[error("the host is not a canonical name (lower-case A-labels without a trailing dot)")]
    HostName,
    /// The last label is a number: some resolvers dial it as an IPv4 address.
    #[error("the host name ends in a number, which some programs read as an address")]
    HostNumeric,
    /// IPv4 inside IPv6 (`::ffff:a.b.c.d`), which must be given as IPv4.
    #[error("the address is IPv4 written as IPv6")]
    HostMapped,
    /// Port 0.
    #[error("port 0 cannot be connected to")]
    Port,
    /// Not 1–32 token characters (RFC 9110 §9.1). Stricter: no lower-case letters, since some servers
    /// treat `delete` as `DELETE`.
    #[error("the method is not an upper-case token")]
    Method,
    /// Does not start with `/` (only `OPTIONS *` may not), or carries `?` or `#`.
    #[error("the path does not start with '/' or still carries its query")]
    PathForm,
    /// Longer than [`PATH_BYTES_MAX`].
    #[error("the path is too long to be judged")]
    PathLong,
    /// A byte that RFC 3986 §3.3 wants percent-encoded.
    #[error("the path has a byte that must be percent-encoded")]
    PathByte,
    /// `%` without two upper-case hexadecimal digits, or encoding what needs none (RFC 3986 §6.2.2).
    #[error("the path has a percent-encoding that is not in its normal form")]
    PathPercent,
    /// `.` or `..` as a segment, also as `..;x`.
    #[error("the path has a dot segment")]
    PathDots,
}

/// How far servers agree on what a path means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum PathReading {
    /// One reading.
    Plain,
    /// An encoded slash, backslash, percent or NUL, an empty segment, `;` or `*`: servers differ. No path pattern of
    /// an allow rule matches such a path, every one of a deny rule does.
    Ambiguous,
}

/// A lower-case A-label name, as `netproxy` or any strict URL parser gives it.
pub(crate) fn check_host_name(name: &str) -> Result<(), Fault> {
    if name.is_empty() || name.len() > HOST_NAME_BYTES_MAX {
        return Err(Fault::HostName);
    }
    let mut last = name;
    for label in name.split('.') {
        if !is_label(label) {
            return Err(Fault::HostName);
        }
        last = label;
    }
    // WHATWG URL "ends in a number": `1.2.3.4`, but also `foo.0x7f` and `10`.
    let digits = last
        .strip_prefix("0x")
        .map_or(last.bytes().all(|b| b.is_ascii_digit()), |hex| hex.bytes().all(|b| b.is_ascii_hexdigit()));
    if digits { Err(Fault::HostNumeric) } else { Ok(()) }
}

fn is_label(label: &str) -> bool {
    !label.is_empty()
        && label.len() <= HOST_LABEL_BYTES_MAX
        && !label.starts_with('-')
        && !label.ends_with('-')
        && label.bytes().all(|b| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_'))
}

pub(crate) fn check_method(method: &str) -> Result<(), Fault> {
    let token = |b: u8| matches!(b, b'A'..=b'Z' | b'0'..=b'9') || b"!#$%&'*+-.^_`|~".contains(&b);
    let fits = (1..=METHOD_BYTES_MAX).contains(&method.len());
    if fits && method.bytes().all(token) { Ok(()) } else { Err(Fault::Method) }
}

/// `method` decides about `*`, which only `OPTIONS` may ask for (RFC 9112 §3.2.4).
pub(crate) fn check_path(path: &str, method: &str) -> Result<PathReading, Fault> {
    if path == "*" && method == "OPTIONS" {
        return Ok(PathReading::Ambiguous);
    }
    check_path_bytes(path, b"")
}

/// `extra` holds bytes allowed besides RFC 3986's `pchar`.
pub(crate) fn check_path_bytes(path: &str, extra: &[u8]) -> Result<PathReading, Fault> {
    if path.len() > PATH_BYTES_MAX {
        return Err(Fault::PathLong);
    }
    let Some(rest) = path.strip_prefix('/') else { return Err(Fault::PathForm) };
    let mut reading = PathReading::Plain;
    let mut segments = rest.split('/').peekable();
    while let Some(segment) = segments.next() {
        // Only the last segment may be empty: `/a/` is plain, `/a//b` and `//` are not.
        let empty_inside = segment.is_empty() && segments.peek().is_some();
        if check_segment(segment, extra)? == PathReading::Ambiguous || empty_inside {
            reading = PathReading::Ambiguous;
        }
    }
    Ok(reading)
}

fn check_segment(segment: &str, extra: &[u8]) -> Result<PathReading, Fault> {
    let mut reading = PathReading::Plain;
    let mut bytes = segment.bytes();
    while let Some(byte) = bytes.next() {
        match byte {
            b'%' => {
                let (high, low) = (bytes.next().and_then(hex_value), bytes.next().and_then(hex_value));
                let (Some(high), Some(low)) = (high, low) else { return Err(Fault::PathPercent) };
                if is_ambiguous_encoding(high << 4 | low)? {
                    reading = PathReading::Ambiguous;
                }
            }
            // Servers that know path parameters (RFC 3986 §3.3) cut the segment here before they look at it.
            b';' => reading = PathReading::Ambiguous,
            b'?' | b'#' => return Err(Fault::PathForm),
            _ if is_pchar(byte) || extra.contains(&byte) => {}
            _ => return Err(Fault::PathByte),
        }
    }
    // `/..;/` walks up on Tomcat and its kin; encoded dots are refused above as over-encoded.
    let name = segment.split(';').next().unwrap_or(segment);
    if matches!(name, "." | "..") { Err(Fault::PathDots) } else { Ok(reading) }
}

/// Upper-case only: RFC 3986 §6.2.2.1.
fn hex_value(digit: u8) -> Option<u8> {
    match digit {
        b'0'..=b'9' => digit.checked_sub(b'0'),
        b'A'..=b'F' => digit.checked_sub(b'A' - 10),
        _ => None,
    }
}

/// An encoded unreserved byte is over-encoded (RFC 3986 §6.2.2.2). An encoded slash or backslash is a
/// separator for some servers, an encoded percent may be a second layer of encoding, NUL ends C strings.
fn is_ambiguous_encoding(byte: u8) -> Result<bool, Fault> {
    if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
        return Err(Fault::PathPercent);
    }
    Ok(matches!(byte, b'/' | b'\\' | b'%' | 0))
}

fn is_pchar(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-._~!$&'()*+,;=:@".contains(&byte)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn host_names_are_canonical_or_refused() {
        for good in ["a", "api.example.com", "xn--bcher-kva.example", "_dmarc.a.b", "a1-b.c", "0x.a", "1.a"] {
            assert_eq!(check_host_name(good), Ok(()), "{good}");
        }
        let long = "a".repeat(64);
        for bad in [
            "",
            ".",
            "a.",
            ".a",
            "a..b",
            "A.com",
            "bücher.de",
            "-a.b",
            "a-.b",
            "a b",
            "a\0.b",
            "[::1]",
            &long,
        ] {
            assert_eq!(check_host_name(bad), Err(Fault::HostName), "{bad}");
        }
        for number in ["127.0.0.1", "10", "a.0x7f", "a.0x", "2130706433", "0177.1"] {
            assert_eq!(check_host_name(number), Err(Fault::HostNumeric), "{number}");
        }
    }

    #[test]
    fn the_longest_name_fits_and_one_byte_more_does_not() {
        let label = "a".repeat(63);
        let longest = format!("{label}.{label}.{label}.{}", "b".repeat(61));
        assert_eq!(longest.len(), HOST_NAME_BYTES_MAX);
        assert_eq!(check_host_name(&longest), Ok(()));
        assert_eq!(check_host_name(&format!("{longest}b")), Err(Fault::HostName));
    }

    #[test]
    fn methods_are_upper_case_tokens() {
        for good in ["GET", "M-SEARCH", "VERSION-CONTROL", "X1"] {
            assert_eq!(check_method(good), Ok(()), "{good}");
        }
        let long = "A".repeat(METHOD_BYTES_MAX + 1);
        for bad in ["", "get", "G ET", "GET\r\n", "GÉT", "G/T", &long] {
            assert_eq!(check_method(bad), Err(Fault::Method), "{bad:?}");
        }
    }

    #[test]
    fn paths_have_one_reading_two_or_none() {
        use PathReading::{Ambiguous, Plain};
        let long = format!("/{}", "a".repeat(PATH_BYTES_MAX));
        for (path, expected) in [
            ("/", Ok(Plain)),
            ("/v1/chat", Ok(Plain)),
            ("/v1/", Ok(Plain)),
            ("/a%20b/%C3%A9", Ok(Plain)),
            ("/.well-known/x..y/...", Ok(Plain)),
            ("/@types%2Fnode", Ok(Ambiguous)),
            ("/a%5Cb", Ok(Ambiguous)),
            ("/a%252e%252e/b", Ok(Ambiguous)),
            ("/a%00", Ok(Ambiguous)),
            ("//a", Ok(Ambiguous)),
            ("/a//b", Ok(Ambiguous)),
            ("/a;x=1/b", Ok(Ambiguous)),
            ("", Err(Fault::PathForm)),
            ("a", Err(Fault::PathForm)),
            ("/a?b", Err(Fault::PathForm)),
            ("/a#b", Err(Fault::PathForm)),
            ("*", Err(Fault::PathForm)),
            ("/a/../b", Err(Fault::PathDots)),
            ("/a/.", Err(Fault::PathDots)),
            ("/a/..;x/b", Err(Fault::PathDots)),
            ("/a/%2e%2e/b", Err(Fault::PathPercent)),
            ("/a/%2E%2E/b", Err(Fault::PathPercent)),
            ("/a%2fb", Err(Fault::PathPercent)),
            ("/%41", Err(Fault::PathPercent)),
            ("/%", Err(Fault::PathPercent)),
            ("/%4", Err(Fault::PathPercent)),
            ("/a\\b", Err(Fault::PathByte)),
            ("/a b", Err(Fault::PathByte)),
            ("/é", Err(Fault::PathByte)),
            ("/a\n", Err(Fault::PathByte)),
            (long.as_str(), Err(Fault::PathLong)),
        ] {
            assert_eq!(check_path(path, "GET"), expected, "{path}");
        }
        assert_eq!(check_path("*", "OPTIONS"), Ok(Ambiguous));
    }
}
