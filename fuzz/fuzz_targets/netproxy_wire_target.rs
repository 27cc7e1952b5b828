//! Request targets: what was understood, written anew, is understood as the same.

#![no_main]

use libfuzzer_sys::fuzz_target;
use netproxy::wire::target::Target;

fuzz_target!(|text: &str| {
    let Ok(target) = Target::parse(text) else { return };
    let mut again = String::new();
    if let Some((scheme, authority)) = &target.absolute {
        again += &format!("{}://{authority}", scheme.as_str());
    }
    again += target.path.as_str();
    if let Some(query) = &target.query {
        assert!(text.ends_with(&format!("?{query}")), "the query is not what was sent");
        again += &format!("?{query}");
    }
    assert_eq!(Target::parse(&again).as_ref(), Ok(&target));
    // A path alone never becomes a request to some host.
    assert!(!text.starts_with('/') || target.absolute.is_none());
});
