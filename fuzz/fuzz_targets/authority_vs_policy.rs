//! Whatever `netproxy` takes for a host and a port, `policy` takes for canonical facts; and a name that both
//! accept is the same name.

#![no_main]

use libfuzzer_sys::fuzz_target;
use netproxy::Authority;
use policy::{Facts, Scheme};

fuzz_target!(|text: &str| {
    if let Ok(authority) = Authority::parse(text, Some(443)) {
        let host = match authority.host() {
            netproxy::Host::Name(name) => policy::Host::Name(name.as_str()),
            netproxy::Host::Ip(ip) => policy::Host::Ip(*ip),
        };
        let port = authority.port();
        for facts in [
            Facts::connect(host, port),
            Facts::tcp(host, port),
            Facts::http(Scheme::Https, host, port, "GET", "/"),
        ] {
            assert_eq!(facts.check(), Ok(()), "{authority}");
        }
        if let policy::Host::Name(name) = host {
            assert_eq!(Facts::dns(name).check(), Ok(()));
        }
    }
    // The other way round: a name that is canonical for the policy is never changed by the proxy.
    if Facts::dns(text).check().is_ok() {
        match netproxy::Host::parse(text) {
            Ok(netproxy::Host::Name(name)) => assert_eq!(name.as_str(), text),
            Ok(netproxy::Host::Ip(ip)) => panic!("the name {text} became the address {ip}"),
            Err(_) => {}
        }
    }
});
