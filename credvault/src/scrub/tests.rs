//! Scrubbing against a naive second opinion ([`oracle`]): brute-force search, no tables, no streaming.

use proptest::prelude::*;

use super::oracle::{self, Language, scrubbed};
use super::*;

const MARKER: &[u8] = b"\x01\x02";

fn set(secrets: &[Vec<u8>]) -> Arc<ScrubSet> {
    let secrets: Vec<Secret> = secrets.iter().cloned().map(Secret::new).collect();
    ScrubSet::new(secrets.iter().map(|secret| (secret, MARKER)))
}

fn all_languages(secrets: &[Vec<u8>]) -> Vec<Language> {
    secrets.iter().flat_map(|secret| oracle::languages(secret)).collect()
}

fn stream(set: &Arc<ScrubSet>, chunks: &[&[u8]]) -> (Vec<u8>, u64) {
    let longest = set.patterns.longest();
    let mut scrubber = Scrubber::new(Arc::clone(set));
    let mut out = Vec::new();
    for chunk in chunks {
        let (clean, before) = (scrubber.is_clean(chunk), out.len());
        scrubber.push(chunk, &mut out);
        assert!(!clean || (&out[before..] == *chunk && scrubber.held_bytes() == 0), "not clean: {chunk:?}");
        assert!(scrubber.held.len() < longest.max(1), "held {} of {longest}", scrubber.held.len());
    }
    scrubber.finish(&mut out);
    assert_eq!(scrubber.held_bytes(), 0);
    (out, scrubber.redactions())
}

/// Few letters make overlaps, self-overlaps and shared prefixes likely.
fn secret() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        prop::collection::vec(prop::sample::select(b"ab".to_vec()), 8..14),
        prop::collection::vec(prop::sample::select(b"sk-_/+=\"\\% .~&A9".to_vec()), 8..40),
        prop::collection::vec(0x20u8..=0xff, 8..30),
    ]
}

/// A text of noise, whole forms, and cut forms, as pieces.
fn scene() -> impl Strategy<Value = (Vec<Vec<u8>>, Vec<u8>, Vec<usize>)> {
    let piece = (
        0u8..4,
        any::<prop::sample::Index>(),
        any::<prop::sample::Index>(),
        prop::collection::vec(0x03u8..0x7f, 0..12),
        prop::collection::vec(any::<prop::sample::Index>(), 1..8),
    );
    (
        prop::collection::vec(secret(), 1..4),
        prop::collection::vec(piece, 0..12),
        prop::collection::vec(0usize..24, 1..40),
    )
        .prop_map(|(secrets, pieces, cuts)| {
            let languages = all_languages(&secrets);
            let mut text = Vec::new();
            for (kind, language, cut, noise, choices) in pieces {
                let mut choices = choices.iter().cycle();
                let form = language.get(&languages).write(|ways| choices.next().unwrap().index(ways));
                match kind {
                    0 => text.extend(noise),
                    1 => text.extend_from_slice(&form),
                    2 => text.extend_from_slice(&form[..cut.index(form.len())]),
                    _ => text.extend_from_slice(&form[cut.index(form.len())..]),
                }
            }
            (secrets, text, cuts)
        })
}

fn cut<'t>(text: &'t [u8], sizes: &[usize]) -> Vec<&'t [u8]> {
    let (mut rest, mut chunks) = (text, Vec::new());
    for size in sizes {
        let (chunk, after) = rest.split_at((*size).min(rest.len()));
        chunks.push(chunk);
        rest = after;
    }
    chunks.push(rest);
    chunks
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn no_form_survives_any_chunking((secrets, text, cuts) in scene()) {
        let (set, languages) = (set(&secrets), all_languages(&secrets));
        let expected = scrubbed(&text, &languages, MARKER);
        let (whole, count) = stream(&set, &[&text]);
        prop_assert_eq!(&whole, &expected);
        prop_assert_eq!(&scrubbed(&whole, &languages, MARKER), &whole, "a form came through");
        let (cut_up, cut_count) = stream(&set, &cut(&text, &cuts));
        prop_assert_eq!(&cut_up, &expected);
        prop_assert_eq!(count, cut_count);
        let bytes: Vec<&[u8]> = text.chunks(1).collect();
        prop_assert_eq!(&stream(&set, &bytes).0, &expected);
        prop_assert_eq!(set.scrub_value(&text).unwrap_or(text), expected);
    }

    /// What was known at the beginning and what has come since, whichever of them it was.
    #[test]
    fn two_sets_are_searched_like_one((secrets, text, cuts) in scene()) {
        let expected = scrubbed(&text, &all_languages(&secrets), MARKER);
        let (own, newer) = secrets.split_at(cuts[0] % (secrets.len() + 1));
        let mut scrubber = Scrubber::new(set(own));
        scrubber.also(&set(newer));
        let mut out = Vec::new();
        for chunk in cut(&text, &cuts) {
            let (clean, before) = (scrubber.is_clean(chunk), out.len());
            scrubber.push(chunk, &mut out);
            prop_assert!(!clean || (&out[before..] == chunk && scrubber.held_bytes() == 0));
        }
        scrubber.finish(&mut out);
        prop_assert_eq!(&out, &expected);
        let value = scrubber.scrub_value(&text);
        prop_assert_eq!(value.is_none(), scrubber.redactions() == 0);
        prop_assert_eq!(&value.unwrap_or_else(|| text.clone()), &expected);
    }

    #[test]
    fn released_ends_cost_at_most_three_bytes((secrets, text, cuts) in scene()) {
        let (set, languages) = (set(&secrets), all_languages(&secrets));
        let mut scrubber = Scrubber::new(Arc::clone(&set));
        let mut out = Vec::new();
        for chunk in cut(&text, &cuts) {
            scrubber.push(chunk, &mut out);
            scrubber.release(&mut out);
        }
        scrubber.finish(&mut out);
        prop_assert_eq!(&scrubbed(&out, &languages, MARKER), &out, "a form came through");
        // What is not a secret is never lost: the marker-free rest of the exact result is still there.
        prop_assert!(out.len() >= scrubbed(&text, &languages, MARKER).len());
    }
}

