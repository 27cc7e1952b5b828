//! Rules that are replaced while others decide by them.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use policy::{Facts, Live, PolicyError, Ruleset, decide};

/// The allow rule and the credential are named after the generation that this will be.
fn rules(generation: u64) -> Ruleset {
    let text = format!(
        "version = 1\n[[allow]]\nid = \"g{generation}\"\nhost = \"a.example\"\ncredential = \"K{generation}\"\n"
    );
    Ruleset::parse(&text, "policy.toml").unwrap()
}

#[test]
fn deciders_never_see_a_mix_of_two_loads() {
    const SWAPS: u64 = 10_000;
    let live = Live::new(rules(1));
    let over = AtomicBool::new(false);
    let decide_on = || {
        let facts = Facts::parse("GET https://a.example/").unwrap();
        let (mut newest, mut decisions) = (0, 0u64);
        loop {
            let last = over.load(Ordering::SeqCst);
            let rules = live.current();
            let verdict = decide(&rules, &facts);
            let generation = verdict.generation;
            assert_eq!(verdict.rule.unwrap().id, format!("g{generation}"));
            assert_eq!(verdict.credential.unwrap(), format!("K{generation}"));
            assert!(generation >= newest, "an older policy came back");
            newest = generation;
            decisions += 1;
            if last {
                return (newest, decisions);
            }
        }
    };
    thread::scope(|scope| {
        let deciders: Vec<_> = (0..4).map(|_| scope.spawn(decide_on)).collect();
        for swap in 1..=SWAPS {
            // Every other one fails to load, and must leave no trace.
            let broken = live.load(|| Ruleset::parse("version = 1\n[[allow]]\n", "policy.toml"));
            assert!(broken.is_err());
            assert_eq!(live.load(|| Ok::<_, PolicyError>(rules(swap + 1))).unwrap(), swap + 1);
        }
        over.store(true, Ordering::SeqCst);
        for decider in deciders {
            let (newest, decisions) = decider.join().unwrap();
            assert_eq!(newest, SWAPS + 1);
            assert!(decisions > 0);
        }
    });
}

#[test]
fn loads_at_the_same_time_get_generations_of_their_own() {
    let live = Live::default();
    thread::scope(|scope| {
        let loaders: Vec<_> = (0..4)
            .map(|_| scope.spawn(|| (0..100).map(|_| live.replace(rules(0))).collect::<Vec<_>>()))
            .collect();
        let mut all: Vec<u64> = loaders.into_iter().flat_map(|loader| loader.join().unwrap()).collect();
        all.sort_unstable();
        assert_eq!(all, (2..=401).collect::<Vec<_>>());
    });
    assert_eq!(live.current().generation(), 401);
}

#[test]
fn what_does_not_load_is_told_and_changes_nothing() {
    let live = Live::new(rules(1));
    let facts = Facts::parse("GET https://a.example/").unwrap();
    let error = live.load(|| Ruleset::parse("version = 1\n[[allow]]\n", "new.toml")).unwrap_err();
    assert_eq!(live.last_error().unwrap().as_ref(), error.to_string());
    assert!(error.to_string().contains("new.toml:2"), "{error}");
    let verdict = decide(&live.current(), &facts).generation;
    assert_eq!(verdict, 1);
    assert_eq!(live.replace(rules(2)), 2);
    assert_eq!(live.last_error(), None);
}

#[test]
fn whoever_holds_the_old_rules_keeps_them() {
    let live = Live::new(rules(1));
    let old = live.current();
    live.replace(Ruleset::empty());
    let facts = Facts::parse("GET https://a.example/").unwrap();
    assert!(decide(&old, &facts).is_allowed());
    assert!(!decide(&live.current(), &facts).is_allowed());
}

#[test]
fn the_generation_is_in_text_and_json_of_every_verdict() {
    let live = Live::new(rules(1));
    live.replace(rules(2));
    for line in ["GET https://a.example/", "GET https://b.example/", "GET https://A.example/"] {
        let (rules, facts) = (live.current(), Facts::parse(line).unwrap());
        let verdict = decide(&rules, &facts);
        assert_eq!(serde_json::to_value(verdict).unwrap()["generation"], 2);
        let text = verdict.explain(&facts).to_string();
        assert!(text.ends_with(" (policy generation 2)"), "{text}");
    }
}

#[test]
fn reading_the_current_rules_allocates_nothing() {
    let live = Live::new(rules(1));
    let facts = Facts::parse("GET https://a.example/").unwrap();
    // The first read of a thread registers it.
    let _ = live.current();
    let counted = allocation_counter::measure(|| {
        let rules = live.current();
        let _ = std::hint::black_box(decide(&rules, &facts));
    });
    assert_eq!(counted.count_total, 0);
}
