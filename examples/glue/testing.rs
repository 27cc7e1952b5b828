//! What several tests need.

use netproxy::{Host, HostName};
use policy::ask::Question;
use policy::{Facts, Ruleset};

/// Of a request that no rule decides, as a policy's test writes it.
pub fn question(line: &str) -> Question {
    Question::about(&Ruleset::empty(), &Facts::parse(line).unwrap()).unwrap()
}

pub fn host_name(text: &str) -> HostName {
    let Ok(Host::Name(name)) = Host::parse(text) else { panic!("{text}") };
    name
}
