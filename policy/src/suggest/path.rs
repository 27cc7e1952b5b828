//! Paths that were asked for, to the fewest patterns that a person would write for them.

use std::collections::BTreeMap;

use crate::pattern::PathPattern;
use crate::pattern::path::Reading;

/// Shortest run of letters and digits that names one thing rather than a kind of things.
const RANDOM_BYTES_MIN: usize = 16;

/// For each path, in their order, the pattern that stands for it; `None` where there is none, or it would be too long.
///
/// What looks random becomes `*` at once, a number only where others stand in its place.
pub(super) fn patterns(paths: &[&str]) -> Vec<Option<String>> {
    // By shape, the numbers that were seen at each place.
    let mut shapes: BTreeMap<String, Vec<Vec<&str>>> = BTreeMap::new();
    for path in paths {
        let numbers = segments(path).filter(|segment| is_number(segment)).collect();
        shapes.entry(shape(path)).or_default().push(numbers);
    }
    paths.iter().map(|path| pattern(path, shapes.get(&shape(path)).map_or(&[], Vec::as_slice))).collect()
}

fn segments(path: &str) -> impl Iterator<Item = &str> {
    path.strip_prefix('/').unwrap_or(path).split('/')
}

fn shape(path: &str) -> String {
    let part = |segment: &str| match is_number(segment) {
        true => "/0".to_owned(),
        false => format!("/{}", glob(segment).as_deref().unwrap_or(segment)),
    };
    segments(path).map(part).collect()
}

fn pattern(path: &str, alike: &[Vec<&str>]) -> Option<String> {
    let mut place = 0usize;
    let mut parts: Vec<String> = Vec::new();
    for segment in segments(path) {
        if !is_number(segment) {
            parts.push(glob(segment)?);
            continue;
        }
        let differs = alike.iter().any(|numbers| numbers.get(place).is_some_and(|other| *other != segment));
        parts.push(if differs { "*".to_owned() } else { segment.to_owned() });
        place = place.saturating_add(1);
    }
    let text = format!("/{}", parts.join("/"));
    PathPattern::parse(&text, Reading::Exact).is_ok_and(|pattern| pattern.matches(path)).then_some(text)
}

fn is_number(segment: &str) -> bool {
    !segment.is_empty() && segment.bytes().all(|byte| byte.is_ascii_digit())
}

/// A segment as a pattern; `None` where it has what no pattern may have. That is not a `*`: whoever asked would choose where
/// they are.
fn glob(segment: &str) -> Option<String> {
    if segment.contains(['"', '<', '>', '[', ']', '^', '`', '{', '|', '}', '*']) {
        return None;
    }
    Some(random(segment).map_or_else(|| segment.to_owned(), |prefix| format!("{prefix}*")))
}

/// What stands before the random part of a segment that ends in one: a UUID, a hash, `file-AbC123…`.
fn random(segment: &str) -> Option<&str> {
    let uuid = |text: &str| {
        let mut lengths = text.split('-').map(str::len);
        [8, 4, 4, 4, 12].iter().all(|length| lengths.next() == Some(*length))
            && lengths.next().is_none()
            && text.bytes().all(|byte| byte == b'-' || byte.is_ascii_hexdigit())
    };
    if uuid(segment) {
        return Some("");
    }
    let start = segment.rfind(['-', '_', '~']).map_or(0, |at| at.saturating_add(1));
    let (prefix, tail) = segment.split_at_checked(start)?;
    let digits = tail.bytes().filter(u8::is_ascii_digit).count();
    let letters = tail.bytes().filter(u8::is_ascii_alphabetic).count();
    let all = digits.saturating_add(letters) == tail.len();
    (all && tail.len() >= RANDOM_BYTES_MIN && digits > 1 && letters > 1).then_some(prefix)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_names_one_thing_among_many_becomes_a_star() {
        for (paths, expected) in [
            (&["/v1/chat"][..], &["/v1/chat"][..]),
            (&["/", "/a/", "/a"], &["/", "/a/", "/a"]),
            (&["/issues/17"], &["/issues/17"]),
            (&["/issues/17", "/issues/18"], &["/issues/*", "/issues/*"]),
            (&["/r/1/issues/17", "/r/1/issues/18"], &["/r/1/issues/*", "/r/1/issues/*"]),
            (&["/issues/17", "/issues/17/x"], &["/issues/17", "/issues/17/x"]),
            (&["/u/123e4567-e89b-12d3-a456-426614174000/x"], &["/u/*/x"]),
            (&["/blob/356a192b7913b04c54574d18c28d46e6395428ab"], &["/blob/*"]),
            (&["/threads/thread_abcDEF0123456789xyz/runs"], &["/threads/thread_*/runs"]),
            (&["/files/file-6F2ksmvXxt4VdoqmHRw6kL"], &["/files/file-*"]),
            (&["/models/claude-3-5-sonnet-20241022"], &["/models/claude-3-5-sonnet-20241022"]),
            (
                &["/v1beta/models/gemini-1.5-flash:generateContent"],
                &["/v1beta/models/gemini-1.5-flash:generateContent"],
            ),
            (&["/api/internationalization"], &["/api/internationalization"]),
        ] {
            let got: Vec<String> = patterns(paths).into_iter().map(Option::unwrap).collect();
            assert_eq!(got, expected, "{paths:?}");
        }
    }

    /// Whoever asks would choose where a pattern has its stars.
    #[test]
    fn a_path_with_signs_that_no_pattern_has_is_left_out() {
        for path in ["/\"/\"/\"", "/a[0]/b", "/b|c", "/**/d", "/v1/*"] {
            assert_eq!(patterns(&[path, "/v1/x"]), [None, Some("/v1/x".to_owned())], "{path}");
        }
    }

    /// One that is cut would let the sandbox choose how wide a rule becomes, by the length of what it asks for.
    #[test]
    fn a_path_too_long_for_a_pattern_has_none() {
        let path = format!("/v1/{}/{}", "a".repeat(100), "b".repeat(200));
        assert_eq!(patterns(&[&path, "/v1/x"]), [None, Some("/v1/x".to_owned())]);
        let path = format!("/{}", "b".repeat(300));
        assert_eq!(patterns(&[&path]), [None]);
        // It is the pattern's length that counts.
        let path = format!("/v1/{}1a2", "b".repeat(300));
        assert_eq!(patterns(&[&path]), [Some("/v1/*".to_owned())]);
    }
}
