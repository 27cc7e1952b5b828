//! What becomes of one attempt if one rule set takes the place of another.

use crate::decide::decide;
use crate::facts::{Facts, Layer};
use crate::ruleset::Ruleset;
use crate::verdict::Verdict;

/// How a verdict differs from the one before.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Difference {
    /// It was refused and passes.
    Allowed,
    /// It passed and is refused.
    Denied,
    /// It passes, but otherwise: another credential, upstream, limit, or TLS treated in another way.
    Otherwise,
}

/// Both verdicts about one attempt, which differ.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[non_exhaustive]
pub struct Change<'r> {
    /// How.
    pub difference: Difference,
    /// Nobody knows the query, and with another one it could be the same or differ in another way.
    pub depends_on_query: bool,
    /// By the rule set before.
    pub before: Verdict<'r>,
    /// By the other one.
    pub after: Verdict<'r>,
}

/// Decides by both, and says what differs; `None` where nothing does. That another rule says the same is no difference.
///
/// Where the query is not known ([`Facts::query`]), it is taken to be empty, and then to be the worst it could be.
#[must_use]
pub fn change<'r>(before: &'r Ruleset, after: &'r Ruleset, facts: &Facts<'_>) -> Option<Change<'r>> {
    if facts.layer() != Layer::Http || facts.query().is_some() {
        return compare(before, after, facts);
    }
    let empty = facts.with_query("");
    let (mild, harsh) = (compare(before, after, &empty), compare(before, after, facts));
    let alike = |one: &Option<Change<'r>>| one.map(|change| change.difference);
    let depends_on_query = alike(&mild) != alike(&harsh);
    mild.or(harsh).map(|change| Change { depends_on_query, ..change })
}

fn compare<'r>(before: &'r Ruleset, after: &'r Ruleset, facts: &Facts<'_>) -> Option<Change<'r>> {
    let (before, after) = (decide(before, facts), decide(after, facts));
    let difference = match (before.is_allowed(), after.is_allowed()) {
        (false, true) => Difference::Allowed,
        (true, false) => Difference::Denied,
        (false, false) => return None,
        (true, true) if passes_alike(&before, &after) => return None,
        (true, true) => Difference::Otherwise,
    };
    Some(Change { difference, depends_on_query: false, before, after })
}

fn passes_alike(one: &Verdict<'_>, other: &Verdict<'_>) -> bool {
    one.credential == other.credential
        && one.upstream == other.upstream
        && one.tls == other.tls
        && one.on_opaque == other.on_opaque
        && one.limits == other.limits
}

impl Difference {
    /// As in JSON.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Allowed => "allowed",
            Self::Denied => "denied",
            Self::Otherwise => "otherwise",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::facts::{Host, Scheme};

    fn told(before: &str, after: &str, line: &str) -> Option<(&'static str, bool)> {
        let parse = |text: &str| Ruleset::parse(&format!("version = 1\n{text}"), "p").unwrap();
        let (before, after) = (parse(before), parse(after));
        let facts = match line.strip_suffix("?…") {
            // The query is not known.
            Some(path) => Facts::http(Scheme::Https, Host::Name("a.test"), 443, "GET", path),
            None => Facts::parse(line).unwrap(),
        };
        change(&before, &after, &facts).map(|change| (change.difference.as_str(), change.depends_on_query))
    }

    #[test]
    fn only_what_passes_differently_is_a_change() {
        let wide = "[[allow]]\nhost = \"a.test\"";
        let other_name = "[[allow]]\nid = \"x\"\nhost = \"**.test\"";
        let keyed = "[[allow]]\nhost = \"a.test\"\ncredential = \"K\"";
        for (before, after, expected) in [
            (wide, wide, None),
            (wide, other_name, None),
            ("", wide, Some(("allowed", false))),
            (wide, "", Some(("denied", false))),
            (wide, keyed, Some(("otherwise", false))),
            ("", "[[deny]]\nhost = \"a.test\"", None),
        ] {
            assert_eq!(told(before, after, "GET https://a.test/x"), expected, "{before} → {after}");
        }
        assert_eq!(told("", wide, "CONNECT a.test:443"), Some(("allowed", false)));
    }

    #[test]
    fn what_hangs_on_a_query_that_nobody_knows_is_marked() {
        let wide = "[[allow]]\nhost = \"a.test\"";
        let keys = "[[allow]]\nhost = \"a.test\"\nquery = [\"q\"]";
        let deny = "[[allow]]\nhost = \"a.test\"\n[[deny]]\nhost = \"a.test\"\nquery = [\"q\"]";
        for (before, after, expected) in [
            ("", wide, Some(("allowed", false))),
            ("", keys, Some(("allowed", true))),
            (wide, keys, Some(("denied", true))),
            (wide, deny, Some(("denied", true))),
            (keys, keys, None),
        ] {
            assert_eq!(told(before, after, "/x?…"), expected, "{before} → {after}");
        }
    }
}
