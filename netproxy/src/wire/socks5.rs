//! SOCKS5 (RFC 1928) with user names (RFC 1929): what a client sends, and what it is answered. `CONNECT` only;
//! a name is sent as a name (`socks5h`) and goes through the one [`Authority`] parser.
//!
//! Each function takes the bytes at hand and gives the message and its length, or `None` for too few.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::authority::{Authority, AuthorityError, Host};

/// The first byte of every message but those of RFC 1929.
pub const VERSION: u8 = 5;
/// RFC 1929 §2.
const PASSWORD_VERSION: u8 = 1;
const CONNECT: u8 = 1;

/// Why a message is refused. Texts name the fault, never the input.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Socks5Error {
    /// Not version 5; SOCKS4 is not spoken.
    #[error("the client does not speak SOCKS version 5")]
    Version,
    /// Without a method there is nothing to agree on.
    #[error("the client offers no way to authenticate, not even none")]
    NoMethod,
    /// A sub-negotiation of another version, or without a user name.
    #[error("the user name and password are malformed")]
    Password,
    /// `BIND`, `UDP ASSOCIATE` or unknown.
    #[error("only the CONNECT command is served; BIND and UDP ASSOCIATE are not")]
    Command,
    /// The reserved byte is not 0.
    #[error("the reserved byte of the request is not zero")]
    Reserved,
    /// Neither IPv4, IPv6 nor a name.
    #[error("the address type is none of IPv4, IPv6 and domain name")]
    AddressType,
    /// Host or port.
    #[error("the address is not usable: {0}")]
    Address(#[from] AuthorityError),
}

/// RFC 1928 §6.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Reply {
    /// Go on.
    Succeeded = 0,
    /// None of the others.
    GeneralFailure = 1,
    /// Refused by policy.
    NotAllowed = 2,
    /// A synthetic address that stands for nothing any more.
    HostUnreachable = 4,
    /// `BIND` and `UDP ASSOCIATE`.
    CommandNotSupported = 7,
    /// Not 1, 3 or 4.
    AddressTypeNotSupported = 8,
}

/// RFC 1928 §3: how a client can authenticate, as far as it is served.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Methods {
    /// Not at all.
    pub none: bool,
    /// RFC 1929.
    pub password: bool,
}

/// RFC 1928 §3: the method that was chosen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Method {
    /// Go on with the request.
    None = 0,
    /// Go on with RFC 1929.
    Password = 2,
    /// Go away.
    Unacceptable = 0xff,
}

/// The user name of RFC 1929. The password is skipped: a token needs only one of the two.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct UserName<'a>(pub &'a [u8]);

/// A message and how many bytes it took, or `None` for too few.
pub type Parsed<T> = Result<Option<(T, usize)>, Socks5Error>;

struct Reader<'a> {
    rest: &'a [u8],
    taken: usize,
}

impl<'a> Reader<'a> {
    fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes, taken: 0 }
    }

    fn u8(&mut self) -> Option<u8> {
        self.array::<1>().map(|[byte]| byte)
    }

    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (head, rest) = self.rest.split_first_chunk::<N>()?;
        self.rest = rest;
        self.taken = self.taken.saturating_add(N);
        Some(*head)
    }

    fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let (head, rest) = self.rest.split_at_checked(count)?;
        self.rest = rest;
        self.taken = self.taken.saturating_add(count);
        Some(head)
    }
}

/// Takes a part off the front, or says that there are too few bytes.
macro_rules! need {
    ($part:expr) => {
        match $part {
            Some(part) => part,
            None => return Ok(None),
        }
    };
}

/// RFC 1928 §3: `VER NMETHODS METHODS`.
///
/// # Errors
/// Not SOCKS5, or no method.
pub fn greeting(bytes: &[u8]) -> Parsed<Methods> {
    let mut reader = Reader::new(bytes);
    if need!(reader.u8()) != VERSION {
        return Err(Socks5Error::Version);
    }
    let count = need!(reader.u8());
    if count == 0 {
        return Err(Socks5Error::NoMethod);
    }
    let methods = need!(reader.take(usize::from(count)));
    let offers = |method: Method| methods.contains(&(method as u8));
    Ok(Some((Methods { none: offers(Method::None), password: offers(Method::Password) }, reader.taken)))
}

/// RFC 1929 §2: `VER ULEN UNAME PLEN PASSWD`. Laxer: the password may be empty, as curl sends it.
///
/// # Errors
/// Another version, or an empty user name.
pub fn user_name(bytes: &[u8]) -> Parsed<UserName<'_>> {
    let mut reader = Reader::new(bytes);
    if need!(reader.u8()) != PASSWORD_VERSION {
        return Err(Socks5Error::Password);
    }
    let length = need!(reader.u8());
    if length == 0 {
        return Err(Socks5Error::Password);
    }
    let name = need!(reader.take(usize::from(length)));
    let length = need!(reader.u8());
    need!(reader.take(usize::from(length)));
    Ok(Some((UserName(name), reader.taken)))
}

/// RFC 1928 §4: `VER CMD RSV ATYP DST.ADDR DST.PORT`, a `CONNECT`. Each byte is judged as it is there, so that a
/// refusal does not wait for what nobody will read.
///
/// # Errors
/// Anything else than `CONNECT` to a usable host and port; a name that is no host name (NUL, empty, …).
pub fn request(bytes: &[u8]) -> Parsed<Authority> {
    let mut reader = Reader::new(bytes);
    if need!(reader.u8()) != VERSION {
        return Err(Socks5Error::Version);
    }
    if need!(reader.u8()) != CONNECT {
        return Err(Socks5Error::Command);
    }
    // Stricter than most: RFC 1928 §4 says "must be set to X'00'".
    if need!(reader.u8()) != 0 {
        return Err(Socks5Error::Reserved);
    }
    let host = match need!(reader.u8()) {
        1 => Host::from_ip(IpAddr::V4(Ipv4Addr::from(need!(reader.array::<4>())))),
        4 => Host::from_ip(IpAddr::V6(Ipv6Addr::from(need!(reader.array::<16>())))),
        3 => {
            let length = need!(reader.u8());
            let name = need!(reader.take(usize::from(length)));
            // Never cut at a NUL: all bytes are the name, and then it is none.
            let text = std::str::from_utf8(name).map_err(|_| AuthorityError::BadCharacter)?;
            Host::parse(text)?
        }
        _ => return Err(Socks5Error::AddressType),
    };
    let port = u16::from_be_bytes(need!(reader.array::<2>()));
    Ok(Some((Authority::new(host, port)?, reader.taken)))
}

impl Socks5Error {
    /// The reply to a request with this fault.
    #[must_use]
    pub fn reply(self) -> Reply {
        match self {
            Self::Command => Reply::CommandNotSupported,
            Self::AddressType => Reply::AddressTypeNotSupported,
            _ => Reply::GeneralFailure,
        }
    }
}

/// RFC 1928 §3: `VER METHOD`.
#[must_use]
pub fn method_bytes(method: Method) -> [u8; 2] {
    [VERSION, method as u8]
}

/// RFC 1929 §2: `VER STATUS`.
#[must_use]
pub fn password_bytes(accepted: bool) -> [u8; 2] {
    [PASSWORD_VERSION, u8::from(!accepted)]
}

/// RFC 1928 §6. The bound address is 0.0.0.0:0: which one we dial from is not the client's to know.
#[must_use]
pub fn reply_bytes(reply: Reply) -> [u8; 10] {
    [VERSION, reply as u8, 0, 1, 0, 0, 0, 0, 0, 0]
}
