//! Globs over canonical paths. `*` is any run of bytes within one segment, `**` any run of segments: at
//! the end one or more (`/v1/**` matches `/v1/` and all below it, not `/v1`), elsewhere none or more.
//!
//! Deny rules read them leniently, since servers do: letter case and percent-encoding are ignored, a slash
//! at the end neither needed nor harmful, and `/v1/**` includes `/v1`.
//!
//! A match never costs more than path length × pattern length, and as a rule the longer of the two.

mod compare;

use super::PatternError;
use crate::canonical::{Fault, PATH_BYTES_LAX, PathReading, check_path_bytes, hex_value};
use crate::limits::PATH_PATTERN_BYTES_MAX;

/// How forgiving a match is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reading {
    /// For rules that allow.
    Exact,
    /// For rules that deny.
    Lenient,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct PathPattern {
    segments: Box<[Segment]>,
    reading: Reading,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Segment {
    /// `**`
    Any,
    /// May hold `*`.
    Glob(Box<str>),
}

impl PathPattern {
    pub(crate) fn parse(text: &str, reading: Reading) -> Result<Self, PatternError> {
        if text.len() > PATH_PATTERN_BYTES_MAX {
            return Err(PatternError::PathLong);
        }
        match check_path_bytes(text) {
            Ok(PathReading::Plain) if text.bytes().any(|byte| PATH_BYTES_LAX.contains(&byte)) => {
                return Err(PatternError::PathByte);
            }
            Ok(PathReading::Plain) => {}
            Ok(PathReading::Ambiguous) => return Err(PatternError::PathAmbiguous),
            Err(Fault::PathPercent) => return Err(PatternError::PathPercent),
            Err(Fault::PathDots) => return Err(PatternError::PathDots),
            Err(Fault::PathByte) => return Err(PatternError::PathByte),
            Err(_) => return Err(PatternError::PathForm),
        }
        let rest = text.strip_prefix('/').ok_or(PatternError::PathForm)?;
        let segments = rest.split('/').map(parse_segment).collect::<Result<Vec<_>, _>>()?;
        let mut pattern = Self { segments: segments.into(), reading };
        if reading == Reading::Lenient {
            pattern.drop_last_slash();
        }
        Ok(pattern)
    }

    fn drop_last_slash(&mut self) {
        if let [front @ .., Segment::Glob(last)] = &*self.segments
            && last.is_empty()
        {
            self.segments = front.into();
        }
    }

    /// `path` must have passed the canonical check and be free of ambiguous parts.
    pub(crate) fn matches(&self, path: &str) -> bool {
        let path = path.strip_prefix('/').unwrap_or(path);
        match self.reading {
            Reading::Exact => match_segments(&self.segments, Segments(Some(path)), Reading::Exact),
            Reading::Lenient => {
                let path = path.strip_suffix('/').unwrap_or(path);
                let segments = if path.is_empty() { Segments(None) } else { Segments(Some(path)) };
                match_segments(&self.segments, segments, Reading::Lenient)
            }
        }
    }
}

fn parse_segment(text: &str) -> Result<Segment, PatternError> {
    match text {
        "**" => Ok(Segment::Any),
        _ if text.contains("**") => Err(PatternError::PathStars),
        _ => Ok(Segment::Glob(text.into())),
    }
}

/// What is left of a path, without its leading slash; `Some("")` is one empty segment, `None` is nothing.
#[derive(Clone, Copy)]
struct Segments<'p>(Option<&'p str>);

impl<'p> Iterator for Segments<'p> {
    type Item = &'p str;

    fn next(&mut self) -> Option<&'p str> {
        let rest = self.0?;
        let (segment, rest) = rest.split_once('/').map_or((rest, None), |(head, tail)| (head, Some(tail)));
        self.0 = rest;
        Some(segment)
    }
}