#[test]
fn complete_events_pass_at_once() {
    let set = set(&[b"sk-ant-api03-0123456789abcdef".to_vec()]);
    let mut scrubber = Scrubber::new(set);
    for event in
        ["data: {\"t\":\"s\"}\n\n", ": ping\r\n\r\n", "event: sk-ant-\ndata: \"sk-ant-api03-0123\"}\n\n"]
    {
        let mut out = Vec::new();
        assert!(scrubber.is_clean(event.as_bytes()));
        scrubber.push(event.as_bytes(), &mut out);
        assert_eq!(out, event.as_bytes());
        assert_eq!(scrubber.held_bytes(), 0);
    }
}

/// A guest that has its guess echoed must not learn from a late byte whether the guess is right.
#[test]
fn holding_does_not_tell_a_right_guess_from_a_wrong_one() {
    let secret = b"ghp_Rr8Zk2Qm5Xv7Lw3T".to_vec();
    let set = set(std::slice::from_ref(&secret));
    for guessed in HOLD_PREFIX_BYTES..secret.len() {
        let held_after = |guess: &[u8]| {
            let mut scrubber = Scrubber::new(Arc::clone(&set));
            scrubber.push(b"you said ", &mut Vec::new());
            scrubber.push(guess, &mut Vec::new());
            scrubber.held_bytes()
        };
        let right = &secret[..guessed];
        let mut wrong = right.to_vec();
        if guessed > HOLD_PREFIX_BYTES {
            wrong[guessed - 1] = b'0';
        }
        assert_eq!(held_after(right), held_after(&wrong), "{guessed}");
    }
}

#[test]
fn a_quiet_stream_gets_its_short_end_and_the_rest_is_still_redacted() {
    let set = set(&[b"ghp_Rr8Zk2Qm5Xv7Lw3T".to_vec()]);
    let mut scrubber = Scrubber::new(set);
    let mut out = Vec::new();
    scrubber.push(b"login: gh", &mut out);
    assert_eq!(out, b"login: ");
    scrubber.release(&mut out);
    assert_eq!(out, b"login: gh");
    scrubber.push(b"p_Rr8Zk2Qm5Xv7Lw3T!", &mut out);
    scrubber.release(&mut out);
    scrubber.finish(&mut out);
    assert_eq!(out, b"login: gh\x01\x02!");
    // Four bytes and more stay held: from there on it may be the secret part.
    scrubber.push(b"ghp_", &mut out);
    scrubber.release(&mut out);
    assert_eq!(scrubber.held_bytes(), 4);
}

/// Found by fuzzing: the inner one used to be replaced at once, after the beginning of the outer one.
#[test]
fn a_secret_inside_another_does_not_uncover_the_outer_one() {
    let set = set(&[b"postgres://app:Rr8Zk2Qm5Xv7@db".to_vec(), b"Rr8Zk2Qm5Xv7".to_vec()]);
    let text = b"url postgres://app:Rr8Zk2Qm5Xv7@db end";
    for cut in 0..text.len() {
        let (before, after) = text.split_at(cut);
        assert_eq!(stream(&set, &[before, after]), (b"url \x01\x02 end".to_vec(), 1), "{cut}");
    }
}

/// What is left of the longer one would be no secret, but it would be left.
#[test]
fn of_two_forms_that_begin_alike_the_longer_one_goes() {
    for (secret, text) in [
        (&b"!!&!!!-key%"[..], &b"!!&!!!-key%25;"[..]),
        (b"!!-!!!-key&", b"!!-!!!-key&amp;;"),
        (b"!!-!!!-key\\", b"!!-!!!-key\\\\;"),
        // Its own beginning in hexadecimal.
        (b"33333333", b"3333333333333333;"),
    ] {
        assert_eq!(stream(&set(&[secret.to_vec()]), &[text]), (b"\x01\x02;".to_vec(), 1), "{text:?}");
    }
}

#[test]
fn a_short_secret_is_not_registered() {
    let set = set(&[b"1234567".to_vec(), b"12345678".to_vec()]);
    assert!(set.scrub_value(b"1234567").is_none());
    assert!(set.scrub_value(b"12345678").is_some());
}

