//! The search itself; what it finds is compared with a second opinion in `super::super::tests`.

use super::*;

fn patterns(list: &[&str]) -> Patterns {
    let values: Vec<_> = list.iter().enumerate().map(|(owner, text)| (owner, text.as_bytes())).collect();
    Patterns::new(&Values::new(&values))
}

fn all(patterns: &Patterns, text: &str) -> Vec<(usize, usize, usize)> {
    patterns.hits(text.as_bytes(), text.len()).map(|hit| (hit.start, hit.end, hit.owner)).collect()
}

#[test]
fn finds_patterns_of_different_lengths_in_order() {
    let set = patterns(&["abcdefgh", "cdefghijklmn", "abcdefghijkl"]);
    assert_eq!(all(&set, "..abcdefgh.."), [(2, 10, 0)]);
    assert_eq!(all(&set, "abcdefghijklmn"), [(0, 12, 2), (2, 14, 1)]);
    assert_eq!(all(&set, "abcdefg"), []);
    assert_eq!(all(&set, "abcdefghabcdefgh"), [(0, 8, 0), (8, 16, 0)]);
}

#[test]
fn no_pattern_finds_nothing_and_holds_nothing() {
    let set = patterns(&[]);
    assert_eq!(all(&set, "anything"), []);
    assert_eq!(set.hold_from(b"anything", Seen::default()), 8);
    assert!(set.find(b"anything").is_none());
    assert!(set.is_free(b"anything"));
}

/// Across the borders of the parts that are walked side by side, too.
#[test]
fn a_form_is_seen_wherever_it_stands() {
    let set = patterns(&["ghp_0123456789", "key+with/specials"]);
    for length in [0, 13, 14, 40, 100, 333] {
        for form in ["", "ghp_0123456789", "ghp_012345678", "key%2Bwith/specials", "key+with/special"] {
            for at in 0..=length {
                let text = ["x".repeat(at).as_str(), form, "x".repeat(length - at).as_str()].concat();
                assert_eq!(set.is_free(text.as_bytes()), set.find(text.as_bytes()).is_none(), "{text}");
            }
        }
    }
    assert!(!set.is_free(["x".repeat(99).as_str(), "ghp_0123456789"].concat().as_bytes()));
}

#[test]
fn a_pattern_longer_than_a_shift_entry_is_found() {
    let long = "0123456789".repeat(100);
    let set = patterns(&[&long]);
    assert_eq!(all(&set, &format!("{}{long}{}", "x".repeat(999), "y".repeat(999))), [(999, 1999, 0)]);
}

#[test]
fn holds_what_may_become_a_pattern_and_nothing_after_a_line_end() {
    let set = patterns(&["ghpA0123456789"]);
    for (text, held) in [
        ("data: done\n\n", 0),
        ("data: ghp", 3),
        ("data: ghpA01", 6),
        // No more than the first bytes of the secret decide: a wrong guess is held like a right one.
        ("data: ghpAXX", 6),
        // Longer than the pattern: cannot be its beginning.
        ("data: ghpAXXXXXXXXXX", 0),
        ("data: ghp \"", 0),
        ("data: ghB", 0),
    ] {
        assert_eq!(text.len() - set.hold_from(text.as_bytes(), Seen::default()), held, "{text:?}");
    }
}

#[test]
fn what_is_held_moves_on_as_if_all_were_looked_at_again() {
    let set = patterns(&["ghp_0123456789", "key+with/specials"]);
    let text = b"xx ghp_ghp_01gh key%2Bw key ghp_0123456789ABCDEF__ghp_0123456789key+with/specia\\\\u00ghp";
    for first in 0..=text.len() {
        let mut from = set.hold_from(&text[..first], Seen::default());
        for end in first..=text.len() {
            let known = first.max(end - usize::from(end > first)) - from;
            from += set.hold_from(&text[from..end], Seen { known, free: 0 });
            assert_eq!(from, set.hold_from(&text[..end], Seen::default()), "{first} {end}");
        }
    }
}

/// Characters that writers disagree on make more ways to begin, and the window shorter, within bounds.
#[test]
fn no_value_costs_more_than_its_bound() {
    for (key, window, candidates) in [
        ("0123456789abcdef0123456789abcdef", 32, 12),
        ("sk-ant-api03-5HmQ0wWqv7ZkP2nXb8TtRr4YcE6uJd1L", 16, 400),
        ("correct/horse+battery=staple&more", 12, 400),
        ("a+b/c=d&e'f\"g<h>i~j!k(l)m*n o%p", 8, 700),
        ("////////", 5, 500),
        ("&&&&&&&&&&&&", 5, 500),
    ] {
        let set = patterns(&[key]);
        assert!(set.window >= window, "{key}: {}", set.window);
        assert!(set.candidates.len() <= candidates, "{key}: {}", set.candidates.len());
    }
}

/// Requests carry placeholders as they are: that their other forms may look the same must cost nothing.
#[test]
fn a_value_that_stands_there_as_it_is_is_compared_once() {
    let value = "sbx-0123456789_abcdef-ghijklm";
    let set = patterns(&[value]);
    work::taken();
    assert_eq!(set.find(value.as_bytes()).map(|hit| hit.end), Some(value.len()));
    let steps = work::taken();
    assert!(steps <= 4, "{steps}");
}
