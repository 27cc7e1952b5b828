//! What a verdict about an address says beyond whether.

use policy::{Cause, Effect, Facts, Host, Ruleset, TlsMode, decide, decide_address, decide_public_address};

const NAME: &str = "version = 1\n[[allow]]\nid = \"name\"\nhost = \"model.test\"\nports = [8443]\n\
                    tls = \"opaque\"\n";
const ADDRESS: &str = "version = 1\n[[allow]]\nid = \"address\"\nhost = \"model.test\"\nports = [8443]\n\
                       cidr = \"127.0.0.0/8\"\ntls = \"opaque\"\n";

fn tunnel() -> Facts<'static> {
    Facts::connect(Host::Name("model.test"), 8443)
}

#[test]
fn the_rule_that_allows_the_address_is_named_with_its_layer() {
    let rules = Ruleset::from_layers(&[(NAME, "names.toml"), (ADDRESS, "addresses.toml")]).unwrap();
    let verdict = decide_address(&rules, &tunnel(), "127.0.0.1".parse().unwrap());
    assert_eq!(verdict.rule.map(|rule| rule.id), Some("address"));
    assert_eq!(verdict.layer, Some("addresses.toml"));
    assert_eq!(decide(&rules, &tunnel()).layer, Some("names.toml"));
    assert_eq!(verdict.tls, TlsMode::Opaque);
}

#[test]
fn a_deny_about_the_address_that_hangs_on_the_method_looks_inside() {
    let deny = "version = 1\n[[deny]]\ncidr = \"127.0.0.0/8\"\nmethods = [\"DELETE\"]\n";
    let rules = Ruleset::from_layers(&[(ADDRESS, "a.toml"), (deny, "b.toml")]).unwrap();
    assert_eq!(decide(&rules, &tunnel()).tls, TlsMode::Opaque);
    assert_eq!(decide_address(&rules, &tunnel(), "127.0.0.1".parse().unwrap()).tls, TlsMode::Inspect);
}

#[test]
fn a_ceiling_that_does_not_allow_the_address_is_the_reason() {
    let ceiling = NAME.replace("version = 1", "version = 1\nceiling = true").replace("\"name\"", "\"bound\"");
    let rules = Ruleset::from_layers(&[(&ceiling, "org.toml"), (ADDRESS, "own.toml")]).unwrap();
    assert!(decide(&rules, &tunnel()).is_allowed());
    let verdict = decide_address(&rules, &tunnel(), "127.0.0.1".parse().unwrap());
    assert_eq!((verdict.effect, verdict.cause), (Effect::Deny, Cause::Ceiling));
    assert_eq!(verdict.layer, Some("org.toml"));
}

#[test]
fn a_refusal_that_is_only_recorded_keeps_its_rule_whatever_the_address() {
    let audit = "version = 1\nmode = \"audit\"\n[[allow]]\nid = \"net\"\nhost = \"model.test\"\n\
                 cidr = \"8.8.8.0/24\"\n[[deny]]\nid = \"no-post\"\nhost = \"model.test\"\nmethods = [\"POST\"]\n";
    let rules = Ruleset::parse(audit, "audit.toml").unwrap();
    let facts = Facts::parse("POST https://model.test/").unwrap();
    let asked = decide(&rules, &facts);
    assert!(asked.would_deny());
    let verdict = decide_public_address(&rules, &facts, "8.8.8.8".parse().unwrap());
    assert!(verdict.would_deny());
    assert_eq!(verdict.rule.map(|rule| rule.id), Some("no-post"));
}

/// What is denied is so by every way there, and what is allowed is what was named.
#[test]
fn a_denied_address_is_denied_by_nat64_too() {
    let text = "version = 1\n\
        [[allow]]\nhost = \"a.example\"\n\
        [[allow]]\ncidr = \"64:ff9b::/96\"\n\
        [[deny]]\ncidr = \"8.8.8.0/24\"\n";
    let rules = Ruleset::parse(text, "a.toml").unwrap();
    for (address, allowed) in [
        ("8.8.8.8", false),
        ("64:ff9b::8.8.8.8", false),
        ("64:ff9b::8.8.4.4", true),
        ("8.8.4.4", true),
        ("64:ff9b:1::8.8.8.8", true),
    ] {
        let ip = address.parse().unwrap();
        let facts = Facts::connect(Host::Name("a.example"), 443);
        assert_eq!(decide_public_address(&rules, &facts, ip).is_allowed(), allowed, "{address}");
        // Asked for as it is; only the second rule allows that.
        let facts = Facts::connect(Host::Ip(ip), 443);
        let named = address.starts_with("64:ff9b::");
        assert_eq!(decide_public_address(&rules, &facts, ip).is_allowed(), allowed && named, "{address}");
    }
}
