//! Rule sets made in code and of several files.

use policy::{Facts, Mode, PolicyError, Rule, Ruleset, RulesetBuilder, decide};

const USER: &str = "version = 1\n[[allow]]\nid = \"user\"\nhost = \"**.example.com\"\n";
const ORGANISATION: &str = "version = 1\n[[deny]]\nid = \"org\"\nhost = \"paste.example.com\"\n";

fn allowed(rules: &Ruleset, line: &str) -> bool {
    decide(rules, &Facts::parse(line).unwrap()).is_allowed()
}

#[test]
fn a_rule_made_in_code_decides_and_says_where_it_comes_from() {
    let rule = Rule::allow()
        .id("secret")
        .host("api.example.com")
        .port(8443)
        .credential("KEY")
        .origin("--secret KEY@api");
    let rules = RulesetBuilder::new().rule(rule).unwrap().generation(7).build();
    let facts = Facts::parse("GET https://api.example.com:8443/").unwrap();
    let verdict = decide(&rules, &facts);
    assert!(verdict.is_allowed());
    assert_eq!((verdict.credential, verdict.generation), (Some("KEY"), 7));
    assert_eq!(
        verdict.explain(&facts).to_string(),
        format!("allowed: {facts}: rule \"secret\" (--secret KEY@api) (policy generation 7)")
    );
    assert!(!allowed(&rules, "GET https://api.example.com/"));
    assert_eq!(rules.credentials().collect::<Vec<_>>(), ["KEY"]);
}

#[test]
fn a_bad_rule_made_in_code_is_refused() {
    let error = RulesetBuilder::new().rule(Rule::allow().host("1.2.3.4").origin("--allow")).unwrap_err();
    assert!(matches!(error, PolicyError::Value { key: "host", .. }));
    assert!(
        error.to_string().starts_with("--allow: host = \"1.2.3.4\": an address is not a host name"),
        "{error}"
    );
    assert!(RulesetBuilder::new().rule(Rule::allow()).is_err());
}

#[test]
fn a_deny_in_any_layer_wins() {
    for layers in [[(USER, "user"), (ORGANISATION, "org")], [(ORGANISATION, "org"), (USER, "user")]] {
        let rules = Ruleset::from_layers(&layers).unwrap();
        assert!(allowed(&rules, "GET https://www.example.com/"));
        assert!(!allowed(&rules, "GET https://paste.example.com/"));
    }
}

#[test]
fn a_name_given_twice_in_different_layers_is_refused() {
    let error = Ruleset::from_layers(&[(USER, "one"), (USER, "two")]).unwrap_err();
    assert!(matches!(error, PolicyError::DuplicateId { .. }));
    assert!(error.to_string().contains("already at one:2"), "{error}");
}

#[test]
fn rules_without_a_name_get_one_by_place() {
    let text = "version = 1\n[[deny]]\nhost = \"a.x\"\n[[allow]]\nhost = \"b.x\"\n[[allow]]\nid = \"allow-4\"\nhost = \"c.x\"\n[[allow]]\nhost = \"d.x\"\n";
    let rules = Ruleset::parse(text, "p").unwrap();
    let ids: Vec<_> = rules.rules().map(|rule| (rule.id, rule.line)).collect();
    assert_eq!(ids, [("deny-1", 2), ("allow-2", 4), ("allow-4", 6), ("allow-5", 9)]);
}

#[test]
fn a_files_tests_are_about_that_file() {
    let tested = format!(
        "{USER}[[test]]\nrequest = \"GET https://paste.example.com/\"\nexpect = \"allow\"\nrule = \"user\"\n"
    );
    assert!(Ruleset::from_layers(&[(ORGANISATION, "org"), (&tested, "user")]).is_ok());
}

#[test]
fn audit_needs_every_file_to_say_so() {
    let audit = format!("mode = \"audit\"\n{USER}");
    let mode = |layers: &[(&str, &str)]| Ruleset::from_layers(layers).unwrap().mode();
    assert_eq!(mode(&[(&audit, "a")]), Mode::Audit);
    assert_eq!(mode(&[(&audit, "a"), (ORGANISATION, "b")]), Mode::Enforce);
    assert_eq!(mode(&[(ORGANISATION, "b"), (&audit, "a")]), Mode::Enforce);
    assert_eq!(Ruleset::empty().mode(), Mode::Enforce);
}
