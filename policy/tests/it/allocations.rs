//! Deciding allocates nothing, whatever the answer.

use policy::{Facts, Ruleset, decide, decide_address, decide_public_address};

#[test]
fn deciding_allocates_nothing() {
    let cases: toml::Table = toml::from_str(include_str!("../../../testdata/decisions.toml")).unwrap();
    let policies = cases["policies"].as_table().unwrap();
    let ip = "127.0.0.1".parse().unwrap();
    for case in cases["case"].as_array().unwrap() {
        let text = policies[case["policy"].as_str().unwrap()].as_str().unwrap();
        let rules = Ruleset::parse(text, "p").unwrap();
        let facts = Facts::parse(case["request"].as_str().unwrap()).unwrap();
        let facts = case.get("now").map_or(facts, |now| facts.at(now.as_integer().unwrap()));
        let counted = allocation_counter::measure(|| {
            let _ = std::hint::black_box(decide(&rules, &facts));
            let _ = std::hint::black_box(decide_address(&rules, &facts, ip));
            let _ = std::hint::black_box(decide_public_address(&rules, &facts, ip));
        });
        assert_eq!(counted.count_total, 0, "{}", case["name"]);
    }
}
