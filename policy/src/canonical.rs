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
    /// A space, a control byte, a backslash or a byte outside ASCII.
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

/// What a byte may be part of. One look-up per byte: each question from a guest is checked as a whole.
static CLASSES: [u8; 256] = classes();
const LABEL: u8 = 1;
const DIGIT: u8 = 2;
const PATH: u8 = 4;
const METHOD: u8 = 8;
/// Bytes of a path that RFC 3986 wants encoded and the WHATWG URL standard lets pass. Fine in a request,
/// since no server takes them for a separator; in a pattern they would look like syntax.
pub(crate) const PATH_BYTES_LAX: &[u8] = b"\"<>[]^`{|}";

const fn classes() -> [u8; 256] {
    let mut table = [0; 256];
    add(&mut table, b"abcdefghijklmnopqrstuvwxyz0123456789-_", LABEL);
    add(&mut table, b"0123456789", DIGIT);
    // RFC 3986 §3.3 pchar, without what needs a closer look: `.`, `;` and `%`.
    add(&mut table, b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_~!$&'()*+,=:@", PATH);
    // What clients send as it is, although it should be encoded.
    add(&mut table, PATH_BYTES_LAX, PATH);
    // RFC 9110 §5.6.2 tchar, without lower-case letters.
    add(&mut table, b"ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789!#$%&'*+-.^_`|~", METHOD);
    table
}

#[expect(clippy::indexing_slicing, reason = "runs while compiling, where a bad index is a compile error")]
const fn add(table: &mut [u8; 256], bytes: &[u8], class: u8) {
    let mut at = 0;
    while at < bytes.len() {
        table[bytes[at] as usize] |= class;
        at += 1;
    }
}

fn class(byte: u8) -> u8 {
    CLASSES.get(usize::from(byte)).copied().unwrap_or(0)
}

/// A lower-case A-label name, as any strict URL parser gives it.
pub(crate) fn check_host_name(name: &str) -> Result<(), Fault> {
    if name.len() > HOST_NAME_BYTES_MAX {
        return Err(Fault::HostName);
    }
    // WHATWG URL "ends in a number": `1.2.3.4`, but also `foo.0x7f` and `10`. Only the last label counts.
    let mut numeric = false;
    for label in name.as_bytes().split(|byte| *byte == b'.') {
        let (Some(first), Some(last)) = (label.first(), label.last()) else { return Err(Fault::HostName) };
        let all = label.iter().fold(LABEL | DIGIT, |all, byte| all & class(*byte));
        if all & LABEL == 0 || *first == b'-' || *last == b'-' || label.len() > HOST_LABEL_BYTES_MAX {
            return Err(Fault::HostName);
        }
        numeric = all & DIGIT != 0 || is_hex_number(label);
    }
    if numeric { Err(Fault::HostNumeric) } else { Ok(()) }
}

fn is_hex_number(label: &[u8]) -> bool {
    label.strip_prefix(b"0x").is_some_and(|hex| hex.iter().all(u8::is_ascii_hexdigit))
}

pub(crate) fn check_method(method: &str) -> Result<(), Fault> {
    let fits = (1..=METHOD_BYTES_MAX).contains(&method.len());
    if fits && method.bytes().all(|byte| class(byte) & METHOD != 0) { Ok(()) } else { Err(Fault::Method) }
}

/// `method` decides about `*`, which only `OPTIONS` may ask for (RFC 9112 §3.2.4).
pub(crate) fn check_path(path: &str, method: &str) -> Result<PathReading, Fault> {
    if path == "*" && method == "OPTIONS" {
        return Ok(PathReading::Ambiguous);
    }
    check_path_bytes(path)
}

/// The bytes alone, for requests and for patterns.
pub(crate) fn check_path_bytes(path: &str) -> Result<PathReading, Fault> {
    if path.len() > PATH_BYTES_MAX {
        return Err(Fault::PathLong);
    }
    if !path.starts_with('/') {
        return Err(Fault::PathForm);
    }
    let (mut reading, mut has_high_bytes) = (PathReading::Plain, false);
    let mut bytes = path.as_bytes().iter();
    while let Some(&byte) = bytes.next() {
        if class(byte) & PATH != 0 {
            continue;
        }
        match byte {
            b'/' => {
                let ahead = bytes.as_slice();
                if is_dot_segment(ahead) {
                    return Err(Fault::PathDots);
                }
                // Only the last segment may be empty: `/a/` is plain, `/a//b` and `//` are not.
                if ahead.first() == Some(&b'/') {
                    reading = PathReading::Ambiguous;
                }
            }
            b'.' => {}
            b'%' => {
                let (high, low) = (bytes.next().and_then(hex_value), bytes.next().and_then(hex_value));
                let (Some(high), Some(low)) = (high, low) else { return Err(Fault::PathPercent) };
                let byte = high << 4 | low;
                has_high_bytes |= !byte.is_ascii();
                if is_ambiguous_encoding(byte)? {
                    reading = PathReading::Ambiguous;
                }
            }
            // Servers that know path parameters (RFC 3986 §3.3) cut the segment here before they look at it.
            b';' => reading = PathReading::Ambiguous,
            b'?' | b'#' => return Err(Fault::PathForm),
            _ => return Err(Fault::PathByte),
        }
    }
    if has_high_bytes && is_no_utf8(path) {
        reading = PathReading::Ambiguous;
    }
    Ok(reading)
}

/// `.`, `..`, and both with parameters: `/..;/` walks up on Tomcat and its kin. Encoded dots are refused
/// as over-encoded.
fn is_dot_segment(ahead: &[u8]) -> bool {
    let rest = match ahead {
        [b'.', b'.', rest @ ..] | [b'.', rest @ ..] => rest,
        _ => return false,
    };
    matches!(rest, [] | [b'/' | b';' | b'?' | b'#', ..])
}

/// Upper-case only: RFC 3986 §6.2.2.1.
pub(crate) fn hex_value(digit: &u8) -> Option<u8> {
    match *digit {
        b'0'..=b'9' => digit.checked_sub(b'0'),
        b'A'..=b'F' => digit.checked_sub(b'A' - 10),
        _ => None,
    }
}

/// An encoded unreserved byte is over-encoded (RFC 3986 §6.2.2.2). An encoded slash or backslash is a
/// separator for some servers, an encoded percent may be a second layer of encoding; NUL ends C strings, and other control
/// bytes are cut off by some.
fn is_ambiguous_encoding(byte: u8) -> Result<bool, Fault> {
    if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
        return Err(Fault::PathPercent);
    }
    Ok(matches!(byte, b'/' | b'\\' | b'%' | b';') || byte.is_ascii_control())
}

/// Escapes beyond ASCII that are no UTF-8: overlong ones (`%C0%AE`) are dots and slashes to some old servers.
fn is_no_utf8(path: &str) -> bool {
    let mut bytes = path.as_bytes().iter();
    let mut decoded = Vec::with_capacity(path.len());
    while let Some(&byte) = bytes.next() {
        let mut digit = || bytes.next().and_then(hex_value).unwrap_or_default();
        decoded.push(if byte == b'%' { digit() << 4 | digit() } else { byte });
    }
    std::str::from_utf8(&decoded).is_err()
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
            ("/..%09/b", Ok(Ambiguous)),
            ("/a%7F", Ok(Ambiguous)),
            ("/b%C3%BCcher", Ok(Plain)),
            ("/%C0%AE%C0%AE/admin", Ok(Ambiguous)),
            ("/%EF%BC", Ok(Ambiguous)),
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
            ("/a|b[0]^{`<\">}", Ok(Plain)),
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
