//! A path that `netproxy` sends is canonical for `policy`; and one that `policy` takes for canonical is never
//! changed by `netproxy` but for bytes that `policy` reads as it reads their encoding. So what was judged is what
//! is sent.

#![no_main]

use libfuzzer_sys::fuzz_target;
use netproxy::wire::path::CanonicalPath;
use policy::{Facts, Fault, Host, Ruleset, Scheme, decide};

fuzz_target!(|text: &str| {
    let facts = |path| Facts::http(Scheme::Https, Host::Name("a.example"), 443, "GET", path);
    let Ok(sent) = CanonicalPath::parse(text) else { return };
    match facts(sent.as_str()).check() {
        Ok(()) => {}
        Err(Fault::PathLong) => assert!(sent.as_str().len() > policy::limits::PATH_BYTES_MAX),
        Err(fault) => panic!("{sent}: {fault}"),
    }
    if facts(text).check().is_ok() && sent.as_str() != text {
        let odd = |c: &char| "\"<>[]^`{|}".contains(*c);
        assert!(text.contains(|c| odd(&c)), "{text} became {sent}");
        let rules = RULES.get_or_init(|| Ruleset::parse(POLICY, "policy.toml").unwrap());
        let (before, after) =
            (decide(rules, &facts(text)).effect, decide(rules, &facts(sent.as_str())).effect);
        assert_eq!(before, after, "{text} and {sent}");
    }
});

static RULES: std::sync::OnceLock<Ruleset> = std::sync::OnceLock::new();
const POLICY: &str = "version = 1\n[[allow]]\nhost = \"**\"\n\
     [[deny]]\nhost = \"**\"\npaths = [\"/a%7Cb/**\", \"/*%5E\", \"/**/%5Bx%5D\", \"/a*b\"]\n";
