//! Limits on names below a wildcard: whoever answers for `*.example` sees every name asked for or connected to, so
//! that it is a message. Names of rules without a wildcard are not limited: there is nothing to choose in them.
//!
//! Each name may carry little (its length, the length of a label, and the information in a label are bounded),
//! and few new names may be asked for in a minute. Together that bounds what leaves that way to about
//! `names/min × DNS_WILDCARD_NAME_BYTES_MAX`; it does not stop it.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::recent::Recent;
use crate::authority::HostName;
use crate::limits::{
    DNS_NAMES_SEEN_MAX, DNS_WILDCARD_LABEL_BITS_MAX, DNS_WILDCARD_LABEL_BYTES_MAX,
    DNS_WILDCARD_NAME_BYTES_MAX, DNS_WILDCARD_RULES_MAX,
};

const MINUTE: Duration = Duration::from_secs(60);

/// Why a name below a wildcard is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Covert {
    /// The name as a whole.
    #[error("the name is longer than names below a wildcard may be; name the host in a rule of its own")]
    LongName,
    /// One label.
    #[error("a label is longer than labels below a wildcard may be; name the host in a rule of its own")]
    LongLabel,
    /// One label looks like data.
    #[error("a label looks like data and not like a name; name the host in a rule of its own")]
    Entropy,
    /// The rule's budget.
    #[error("too many different names below a wildcard were asked for within a minute")]
    TooMany,
}

/// Whether the name itself can stand below a wildcard.
///
/// # Errors
/// [`Covert`], but never [`Covert::TooMany`].
pub fn check_name(name: &HostName) -> Result<(), Covert> {
    let name = name.as_str();
    if name.len() > DNS_WILDCARD_NAME_BYTES_MAX {
        return Err(Covert::LongName);
    }
    for label in name.split('.') {
        if label.len() > DNS_WILDCARD_LABEL_BYTES_MAX {
            return Err(Covert::LongLabel);
        }
        if information_bits(label) > DNS_WILDCARD_LABEL_BITS_MAX {
            return Err(Covert::Entropy);
        }
    }
    Ok(())
}

/// Shannon's measure of a label: its length times the entropy of its characters. A label of random base 32 has
/// more than words of the same length, whose letters repeat.
fn information_bits(label: &str) -> f64 {
    let mut counts = [0u16; 128];
    for byte in label.bytes() {
        if let Some(count) = counts.get_mut(usize::from(byte)) {
            *count = count.saturating_add(1);
        }
    }
    let length = counts.iter().map(|count| f64::from(*count)).sum::<f64>();
    counts
        .iter()
        .filter(|count| **count > 0)
        .map(|count| f64::from(*count))
        .map(|n| n * (length / n).log2())
        .sum()
}

/// How many new names each rule with a wildcard has had of late.
#[derive(Debug)]
pub struct Budget {
    per_minute: u32,
    seen: Recent<HostName, ()>,
    rules: HashMap<Arc<str>, Bucket>,
}

/// Names that may still be asked for, in fractions, refilled with time.
#[derive(Debug)]
struct Bucket {
    left: f64,
    filled: Instant,
}

impl Budget {
    /// With `per_minute` new names for each rule.
    #[must_use]
    pub fn new(per_minute: u32) -> Self {
        Self { per_minute, seen: Recent::new(DNS_NAMES_SEEN_MAX), rules: HashMap::new() }
    }

    /// Takes a name that `rule` allows by a wildcard. One that was taken before, and not forgotten, is free.
    ///
    /// # Errors
    /// [`Covert::TooMany`].
    pub fn take(&mut self, rule: &Arc<str>, name: &HostName, now: Instant) -> Result<(), Covert> {
        if self.seen.get(name).is_some() {
            return Ok(());
        }
        // Rules come from the policy, and are few; a policy that names each anew must not fill the memory.
        if self.rules.len() >= DNS_WILDCARD_RULES_MAX && !self.rules.contains_key(rule) {
            self.rules.clear();
        }
        let full = f64::from(self.per_minute);
        let bucket = self.rules.entry(Arc::clone(rule)).or_insert_with(|| Bucket { left: full, filled: now });
        let since = now.saturating_duration_since(bucket.filled).as_secs_f64() / MINUTE.as_secs_f64();
        bucket.left = (bucket.left + since * full).min(full);
        bucket.filled = now;
        if bucket.left < 1.0 {
            return Err(Covert::TooMany);
        }
        bucket.left -= 1.0;
        self.seen.insert(name.clone(), ());
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::authority::Host;

    fn name(text: &str) -> HostName {
        match Host::parse(text) {
            Ok(Host::Name(name)) => name,
            other => panic!("{text}: {other:?}"),
        }
    }

    #[test]
    fn names_of_real_services_pass_and_data_does_not() {
        let label = |n: usize| format!("{}.example", "ab-".repeat(n).get(..n).unwrap().replace("-.", "a."));
        let long = |n: usize| format!("{}.example", ["abcdefg"; 20].join(".").get(..n - 8).unwrap());
        for (text, expected) in [
            ("d111111abcdef8.cdn.example", Ok(())),
            ("ec2-203-0-113-25.compute-1.cloud.example", Ok(())),
            ("550e8400-e29b-41d4-a716-446655440000.example", Ok(())),
            ("da39a3ee5e6b4b0d3255bfef95601890afd80709.example", Ok(())),
            ("my-team-production-assets-eu-central-1.s3.example", Ok(())),
            ("xn--bcher-kva.example", Ok(())),
            // Base 32 of random bytes.
            ("mzxw6ytboi4dk3thqr2vpjn5wlxes7c3gabfouyd.example", Err(Covert::Entropy)),
            (&label(DNS_WILDCARD_LABEL_BYTES_MAX), Ok(())),
            (&label(DNS_WILDCARD_LABEL_BYTES_MAX + 1), Err(Covert::LongLabel)),
            (&long(DNS_WILDCARD_NAME_BYTES_MAX), Ok(())),
            (&long(DNS_WILDCARD_NAME_BYTES_MAX + 1), Err(Covert::LongName)),
        ] {
            assert_eq!(check_name(&name(text)), expected, "{text}");
        }
    }

    #[test]
    fn a_rule_has_so_many_new_names_a_minute() {
        let (rule, other): (Arc<str>, Arc<str>) = ("a".into(), "b".into());
        let mut budget = Budget::new(3);
        let start = Instant::now();
        let mut take = |rule, n: u64, seconds| {
            budget.take(rule, &name(&format!("h{n}.example")), start + Duration::from_secs(seconds))
        };
        for n in 0..3 {
            assert_eq!(take(&rule, n, 0), Ok(()));
        }
        assert_eq!(take(&rule, 3, 0), Err(Covert::TooMany));
        // Known names are free, other rules have their own, and a third of a minute is one name.
        assert_eq!(take(&rule, 1, 0), Ok(()));
        assert_eq!(take(&other, 4, 0), Ok(()));
        assert_eq!(take(&rule, 3, 19), Err(Covert::TooMany));
        assert_eq!(take(&rule, 3, 20), Ok(()));
        assert_eq!(take(&rule, 5, 20), Err(Covert::TooMany));
        for n in 6..9 {
            assert_eq!(take(&rule, n, 1000), Ok(()));
        }
        assert_eq!(take(&rule, 9, 1000), Err(Covert::TooMany));
    }
}
