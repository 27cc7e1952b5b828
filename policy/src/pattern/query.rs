//! Keys of a query. Values are nobody's business here: they may be secrets, and no rule can judge them.
//!
//! A query is cut at `&`, and at `;`, which some servers cut at too (a key then appears in one reading only, so
//! an allow rule must name it and a deny rule finds it). A key ends at its first `=`.

use super::PatternError;
use super::path::Reading;
use crate::canonical::hex_value;
use crate::limits::{QUERY_BYTES_MAX, QUERY_KEY_BYTES_MAX};

/// The keys that a rule names. Empty only in a rule that allows: there must be no query.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct QueryKeys {
    keys: Box<[Box<str>]>,
    reading: Reading,
}

impl QueryKeys {
    pub(crate) fn new(keys: Box<[Box<str>]>, reading: Reading) -> Self {
        Self { keys, reading }
    }

    pub(crate) fn keys(&self) -> &[Box<str>] {
        &self.keys
    }

    /// One key as a rule writes it.
    pub(crate) fn parse_key(text: &str) -> Result<Box<str>, PatternError> {
        let fits = (1..=QUERY_KEY_BYTES_MAX).contains(&text.len());
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~[]$@:".contains(&byte);
        if fits && text.bytes().all(plain) { Ok(text.into()) } else { Err(PatternError::QueryKey) }
    }

    /// In a rule that allows: whether *every* key is one of ours, byte for byte. In a rule that denies: whether
    /// *some* key could be read as one of ours.
    pub(crate) fn matches(&self, query: &str) -> bool {
        let mut keys = query.split(['&', ';']).filter(|part| !part.is_empty()).map(key_of);
        match self.reading {
            // Of what is too long or not even a query, a rule that allows wants to know nothing.
            Reading::Exact => {
                is_query(query) && keys.all(|key| self.keys.iter().any(|known| **known == *key))
            }
            Reading::Lenient => {
                !is_query(query)
                    || keys.any(|key| {
                        is_unclear(key)
                            || has_odd_brackets(key)
                            || self.keys.iter().any(|known| same_key(known, key))
                    })
            }
        }
    }
}

fn key_of(part: &str) -> &str {
    part.split_once('=').map_or(part, |(key, _)| key)
}

/// Printable ASCII without `#`; anything else no client sends and no two servers read alike.
fn is_query(text: &str) -> bool {
    text.len() <= QUERY_BYTES_MAX && text.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'#')
}

/// Encoded twice, encoded badly, or with a space, which PHP and its kin drop or change: it may mean any key.
fn is_unclear(key: &str) -> bool {
    Decoded(key.as_bytes())
        .any(|byte| !byte.is_ascii_graphic() || matches!(byte, b'%' | b'+' | b'&' | b';' | b'='))
}

/// Whether there are other brackets than whole groups `[…]` behind a name. Servers drop or change these: PHP reads
/// `a[b` as `a_b`, qs of Node `[a]` as `a`, and Rack `a]` as `a`; it may mean any key.
fn has_odd_brackets(key: &str) -> bool {
    let (mut open, mut last) = (false, None);
    for byte in Decoded(key.as_bytes()) {
        let odd = match byte {
            b'[' => open || last.is_none(),
            b']' => !open,
            // Behind a group only another may stand.
            _ => !open && last == Some(b']'),
        };
        if odd {
            return true;
        }
        open = if byte == b'[' || byte == b']' { byte == b'[' } else { open };
        last = Some(byte);
    }
    open
}

/// Whether a server could take `key` for `known`: letter case, encoding, `[…]` at the end (an array) and
/// `.` for `_` (PHP) make no difference.
fn same_key(known: &str, key: &str) -> bool {
    let fold = |byte: u8| if byte == b'.' { b'_' } else { byte.to_ascii_lowercase() };
    let stem = |text| Decoded(text).take_while(|byte| *byte != b'[').map(fold);
    stem(known.as_bytes()).eq(stem(key.as_bytes()))
}

/// Bytes with percent-encoding undone, in either letter case; a `%` without two digits stays, as itself.
struct Decoded<'a>(&'a [u8]);

impl Iterator for Decoded<'_> {
    type Item = u8;

    fn next(&mut self) -> Option<u8> {
        let digit = |byte: &u8| hex_value(&byte.to_ascii_uppercase());
        match self.0 {
            [b'%', high, low, rest @ ..] if digit(high).is_some() && digit(low).is_some() => {
                self.0 = rest;
                Some(digit(high).unwrap_or(0) << 4 | digit(low).unwrap_or(0))
            }
            [byte, rest @ ..] => {
                self.0 = rest;
                Some(*byte)
            }
            [] => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys(names: &[&str], reading: Reading) -> QueryKeys {
        QueryKeys::new(names.iter().map(|name| QueryKeys::parse_key(name).unwrap()).collect(), reading)
    }

    #[test]
    fn an_allow_rule_wants_every_key_byte_for_byte() {
        let rule = keys(&["page", "filter[id]"], Reading::Exact);
        for yes in
            ["", "page=1", "page", "page=", "page=1&filter[id]=2", "page=1&&page=2&", "page=a=b", "page=%00"]
        {
            assert!(rule.matches(yes), "{yes}");
        }
        for no in [
            "x",
            "page=1&x=2",
            "Page=1",
            "%70age=1",
            "page=1;x=2",
            "=1",
            "page[]=1",
            "pa+ge",
            "page=é",
            "page=\n",
        ] {
            assert!(!rule.matches(no), "{no}");
        }
        assert!(!rule.matches(&format!("page={}", "a".repeat(QUERY_BYTES_MAX))));
        let none = keys(&[], Reading::Exact);
        assert!(none.matches("") && !none.matches("a") && !none.matches("="));
    }

    #[test]
    fn a_deny_rule_finds_its_key_in_every_disguise() {
        let rule = keys(&["api_key"], Reading::Lenient);
        for yes in [
            "api_key=1",
            "a=1&api_key",
            "API_KEY=1",
            "a;api_key=1",
            "%61pi%5fkey=1",
            "%61pi%5Fkey",
            "api_key[]=1",
            "api_key[a][b]=1",
            "api.key=1",
            "+api_key=1",
            "%20api_key=1",
            "%2561pi_key=1",
            "api%00_key",
            "a%=1",
            "é=1",
            "api%26key",
            "api[key=1",
            "api%5Bkey=1",
            "[api_key]=1",
            "[]api_key=1",
            "api_key]=1",
            "a[b]api_key=1",
        ] {
            assert!(rule.matches(yes), "{yes}");
        }
        for no in ["", "a=api_key", "api_keys=1", "xapi_key=1", "a=1&b=2", "a=%61pi_key", "filter[api_key]=1"]
        {
            assert!(!rule.matches(no), "{no}");
        }
        assert!(rule.matches(&"a".repeat(QUERY_BYTES_MAX + 1)));
    }

    #[test]
    fn what_is_not_a_key() {
        for bad in ["", "a=b", "a&b", "a;b", "a%20b", "a b", "a+b", "é", &"a".repeat(QUERY_KEY_BYTES_MAX + 1)]
        {
            assert_eq!(QueryKeys::parse_key(bad), Err(PatternError::QueryKey), "{bad}");
        }
    }
}
