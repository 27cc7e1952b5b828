//! Keys that say more than whether: queries, times, ceilings, includes, registries, and what a verdict passes on.

use policy::{
    Cause, Facts, Field, Included, Includes, OnOpaque, Registry, RegistryHost, RegistryHosts, Ruleset,
    RulesetBuilder, Scheme, decide,
};

fn rules(text: &str) -> Ruleset {
    Ruleset::parse(&format!("version = 1\n{text}"), "p.toml").unwrap_or_else(|error| panic!("{error}"))
}

fn allows(rules: &Ruleset, line: &str) -> bool {
    decide(rules, &Facts::parse(line).unwrap()).is_allowed()
}

#[test]
fn an_allow_rule_names_every_query_key_that_may_be_there() {
    let rules = rules("[[allow]]\nhost = \"a.test\"\nquery = [\"q\", \"page\"]");
    for (query, allowed) in [
        ("", true),
        ("?q=1", true),
        ("?q=1&page=2&q=3", true),
        ("?q", true),
        ("?q=1&admin=1", false),
        ("?Q=1", false),
        ("?q=1;admin=1", false),
        ("?%71=1", false),
        ("?=1", false),
    ] {
        assert_eq!(allows(&rules, &format!("GET https://a.test/x{query}")), allowed, "{query}");
    }
    let unknown = Facts::http(Scheme::Https, policy::Host::Name("a.test"), 443, "GET", "/x");
    let verdict = decide(&rules, &unknown);
    assert_eq!(verdict.nearest_miss.map(|miss| miss.field), Some(Field::Query));
}

#[test]
fn a_deny_rule_finds_a_query_key_however_it_is_written() {
    let rules = rules("[[allow]]\nhost = \"a.test\"\n[[deny]]\nhost = \"a.test\"\nquery = [\"admin\"]");
    for (query, allowed) in [
        ("?q=admin", true),
        ("?admin=1", false),
        ("?ADMIN=1", false),
        ("?q=1&%61dmin=1", false),
        ("?q=1;admin", false),
    ] {
        assert_eq!(allows(&rules, &format!("GET https://a.test/x{query}")), allowed, "{query}");
    }
}

#[test]
fn a_rule_that_is_over_allows_nothing_and_neither_does_one_without_a_clock() {
    let rules = rules("[[allow]]\nhost = \"a.test\"\nexpires = \"2027-01-01T00:00:00Z\"");
    let facts = Facts::parse("GET https://a.test/").unwrap();
    let over = 1_798_761_600;
    assert!(decide(&rules, &facts.at(over - 1)).is_allowed());
    for late in [facts.at(over), facts.at(over + 1), facts] {
        let verdict = decide(&rules, &late);
        assert!(!verdict.is_allowed());
        assert_eq!(verdict.nearest_miss.map(|miss| miss.field), Some(Field::Expires));
    }
    let deny = "version = 1\n[[deny]]\nhost = \"a.test\"\nexpires = \"2027-01-01T00:00:00Z\"";
    assert!(Ruleset::parse(deny, "p.toml").is_err(), "a deny that ends by itself");
}

#[test]
fn a_verdict_passes_on_what_its_rule_says() {
    let rules = rules(
        "[[allow]]\nhost = \"a.test\"\nupstream = \"corp\"\non_opaque = \"pass\"\n\
         limits = { requests_per_s = 5, request_body_bytes = 1000, connections = 2 }",
    );
    let verdict = decide(&rules, &Facts::parse("GET https://a.test/").unwrap());
    assert_eq!((verdict.upstream, verdict.on_opaque), (Some("corp"), OnOpaque::Pass));
    let limits = verdict.limits;
    assert_eq!(
        (limits.requests_per_s, limits.request_body_bytes, limits.connections),
        (Some(5), Some(1000), Some(2))
    );
    let denied = decide(&rules, &Facts::parse("GET https://b.test/").unwrap());
    assert_eq!((denied.upstream, denied.on_opaque), (None, OnOpaque::Refuse));
}

