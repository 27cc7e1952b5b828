//! `api.example.com`, `*.example.com`, `**.example.com`, `**`. Never an address.

use std::net::IpAddr;

use super::PatternError;
use crate::canonical::{Fault, check_host_name};

/// What stands in front of a name.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum HostPattern {
    /// Any name.
    Any,
    /// One or more labels in front of the name.
    Deep(Box<str>),
    /// One label in front of the name.
    OneLabel(Box<str>),
    /// The name itself.
    Exact(Box<str>),
}

impl HostPattern {
    pub(crate) fn parse(text: &str) -> Result<Self, PatternError> {
        if text == "**" {
            return Ok(Self::Any);
        }
        if let Some(rest) = text.strip_prefix("**.") {
            return name(rest).map(Self::Deep);
        }
        if let Some(rest) = text.strip_prefix("*.") {
            return name(rest).map(Self::OneLabel);
        }
        name(text).map(Self::Exact)
    }

    /// For the few places that have one rule and one name; the rule set looks up instead.
    pub(crate) fn matches(&self, host: &str) -> bool {
        match self {
            Self::Any => true,
            Self::Exact(name) => &**name == host,
            Self::Deep(suffix) => labels_before(host, suffix).is_some(),
            Self::OneLabel(suffix) => labels_before(host, suffix).is_some_and(|front| !front.contains('.')),
        }
    }
}

fn labels_before<'h>(host: &'h str, suffix: &str) -> Option<&'h str> {
    host.strip_suffix(suffix)?.strip_suffix('.').filter(|front| !front.is_empty())
}

fn name(text: &str) -> Result<Box<str>, PatternError> {
    if text.contains('*') {
        return Err(PatternError::HostStar);
    }
    let bare = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(text);
    match check_host_name(text) {
        Ok(()) => Ok(text.into()),
        Err(Fault::HostNumeric) => Err(PatternError::HostIsAddress),
        Err(_) if bare.parse::<IpAddr>().is_ok() => Err(PatternError::HostIsAddress),
        Err(_) => Err(PatternError::Host),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wildcards_count_labels() {
        let check = |pattern: &str, host: &str| HostPattern::parse(pattern).unwrap().matches(host);
        assert!(check("a.com", "a.com"));
        assert!(!check("a.com", "b.a.com") && !check("a.com", "aa.com") && !check("a.com", "a.com.evil.org"));
        assert!(check("*.a.com", "b.a.com"));
        assert!(!check("*.a.com", "a.com") && !check("*.a.com", "c.b.a.com") && !check("*.a.com", "ba.com"));
        assert!(check("**.a.com", "b.a.com") && check("**.a.com", "c.b.a.com"));
        assert!(!check("**.a.com", "a.com") && !check("**.a.com", "xa.com"));
        assert!(check("**", "anything.at.all"));
    }

    #[test]
    fn what_is_not_a_host_pattern() {
        use PatternError::{Host, HostIsAddress, HostStar};
        for (text, error) in [
            ("", Host),
            ("A.com", Host),
            ("a.com.", Host),
            ("a.com:443", Host),
            ("https://a.com", Host),
            ("bücher.de", Host),
            ("127.0.0.1", HostIsAddress),
            ("::1", HostIsAddress),
            ("[::1]", HostIsAddress),
            ("**.0.0.1", HostIsAddress),
            ("*", HostStar),
            ("a.*.com", HostStar),
            ("api*.a.com", HostStar),
            ("***.a.com", HostStar),
            ("*.*.a.com", HostStar),
        ] {
            assert_eq!(HostPattern::parse(text), Err(error), "{text}");
        }
    }
}
