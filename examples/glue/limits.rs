//! Limits of one sandbox (`--limit NAME=VALUE`): what may happen at once and in a second, and how long is waited.

use std::str::FromStr;
use std::time::Duration;

use netproxy::limits::Limits;

/// One `--limit`.
#[derive(Clone, Copy, Debug)]
pub struct LimitSpec {
    kind: &'static Kind,
    value: u64,
}

/// A `--limit` that cannot be used.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum LimitError {
    /// No `=`.
    #[error("expected NAME=VALUE, NAME one of {names}", names = names())]
    Form,
    /// No limit has this name.
    #[error("there is no limit of this name; those that there are: {names}", names = names())]
    Unknown,
    /// Not a number in the unit of this limit.
    #[error("{name} takes {takes}")]
    Value {
        /// Name of the limit.
        name: &'static str,
        /// What it takes, in words.
        takes: &'static str,
    },
    /// Too small or too large to work.
    #[error("{name} is from {least} to {most} ({unit})")]
    Range {
        /// Name of the limit.
        name: &'static str,
        /// Smallest value.
        least: u64,
        /// Largest value.
        most: u64,
        /// What both count.
        unit: &'static str,
    },
    /// The same limit, given several times.
    #[error("--limit {0} is given twice; leave one out")]
    Twice(&'static str),
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Unit {
    Count,
    Bytes,
    Millis,
}

impl Unit {
    /// What a user may write, and what a number alone means.
    fn takes(self) -> (&'static str, &'static str) {
        match self {
            Self::Count => ("a whole number", "a count"),
            Self::Bytes => ("a number of bytes, or of KiB, MiB or GiB: 512KiB", "bytes"),
            Self::Millis => ("a time: 500ms, 30s, 5m or 1h", "milliseconds"),
        }
    }

    fn suffixes(self) -> &'static [(&'static str, u64)] {
        match self {
            Self::Count => &[],
            Self::Bytes => &[("KiB", 1 << 10), ("MiB", 1 << 20), ("GiB", 1 << 30)],
            // `ms` before the `s` that it ends with.
            Self::Millis => &[("ms", 1), ("s", 1_000), ("m", 60_000), ("h", 3_600_000)],
        }
    }

    fn parse(self, text: &str) -> Option<u64> {
        let found =
            self.suffixes().iter().find_map(|(suffix, size)| Some((text.strip_suffix(suffix)?, *size)));
        let (digits, size) = match (found, self) {
            (Some(found), _) => found,
            // A time without a unit would be a guess.
            (None, Self::Millis) => return None,
            (None, Self::Count | Self::Bytes) => (text, 1),
        };
        // Rust also takes a sign.
        let all_digits = digits.bytes().all(|byte| byte.is_ascii_digit());
        digits.parse::<u64>().ok().filter(|_| all_digits)?.checked_mul(size)
    }
}

#[derive(Debug)]
struct Kind {
    name: &'static str,
    unit: Unit,
    least: u64,
    most: u64,
    set: fn(&mut Limits, u64),
}

const fn kind(name: &'static str, unit: Unit, (least, most): (u64, u64), set: fn(&mut Limits, u64)) -> Kind {
    Kind { name, unit, least, most, set }
}

const DAY_MS: u64 = 24 * 3_600_000;
/// A guest's memory would be a request's, and the host's the proxy's.
const HELD_BYTES_MAX: u64 = 1 << 30;
const ANY_BYTES: (u64, u64) = (1, u64::MAX);

/// Heads below a kibibyte or above a mebibyte, waits of less than 10 ms: nothing works with those.
const KINDS: [Kind; 14] = [
    kind("connections", Unit::Count, (1, 1 << 20), |limits, n| limits.client_connections_max = size(n)),
    kind("requests-at-once", Unit::Count, (1, 1 << 20), |limits, n| limits.requests_at_once_max = size(n)),
    kind("requests-per-s", Unit::Count, (1, 1 << 30), |limits, n| {
        limits.requests_per_s = u32::try_from(n).ok()
    }),
    kind("bytes-per-s", Unit::Bytes, (1 << 10, u64::MAX), |limits, n| limits.bytes_per_s = Some(n)),
    kind("request-body-bytes", Unit::Bytes, ANY_BYTES, |limits, n| limits.request_body_bytes_max = Some(n)),
    kind("held-body-bytes", Unit::Bytes, (1, HELD_BYTES_MAX), |limits, n| limits.held_body_bytes_max = n),
    kind("held-bytes", Unit::Bytes, (1, HELD_BYTES_MAX), |limits, n| limits.held_bytes_max = size(n)),
    kind("head-bytes", Unit::Bytes, (1 << 10, 1 << 20), |limits, n| limits.header_bytes_max = size(n)),
    kind("head-time", Unit::Millis, (10, DAY_MS), |limits, n| limits.header_timeout = time(n)),
    kind("idle-time", Unit::Millis, (10, DAY_MS), |limits, n| limits.idle_timeout = time(n)),
    kind("response-time", Unit::Millis, (10, DAY_MS), |limits, n| limits.response_timeout = time(n)),
    kind("connect-time", Unit::Millis, (10, DAY_MS), |limits, n| limits.connect_timeout = time(n)),
    kind("audit-wait", Unit::Millis, (0, DAY_MS), |limits, n| limits.audit_wait = time(n)),
    kind("new-names-per-min", Unit::Count, (1, 1 << 20), |limits, n| {
        limits.dns_new_names_per_minute = u32::try_from(n).unwrap_or(u32::MAX);
    }),
];

