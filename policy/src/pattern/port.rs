//! Ports: a few numbers and ranges, or any.

use super::PatternError;

/// Inclusive ranges; never empty.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum PortSet {
    Any,
    Ranges(Box<[(u16, u16)]>),
}

impl PortSet {
    pub(crate) fn contains(&self, port: u16) -> bool {
        match self {
            Self::Any => true,
            Self::Ranges(ranges) => ranges.iter().any(|(from, to)| (*from..=*to).contains(&port)),
        }
    }

    /// Whether every port of `other` is in it.
    pub(crate) fn covers(&self, other: &Self) -> bool {
        other.ranges().iter().all(|(from, to)| (*from..=*to).all(|port| self.contains(port)))
    }

    /// Whether some port is in both.
    pub(crate) fn overlaps(&self, other: &Self) -> bool {
        let apart = |one: (u16, u16), other: (u16, u16)| one.1 < other.0 || other.1 < one.0;
        self.ranges().iter().any(|one| other.ranges().iter().any(|other| !apart(*one, *other)))
    }

    fn ranges(&self) -> &[(u16, u16)] {
        match self {
            Self::Any => &[(1, u16::MAX)],
            Self::Ranges(ranges) => ranges,
        }
    }
}

/// `443` or `8000-8099`.
pub(crate) fn parse_range(text: &str) -> Result<(u16, u16), PatternError> {
    let (from, to) = text.split_once('-').unwrap_or((text, text));
    let (from, to) = (parse_port(from)?, parse_port(to)?);
    if from <= to { Ok((from, to)) } else { Err(PatternError::Port) }
}

fn parse_port(text: &str) -> Result<u16, PatternError> {
    let plain = !text.starts_with('0') && text.bytes().all(|byte| byte.is_ascii_digit());
    let port = if plain { text.parse().ok() } else { None };
    port.ok_or(PatternError::Port)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sets_are_compared_with_each_other() {
        let set = |ranges: &[(u16, u16)]| PortSet::Ranges(ranges.into());
        assert!(PortSet::Any.covers(&set(&[(443, 443)])) && !set(&[(443, 443)]).covers(&PortSet::Any));
        assert!(
            set(&[(1, 9), (10, 20)]).covers(&set(&[(5, 15)])) && !set(&[(1, 9)]).covers(&set(&[(9, 10)]))
        );
        assert!(set(&[(1, u16::MAX)]).covers(&PortSet::Any));
        assert!(set(&[(1, 9)]).overlaps(&set(&[(9, 10)])) && !set(&[(1, 9)]).overlaps(&set(&[(10, 11)])));
    }

    #[test]
    fn ranges_are_numbers_in_order() {
        assert_eq!(parse_range("443"), Ok((443, 443)));
        assert_eq!(parse_range("8000-8099"), Ok((8000, 8099)));
        assert_eq!(parse_range("1-65535"), Ok((1, 65535)));
        for bad in ["", "0", "65536", "+1", "01", "9-8", "1-", "-1", "1-2-3", "any", " 1"] {
            assert_eq!(parse_range(bad), Err(PatternError::Port), "{bad}");
        }
    }
}
