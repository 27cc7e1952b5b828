//! Patterns compared with each other, for [`lint`](crate::lint): never wrong when it says "covers" or "apart", but
//! it may miss either. Work is bounded by the product of the numbers of segments.

use std::fmt;

use super::{PathPattern, Reading, Segment, match_glob};

impl PathPattern {
    /// Whether every path that `other` matches is matched, as far as can be told from the patterns.
    pub(crate) fn covers(&self, other: &Self) -> bool {
        let theirs = &*other.segments;
        if self.reading == Reading::Exact {
            // What is read leniently is more than it says.
            return other.reading == Reading::Exact && covers(&self.segments, theirs, self.reading);
        }
        // Read leniently, a path loses its last slash: of what the last segment matches, nothing may be left.
        match theirs.split_last() {
            Some((Segment::Glob(last), front)) if last.is_empty() => {
                covers(&self.segments, front, self.reading)
            }
            Some((last, front)) if last.takes_nothing() => {
                covers(&self.segments, theirs, self.reading) && covers(&self.segments, front, self.reading)
            }
            _ => covers(&self.segments, theirs, self.reading),
        }
    }

    /// Whether some path may be matched by both.
    pub(crate) fn may_overlap(&self, other: &Self) -> bool {
        let lenient = self.reading == Reading::Lenient || other.reading == Reading::Lenient;
        lenient || may_overlap(&self.segments, &other.segments)
    }
}

impl Segment {
    fn takes_nothing(&self) -> bool {
        match self {
            Self::Any => true,
            Self::Glob(glob) => glob.bytes().all(|byte| byte == b'*'),
        }
    }
}

/// `reach[j]`: the first `i` of our segments cover the first `j` of theirs. Each of theirs stands for one segment of
/// a path, or any number where it is `**`; only our `**` covers that.
fn covers(ours: &[Segment], theirs: &[Segment], reading: Reading) -> bool {
    let mut reach = vec![false; theirs.len().saturating_add(1)];
    if let Some(first) = reach.first_mut() {
        *first = true;
    }
    for (number, our) in (1..).zip(ours) {
        let last = number == ours.len();
        let mut next = vec![false; reach.len()];
        let mut before = false;
        for (at, there) in reach.iter().enumerate() {
            let covered = match our {
                // At the end of an exact pattern `**` takes at least one segment, which theirs must then have.
                Segment::Any if last && reading == Reading::Exact => before,
                Segment::Any => before || *there,
                Segment::Glob(glob) => at.checked_sub(1).is_some_and(|at| {
                    let one = theirs.get(at).is_some_and(|their| glob_covers(glob, their, reading));
                    one && reach.get(at).copied().unwrap_or(false)
                }),
            };
            if let Some(next) = next.get_mut(at) {
                *next = covered;
            }
            before |= *there;
        }
        reach = next;
    }
    reach.last().copied().unwrap_or(false)
}

fn glob_covers(ours: &str, theirs: &Segment, reading: Reading) -> bool {
    let Segment::Glob(theirs) = theirs else { return false };
    // An encoded star in a pattern that is read leniently is a star.
    let fixed = !theirs.contains('*') && !theirs.contains("%2A");
    ours == "*" || ours == &**theirs || (fixed && match_glob(ours.as_bytes(), theirs.as_bytes(), reading))
}

fn may_overlap(ours: &[Segment], theirs: &[Segment]) -> bool {
    // Row by row: whether the first segments of both may be the same ones.
    let mut reach = vec![true];
    reach.extend(theirs.iter().scan(true, |so_far, their| {
        *so_far &= *their == Segment::Any;
        Some(*so_far)
    }));
    for our in ours {
        let any = *our == Segment::Any;
        let mut next = Vec::with_capacity(reach.len());
        next.push(any && reach.first().copied().unwrap_or(false));
        for (their, pair) in theirs.iter().zip(reach.windows(2)) {
            let (both_before, ours_before) = match pair {
                [both, ours] => (*both, *ours),
                _ => (false, false),
            };
            let theirs_before = next.last().copied().unwrap_or(false);
            next.push(match (our, their) {
                (Segment::Glob(one), Segment::Glob(other)) => both_before && globs_may_overlap(one, other),
                _ => both_before || (any && ours_before) || (*their == Segment::Any && theirs_before),
            });
            // `**` goes on taking what the other one says.
            if let Some(last) = next.last_mut() {
                *last |= (any && theirs_before) || (*their == Segment::Any && ours_before);
            }
        }
        reach = next;
    }
    reach.last().copied().unwrap_or(false)
}