/// A number of bytes, as limits take it; `None` for anything else.
#[must_use]
pub fn bytes(text: &str) -> Option<u64> {
    Unit::Bytes.parse(text)
}

fn size(count: u64) -> usize {
    usize::try_from(count).unwrap_or(usize::MAX)
}

fn time(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

fn names() -> String {
    KINDS.iter().map(|kind| kind.name).collect::<Vec<_>>().join(", ")
}

impl FromStr for LimitSpec {
    type Err = LimitError;

    fn from_str(text: &str) -> Result<Self, LimitError> {
        let (name, value) = text.split_once('=').ok_or(LimitError::Form)?;
        let kind = KINDS.iter().find(|kind| kind.name == name).ok_or(LimitError::Unknown)?;
        let (takes, unit) = kind.unit.takes();
        let value = kind.unit.parse(value).ok_or(LimitError::Value { name: kind.name, takes })?;
        let (least, most) = (kind.least, kind.most);
        if !(least..=most).contains(&value) {
            return Err(LimitError::Range { name: kind.name, least, most, unit });
        }
        Ok(Self { kind, value })
    }
}

/// The limits of a proxy: `netproxy`'s own where none is given.
///
/// # Errors
/// One that is given twice.
pub fn limits(specs: &[LimitSpec]) -> Result<Limits, LimitError> {
    let mut limits = Limits::default();
    for (at, spec) in specs.iter().enumerate() {
        if specs.iter().take(at).any(|earlier| earlier.kind.name == spec.kind.name) {
            return Err(LimitError::Twice(spec.kind.name));
        }
        (spec.kind.set)(&mut limits, spec.value);
    }
    Ok(limits)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(texts: &[&str]) -> Result<Limits, LimitError> {
        limits(&texts.iter().map(|text| text.parse()).collect::<Result<Vec<_>, _>>()?)
    }

    #[test]
    fn each_limit_reaches_its_own_field() {
        let given = of(&[
            "connections=7",
            "requests-at-once=11",
            "requests-per-s=6",
            "bytes-per-s=5MiB",
            "request-body-bytes=4GiB",
            "held-body-bytes=3KiB",
            "held-bytes=9KiB",
            "head-bytes=2048",
            "head-time=1500ms",
            "idle-time=2h",
            "response-time=3m",
            "connect-time=4s",
            "audit-wait=5s",
            "new-names-per-min=8",
        ])
        .unwrap();
        let mut expected = Limits::default();
        expected.client_connections_max = 7;
        expected.requests_at_once_max = 11;
        expected.requests_per_s = Some(6);
        expected.bytes_per_s = Some(5 << 20);
        expected.request_body_bytes_max = Some(4 << 30);
        expected.held_body_bytes_max = 3 << 10;
        expected.held_bytes_max = 9 << 10;
        expected.header_bytes_max = 2048;
        expected.header_timeout = Duration::from_millis(1500);
        expected.idle_timeout = Duration::from_secs(7200);
        expected.response_timeout = Duration::from_secs(180);
        expected.connect_timeout = Duration::from_secs(4);
        expected.audit_wait = Duration::from_secs(5);
        expected.dns_new_names_per_minute = 8;
        assert_eq!(format!("{given:?}"), format!("{expected:?}"));
        assert_eq!(format!("{:?}", of(&[]).unwrap()), format!("{:?}", Limits::default()));
    }

    #[test]
    fn what_is_no_limit_is_refused_with_its_reason() {
        for (bad, reason) in [
            ("connections", "expected NAME=VALUE"),
            ("conections=3", "those that there are: connections, requests-at-once"),
            ("connections=", "a whole number"),
            ("connections=+3", "a whole number"),
            ("connections=3MiB", "a whole number"),
            ("connections=0", "from 1 to"),
            ("bytes-per-s=10MB", "KiB, MiB or GiB"),
            ("bytes-per-s=99999999999GiB", "a number of bytes"),
            ("idle-time=30", "a time: 500ms"),
            ("idle-time=25h", "(milliseconds)"),
            ("head-bytes=1", "from 1024 to 1048576 (bytes)"),
        ] {
            let error = of(&[bad]).unwrap_err().to_string();
            assert!(error.contains(reason), "{bad}: {error}");
        }
        assert_eq!(of(&["connections=1", "connections=2"]).unwrap_err(), LimitError::Twice("connections"));
    }
}