#[test]
fn a_ceiling_bounds_what_other_layers_allow_and_allows_nothing_itself() {
    let ceiling = "version = 1\nceiling = true\n[[allow]]\nhost = \"**.corp.test\"\nmethods = [\"GET\"]\n\
                   limits = { requests_per_s = 3 }";
    let own =
        "version = 1\n[[allow]]\nhost = [\"a.corp.test\", \"other.test\"]\nlimits = { requests_per_s = 9 }";
    let both = RulesetBuilder::new().source(ceiling, "org.toml").unwrap().source(own, "own.toml").unwrap();
    let (alone, both) = (RulesetBuilder::new().source(ceiling, "org.toml").unwrap().build(), both.build());
    assert!(!allows(&alone, "GET https://a.corp.test/"));
    let facts = Facts::parse("GET https://a.corp.test/").unwrap();
    let verdict = decide(&both, &facts);
    assert_eq!((verdict.layer, verdict.limits.requests_per_s), (Some("own.toml"), Some(3)));
    for (outside, miss) in
        [("POST https://a.corp.test/", Some(Field::Method)), ("GET https://other.test/", None)]
    {
        let verdict = decide(&both, &Facts::parse(outside).unwrap());
        assert_eq!((verdict.cause, verdict.layer), (Cause::Ceiling, Some("org.toml")), "{outside}");
        assert_eq!(verdict.nearest_miss.map(|miss| miss.field), miss);
    }
}

struct Files;

impl Includes for Files {
    fn read(&self, _: &str, wanted: &str) -> Result<Included, String> {
        let text = match wanted {
            "common" => "version = 1\n[[allow]]\nid = \"common\"\nhost = \"c.test\"",
            "loop" => "version = 1\ninclude = [\"loop\"]",
            "ceiling" => "version = 1\nceiling = true",
            _ => return Err("there is no such file".to_owned()),
        };
        Ok(Included { name: wanted.to_owned(), text: text.to_owned() })
    }
}

#[test]
fn an_included_file_counts_as_part_of_its_layer() {
    let load = |wanted: &str| {
        let text = format!("version = 1\ninclude = [\"{wanted}\", \"{wanted}\"]");
        RulesetBuilder::new().includes(Files).source(&text, "own.toml").map(RulesetBuilder::build)
    };
    let rules = load("common").unwrap();
    let verdict = decide(&rules, &Facts::parse("GET https://c.test/").unwrap());
    let rule = verdict.rule.unwrap();
    assert_eq!((rule.id, rule.file, rule.layer), ("common", "common", "own.toml"));
    for (wanted, problem) in [("loop", "includes itself"), ("ceiling", "`ceiling`"), ("no", "no such file")] {
        assert!(load(wanted).unwrap_err().to_string().contains(problem), "{wanted}");
    }
    assert!(Ruleset::parse("version = 1\ninclude = [\"common\"]", "p").is_err(), "nobody reads files here");
}

struct Mirror;

impl RegistryHosts for Mirror {
    fn hosts(&self, registry: Registry) -> Result<Vec<RegistryHost>, String> {
        match registry {
            Registry::Pip => Ok(vec![
                RegistryHost { scheme: Scheme::Https, host: "index.mirror.test".to_owned(), port: 443 },
                RegistryHost { scheme: Scheme::Http, host: "files.mirror.test".to_owned(), port: 8080 },
            ]),
            _ => Err("its client is not set up".to_owned()),
        }
    }
}

#[test]
fn the_hosts_of_a_registry_are_those_of_the_machines_own_client() {
    let load = |name: &str| {
        let text = format!("version = 1\n[[allow]]\nid = \"py\"\nregistry = \"{name}\"\nmethods = [\"GET\"]");
        RulesetBuilder::new().registry_hosts(Mirror).source(&text, "p.toml").map(RulesetBuilder::build)
    };
    let rules = load("pip").unwrap();
    assert!(allows(&rules, "GET https://index.mirror.test/simple/"));
    assert!(allows(&rules, "GET http://files.mirror.test:8080/x"));
    for refused in
        ["POST https://index.mirror.test/", "GET http://index.mirror.test/", "GET https://files.mirror.test/"]
    {
        assert!(!allows(&rules, refused), "{refused}");
    }
    assert!(load("npm").unwrap_err().to_string().contains("not set up"));
    assert!(load("gems").is_err());
    assert!(Ruleset::parse("version = 1\n[[allow]]\nregistry = \"pip\"", "p").is_err(), "nobody knows them");
}