fn globs_may_overlap(one: &str, other: &str) -> bool {
    match (one.contains('*'), other.contains('*')) {
        (false, false) => one == other,
        (true, false) => match_glob(one.as_bytes(), other.as_bytes(), Reading::Exact),
        (false, true) => match_glob(other.as_bytes(), one.as_bytes(), Reading::Exact),
        (true, true) => true,
    }
}

impl fmt::Display for PathPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.segments.is_empty() {
            return f.write_str("/");
        }
        self.segments.iter().try_for_each(|segment| match segment {
            Segment::Any => f.write_str("/**"),
            Segment::Glob(glob) => write!(f, "/{glob}"),
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn parse(text: &str, reading: Reading) -> PathPattern {
        PathPattern::parse(text, reading).unwrap()
    }

    #[test]
    fn what_covers_what() {
        let covers =
            |one: &str, other: &str, reading| parse(one, reading).covers(&parse(other, Reading::Exact));
        for (one, other, exact, lenient) in [
            ("/**", "/a/b", true, true),
            ("/**", "/**", true, true),
            ("/v1/**", "/v1/a/*", true, true),
            ("/v1/**", "/v1", false, true),
            ("/v1/**", "/v1/", true, true),
            ("/v1/*", "/v1/a", true, true),
            ("/v1/*", "/v1/a*", true, true),
            // Lenient reading takes the slash of `/v1/` away, which `/v1/*` then does not match.
            ("/v1/*", "/v1/*", true, false),
            ("/v1/*", "/v1/**", false, false),
            ("/**/x", "/a/**/x", true, true),
            ("/**/x", "/a/**", false, false),
            ("/a/**/z", "/a/z", true, true),
            ("/V1/x", "/v1/x", false, true),
            ("/a", "/b", false, false),
            ("/", "/", true, true),
        ] {
            assert_eq!(covers(one, other, Reading::Exact), exact, "{one} {other}");
            assert_eq!(covers(one, other, Reading::Lenient), lenient, "{one} {other} leniently");
        }
    }

    #[test]
    fn patterns_are_shown_as_they_are_written() {
        for text in ["/", "/a", "/a/", "/**", "/a/**/b*", "/*/"] {
            assert_eq!(parse(text, Reading::Exact).to_string(), text);
        }
    }

    fn pattern() -> impl Strategy<Value = String> {
        let segment = prop::sample::select(vec!["a", "b", "A", "*", "a*", "**", "ab", ""]);
        prop::collection::vec(segment, 1..5).prop_filter_map("not a pattern", |segments| {
            let text = format!("/{}", segments.join("/"));
            PathPattern::parse(&text, Reading::Exact).is_ok().then_some(text)
        })
    }

    fn path() -> impl Strategy<Value = String> {
        let segment = prop::sample::select(vec!["a", "b", "A", "ab", "aab", "c", ""]);
        prop::collection::vec(segment, 1..6).prop_filter_map("more than one reading", |segments| {
            let path = format!("/{}", segments.join("/"));
            (!path.contains("//")).then_some(path)
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 4096, failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn what_is_covered_is_matched_and_what_is_apart_is_not(
            one in pattern(), other in pattern(), paths in prop::collection::vec(path(), 40),
            readings in prop::sample::select(vec![
                (Reading::Exact, Reading::Exact),
                (Reading::Lenient, Reading::Exact),
                (Reading::Lenient, Reading::Lenient),
            ]),
        ) {
            let (one, other) = (parse(&one, readings.0), parse(&other, readings.1));
            for path in &paths {
                let (by_one, by_other) = (one.matches(path), other.matches(path));
                prop_assert!(by_one || !by_other || !one.covers(&other), "{one} {other} {path}");
                prop_assert!(!(by_one && by_other) || one.may_overlap(&other), "{one} {other} {path}");
            }
        }
    }
}
