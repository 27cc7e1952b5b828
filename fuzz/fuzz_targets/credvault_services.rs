//! Tables of services: a text is read whole or refused, and what is read can be bound and keeps to its own hosts.

#![no_main]

use credvault::{HostPattern, Scheme, Secret, Services, Target, Vault, os_random};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    let services = match Services::parse(text) {
        Ok(services) => services,
        Err(error) => {
            assert!(!error.to_string().is_empty());
            return;
        }
    };
    for service in services.iter() {
        let binding = service.binding.clone();
        for endpoint in &binding.endpoints {
            assert!(endpoint.port > 0 && !endpoint.hosts.is_empty());
            // Written as it was read: nothing is made canonical on the way.
            assert!(
                endpoint
                    .hosts
                    .iter()
                    .all(|host| host.to_string().parse::<HostPattern>().as_ref() == Ok(host))
            );
        }
        let value = Secret::new(b"AKIDEXAMPLEEXAMPLE:wJalrXUtnFEMI/K7MDENG".to_vec());
        let mut builder = Vault::builder();
        if builder.bind(binding.clone(), value, &mut os_random).is_err() {
            continue;
        }
        let vault = builder.build();
        for host in ["api.example.com", "127.0.0.1", "evil.example"] {
            let target = Target { scheme: Scheme::Https, host, port: 443, method: "GET", path: "/v1" };
            let is_bound = binding.endpoint(&target).is_some();
            let mut headers: Vec<(Vec<u8>, Vec<u8>)> = Vec::new();
            let outcome = vault.inject(&target, &mut headers);
            assert!(is_bound || outcome.is_ok_and(|outcome| outcome.credential.is_none()), "{host}");
        }
    }
});