#[test]
fn no_secrets_pass_everything_through_unheld() {
    let set = set(&[]);
    let mut scrubber = Scrubber::new(set);
    let mut out = Vec::new();
    scrubber.push(b"anything", &mut out);
    assert_eq!((out.as_slice(), scrubber.held_bytes(), scrubber.redactions()), (&b"anything"[..], 0, 0));
}

#[test]
fn a_secret_that_comes_while_a_stream_lasts_is_found_from_then_on() {
    let [old, new] = [b"old-Rr8Zk2Qm5Xv7".to_vec(), b"new-Xv7Lw3TRr8Zk".to_vec()];
    let mut scrubber = Scrubber::new(set(std::slice::from_ref(&old)));
    let mut out = Vec::new();
    scrubber.push(b"old-Rr8Z", &mut out);
    scrubber.also(&set(std::slice::from_ref(&new)));
    scrubber.push(b"k2Qm5Xv7, new-Xv7", &mut out);
    assert!(scrubber.scrub_value(&old).is_some() && scrubber.scrub_value(&new).is_some());
    assert!(scrubber.is_in_name("x-old-rr8zk2qm5xv7") && scrubber.is_in_name("x-new-xv7lw3trr8zk"));
    scrubber.push(b"Lw3TRr8Zk; old-Rr8Zk2Qm5Xv7", &mut out);
    scrubber.finish(&mut out);
    assert_eq!(out, b"\x01\x02, \x01\x02; \x01\x02");
}

/// What is held may be the beginning of what has only come to be known; what is no longer known is let go.
#[test]
fn what_is_held_is_searched_for_a_secret_that_comes_and_let_go_with_one_that_goes() {
    let [own, first, second] =
        [&b"own-Rr8Zk2Qm5Xv7"[..], b"one-Xv7Lw3TRr8Zk", b"Rr8Zsecond-00"].map(|value| set(&[value.to_vec()]));
    let (mut scrubber, mut out) = (Scrubber::new(own), Vec::new());
    scrubber.also(&first);
    scrubber.push(b"a one-Xv7", &mut out);
    assert_eq!(out, b"a ");
    scrubber.also(&second);
    scrubber.push(b"Lw3TRr8Zk! own-Rr8Zsec", &mut out);
    assert_eq!(out, b"a one-Xv7Lw3TRr8Zk! ");
    scrubber.also(&first);
    scrubber.push(b"ond", &mut out);
    scrubber.also(&second);
    scrubber.push(b"-00!", &mut out);
    scrubber.finish(&mut out);
    assert_eq!(out, b"a one-Xv7Lw3TRr8Zk! own-\x01\x02!");
}

/// Bodies made of what a key in some form nearly is, in small pieces: each byte is looked at a bounded number of
/// times, however long the key, and also where another set knows nothing of what is held. (A key that repeats itself
/// may cost more; see the head of `patterns`.)
#[test]
fn near_matches_cost_time_linear_in_their_length() {
    for key_bytes in [40, 4096] {
        let key = unlike_itself(b"Rr8-Zk2/Qm5+Xv7L", key_bytes);
        let [known, other] =
            [key.clone(), unlike_itself(b"Gg3_Hh6:Jj9=Kk4~", key_bytes)].map(|key| set(&[key]));
        let mut units = vec![br"\u00".to_vec(), b"%".to_vec(), b"&#x".to_vec(), b"\0".to_vec()];
        for language in oracle::languages(&key) {
            for way in [0, 1] {
                let form = language.write(|ways| way % ways);
                for part in [&form[..form.len() / 2], &form[..form.len() - 1]] {
                    units.push([part, b"~"].concat());
                }
            }
        }
        for unit in units {
            let body: Vec<u8> = unit.iter().copied().cycle().take(unit.len().max(50_000)).collect();
            let part = &body[..10_000];
            for (own, newer, body, piece) in [
                (&known, None, &body[..], 1),
                (&known, None, &body, 100),
                (&known, None, &body, body.len()),
                (&known, Some(&other), part, 1),
                (&other, Some(&known), part, 1),
            ] {
                let (mut scrubber, mut out) = (Scrubber::new(Arc::clone(own)), Vec::new());
                newer.into_iter().for_each(|newer| scrubber.also(newer));
                work::taken();
                body.chunks(piece).for_each(|chunk| scrubber.push(chunk, &mut out));
                scrubber.finish(&mut out);
                let (steps, sets) = (work::taken(), 1 + usize::from(newer.is_some()));
                assert!(out == body);
                let (begin, bytes) = (unit[..8.min(unit.len())].escape_ascii(), body.len());
                assert!(
                    steps < 40 * sets * bytes,
                    "{key_bytes}, {begin}, {sets}, {piece}: {steps} for {bytes}"
                );
            }
        }
    }
}

/// A key of these characters, the same each time.
fn unlike_itself(characters: &[u8; 16], bytes: usize) -> Vec<u8> {
    let mut random = 1_u32;
    let mut byte = |_| {
        random = random.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        characters[(random >> 28) as usize]
    };
    (0..bytes).map(&mut byte).collect()
}