/// The usual two-pointer glob over segments: on a mismatch, the last `**` swallows one segment more.
/// Going back further is never needed, since what an earlier `**` could give up, the last one can take.
fn match_segments(pattern: &[Segment], path: Segments<'_>, reading: Reading) -> bool {
    let (mut pattern, mut path) = (pattern, path);
    let mut retry: Option<(&[Segment], Segments<'_>)> = None;
    loop {
        match pattern.split_first() {
            Some((Segment::Any, [])) => return reading == Reading::Lenient || path.0.is_some(),
            Some((Segment::Any, rest)) => {
                retry = Some((rest, path));
                pattern = rest;
                continue;
            }
            Some((Segment::Glob(glob), rest)) => {
                let mut ahead = path;
                if ahead
                    .next()
                    .is_some_and(|segment| match_glob(glob.as_bytes(), segment.as_bytes(), reading))
                {
                    (pattern, path) = (rest, ahead);
                    continue;
                }
            }
            None if path.0.is_none() => return true,
            None => {}
        }
        let Some((after, mut from)) = retry else { return false };
        if from.next().is_none() {
            return false;
        }
        retry = Some((after, from));
        (pattern, path) = (after, from);
    }
}

fn match_glob(glob: &[u8], text: &[u8], reading: Reading) -> bool {
    let (mut glob, mut text) = (glob, text);
    let mut retry: Option<(&[u8], &[u8])> = None;
    loop {
        match (first(glob, reading), first(text, reading)) {
            (None, None) => return true,
            (Some((b'*', rest)), _) => {
                retry = Some((rest, text));
                glob = rest;
                continue;
            }
            (Some((want, glob_rest)), Some((have, text_rest))) if want == have => {
                (glob, text) = (glob_rest, text_rest);
                continue;
            }
            _ => {}
        }
        let Some((after, from)) = retry else { return false };
        let Some((_, from)) = first(from, reading) else { return false };
        retry = Some((after, from));
        (glob, text) = (after, from);
    }
}

/// The first byte as `reading` sees it, and the rest. `%2A` in a deny rule's pattern thereby means `*`, which
/// denies no less.
fn first(text: &[u8], reading: Reading) -> Option<(u8, &[u8])> {
    match (reading, text) {
        (_, []) => None,
        (Reading::Exact, [byte, rest @ ..]) => Some((*byte, rest)),
        (Reading::Lenient, [b'%', high, low, rest @ ..]) => {
            let byte = hex_value(high).unwrap_or(0) << 4 | hex_value(low).unwrap_or(0);
            Some((byte.to_ascii_lowercase(), rest))
        }
        (Reading::Lenient, [byte, rest @ ..]) => Some((byte.to_ascii_lowercase(), rest)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn allow_rules_read_paths_exactly() {
        let check =
            |pattern: &str, path: &str| PathPattern::parse(pattern, Reading::Exact).unwrap().matches(path);
        for (pattern, yes, no) in [
            ("/", &["/"][..], &["/a", "/a/"][..]),
            ("/v1", &["/v1"], &["/v1/", "/v10", "/V1", "/"]),
            ("/v1/*", &["/v1/a", "/v1/"], &["/v1", "/v1/a/b", "/v1/a/"]),
            ("/v1/**", &["/v1/", "/v1/a", "/v1/a/b", "/v1/a/"], &["/v1", "/v10/a"]),
            ("/**", &["/", "/a", "/a/b/"], &[]),
            ("/a/**/z", &["/a/z", "/a/b/z", "/a/b/c/z", "/a/z/z"], &["/a/z/", "/az", "/a/b"]),
            ("/*/issues", &["/x/issues"], &["/x/y/issues", "/issues"]),
            ("/r/*-x/*.git", &["/r/a-x/b.git", "/r/-x/.git", "/r/a-x-x/a.git.git"], &["/r/a/b.git"]),
            ("/a*b*c", &["/abc", "/axbxc", "/abcbc"], &["/ab", "/acb", "/ab/c"]),
            ("/**/a/**/b", &["/a/b", "/x/a/y/b", "/a/a/b/b"], &["/b/a", "/a/b/c"]),
        ] {
            for path in yes {
                assert!(check(pattern, path), "{pattern} should match {path}");
            }
            for path in no {
                assert!(!check(pattern, path), "{pattern} should not match {path}");
            }
        }
    }

    #[test]
    fn deny_rules_read_paths_as_the_laxest_server_would() {
        let check =
            |pattern: &str, path: &str| PathPattern::parse(pattern, Reading::Lenient).unwrap().matches(path);
        for path in ["/admin", "/admin/", "/ADMIN", "/admin/x", "/Admin/x/"] {
            assert!(check("/admin/**", path), "{path}");
        }
        for pattern in ["/admin", "/admin/"] {
            assert!(check(pattern, "/admin") && check(pattern, "/admin/") && !check(pattern, "/admin/x"));
        }
        assert!(check("/", "/") && !check("/", "/a"));
        assert!(!check("/admin/**", "/administrator"));
        for path in ["/@scope/x", "/%40scope/x", "/%40SCOPE"] {
            assert!(check("/@scope/**", path) && check("/%40scope/**", path), "{path}");
        }
        assert!(check("/a%7Cb", "/a|b") && check("/a%7Cb", "/a%7Cb") && check("/*%C3%A9", "/caf%C3%A9"));
    }

    #[test]
    fn what_is_not_a_path_pattern() {
        use PatternError::*;
        let long = format!("/{}", "a".repeat(PATH_PATTERN_BYTES_MAX));
        for (text, error) in [
            ("", PathForm),
            ("v1", PathForm),
            ("**", PathForm),
            ("/a?b", PathForm),
            ("/a b", PathByte),
            ("/{a,b}", PathByte),
            ("/[ab]", PathByte),
            ("/ä", PathByte),
            ("/%2f", PathPercent),
            ("/%41", PathPercent),
            ("/a/../b", PathDots),
            ("/%2F", PathAmbiguous),
            ("/a//b", PathAmbiguous),
            ("/a;b", PathAmbiguous),
            ("/a**", PathStars),
            ("/***", PathStars),
            (long.as_str(), PathLong),
        ] {
            assert_eq!(PathPattern::parse(text, Reading::Exact), Err(error), "{text}");
        }
    }
}
