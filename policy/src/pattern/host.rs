//! `api.example.com`, `*.example.com`, `**.example.com`, `**`. Never an address.

use std::fmt;
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

    /// Whether every name that `other` matches is matched.
    pub(crate) fn covers(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Any, _) => true,
            (_, Self::Any) => false,
            (one, Self::Exact(name)) => one.matches(name),
            (Self::OneLabel(one), Self::OneLabel(other)) => one == other,
            (Self::Deep(one), Self::OneLabel(other) | Self::Deep(other)) => {
                one == other || labels_before(other, one).is_some()
            }
            _ => false,
        }
    }

    /// Whether some name is matched by both. Of two that overlap, one matches what is typical of the other.
    pub(crate) fn overlaps(&self, other: &Self) -> bool {
        self.matches(&other.typical()) || other.matches(&self.typical())
    }

    /// A name that it matches, with a label that nobody writes in a pattern where there is a choice.
    pub(crate) fn typical(&self) -> String {
        match self {
            Self::Any => "x--typical.invalid".to_owned(),
            Self::Exact(name) => name.to_string(),
            Self::OneLabel(name) => format!("x--typical.{name}"),
            Self::Deep(name) => format!("x--typical.x--typical.{name}"),
        }
    }
}

impl fmt::Display for HostPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Any => f.write_str("**"),
            Self::Exact(name) => f.write_str(name),
            Self::OneLabel(name) => write!(f, "*.{name}"),
            Self::Deep(name) => write!(f, "**.{name}"),
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
    fn patterns_are_compared_with_each_other() {
        let parse = |text: &str| HostPattern::parse(text).unwrap();
        let names = [
            "a", "b.a", "c.b.a", "d.c.b.a", "ba", "c.ba", "z.a", "z.z.a", "z.b.a", "z.z.b.a", "z.ba",
            "z.z.ba",
        ];
        let patterns = ["**", "a", "*.a", "**.a", "b.a", "*.b.a", "**.b.a", "c.b.a", "*.ba", "**.ba"];
        for (one, other) in patterns.iter().flat_map(|one| patterns.map(|other| (parse(one), parse(other)))) {
            let both = |name: &&str| one.matches(name) && other.matches(name);
            // The names are enough to tell any two of these patterns apart.
            let all = names.iter().all(|name| one.matches(name) || !other.matches(name));
            let all = all && !(other == HostPattern::Any && one != HostPattern::Any);
            assert_eq!(one.covers(&other), all, "{one:?} {other:?}");
            assert_eq!(one.overlaps(&other), names.iter().any(both), "{one:?} {other:?}");
        }
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
