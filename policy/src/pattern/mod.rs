//! What a rule may say about each part of an attempt. Each pattern is parsed once, at load; a pattern that
//! could never match, or could be read in two ways, is an error, never a silent nothing.

pub(crate) mod cidr;
pub(crate) mod host;
pub(crate) mod path;
pub(crate) mod port;
pub(crate) mod query;

pub(crate) use cidr::Cidr;
pub(crate) use host::HostPattern;
pub(crate) use path::PathPattern;
pub(crate) use port::PortSet;
pub(crate) use query::QueryKeys;

/// Why a text is not a pattern, and what to write instead.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PatternError {
    /// An address where a name belongs.
    #[error("an address is not a host name; write it under `cidr`, as in cidr = \"192.0.2.1/32\"")]
    HostIsAddress,
    /// Not canonical.
    #[error(
        "not a host name; write lower-case ASCII (xn--… for other letters), no dot at the end, no port, no scheme"
    )]
    Host,
    /// `*` elsewhere than as the first label.
    #[error(
        "`*` may only be the whole first label: `*.example.com` for one label, `**.example.com` for one or more, `**` alone for any name"
    )]
    HostStar,
    /// Not an address or network.
    #[error("not a network; write an address or address/length, as in \"10.0.0.0/8\" or \"fd00::/8\"")]
    Cidr,
    /// Bits to the right of the prefix are set.
    #[error("the address has bits beyond its prefix length; clear them or write a longer prefix")]
    CidrHostBits,
    /// IPv4 inside IPv6.
    #[error("IPv4 written as IPv6; write it as IPv4")]
    CidrMapped,
    /// Not a port.
    #[error("not a port; write a number from 1 to 65535, a range as \"8000-8099\", or \"any\"")]
    Port,
    /// Not a method.
    #[error("not a method; write it in upper case, as in \"GET\"")]
    Method,
    /// No slash in front.
    #[error("a path pattern starts with `/` and has no query")]
    PathForm,
    /// Too long.
    #[error("the path pattern is longer than 256 bytes")]
    PathLong,
    /// A byte that a canonical path cannot have.
    #[error("the pattern has a byte that must be percent-encoded; only `*` and `**` are special")]
    PathByte,
    /// `%` in a form no canonical path has.
    #[error("percent-encode with two upper-case digits, and only what needs it")]
    PathPercent,
    /// `.` or `..`.
    #[error("the pattern has a dot segment, which no canonical path has")]
    PathDots,
    /// `;`, `//`, `%2F`, `%3B`, `%5C`, `%25`, an escaped control byte, or escapes that are no UTF-8.
    #[error(
        "servers read `;`, `//`, `%2F`, `%3B`, `%5C`, `%25`, escaped control bytes and escapes that are no UTF-8 in different ways; no pattern may contain them"
    )]
    PathAmbiguous,
    /// `**` glued to something, or `***`.
    #[error("`**` must be a whole segment, as in `/v1/**`; within a segment write `*`")]
    PathStars,
    /// Unknown scheme.
    #[error(
        "not a scheme; write \"https\" or \"http\" (WebSockets: websocket = true; raw bytes: tcp = true)"
    )]
    Scheme,
    /// Not an id.
    #[error("an id has 1 to 64 of the characters A-Z a-z 0-9 . _ -")]
    Id,
    /// Not a credential name.
    #[error("a credential's name has 1 to 128 of the characters A-Z a-z 0-9 . _ - / :")]
    Credential,
    /// Not a query key.
    #[error(
        "not a query key; write its name alone, 1 to 128 of the characters A-Z a-z 0-9 - . _ ~ [ ] $ @ :"
    )]
    QueryKey,
    /// Not a date-time.
    #[error("not a time; write date, time and offset, as in 2027-01-31T12:00:00Z")]
    Expires,
    /// Not the name of an upstream proxy.
    #[error("an upstream's name has 1 to 64 of the characters A-Z a-z 0-9 . _ -")]
    Upstream,
    /// Zero.
    #[error("a limit is a number from 1; to let nothing pass, write a [[deny]]")]
    Limit,
    /// Not a known registry.
    #[error("not a registry; write one of pip, npm, cargo, apt, go, maven, containers")]
    Registry,
    /// Control bytes or too long.
    #[error("a reason is one line of at most 512 bytes without control characters")]
    Reason,
    /// Nothing in the list.
    #[error("an empty list matches nothing; leave the key out or name something")]
    EmptyList,
    /// Too much in the list.
    #[error("more than 10000 entries; split the rule")]
    LongList,
}
