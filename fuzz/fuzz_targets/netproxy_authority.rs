//! Texts of `host:port`: what is accepted has one canonical text, which means the same and stays the same.

#![no_main]

use libfuzzer_sys::fuzz_target;
use netproxy::{Authority, Host};

fuzz_target!(|text: &str| {
    for default_port in [None, Some(443)] {
        let parsed = Authority::parse(text, default_port);
        let upper = Authority::parse(&text.to_ascii_uppercase(), default_port);
        assert_eq!(parsed.as_ref().ok(), upper.as_ref().ok(), "case makes a difference");
        let Ok(authority) = parsed else { continue };
        assert_ne!(authority.port(), 0);
        assert_eq!(Authority::parse(&authority.to_string(), None).as_ref(), Ok(&authority));
        assert_eq!(Authority::parse(&authority.host_header(443), Some(443)).as_ref(), Ok(&authority));
        assert_eq!(Host::parse(&authority.host().to_string()).as_ref(), Ok(authority.host()));
        assert_eq!(Authority::new(authority.host().clone(), authority.port()).as_ref(), Ok(&authority));
        check_host(authority.host());
    }
    if let Ok(host) = Host::parse(text) {
        check_host(&host);
    }
});

fn check_host(host: &Host) {
    match host {
        Host::Name(name) => {
            let name = name.as_str();
            assert!((1..=253).contains(&name.len()));
            assert!(name.split('.').all(|label| (1..=63).contains(&label.len())));
            assert!(name.bytes().all(|byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'.')));
            // What a lenient resolver (inet_aton) would take for an address: its last part is a number.
            let last = name.rsplit('.').next().unwrap();
            let digits = last.strip_prefix("0x").unwrap_or(last);
            let radix = if digits.len() == last.len() { 10 } else { 16 };
            assert!(!digits.chars().all(|c| c.is_digit(radix)), "{name} can be taken for a number");
        }
        Host::Ip(ip) => assert_eq!(ip.to_canonical(), *ip, "IPv4 inside IPv6"),
    }
}
