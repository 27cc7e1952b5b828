//! Where this machine's package clients get their packages (`registry = "pip"` in a policy): from their own
//! configuration, or from themselves where that says nothing. No registry's name is written here or in a preset: users
//! have mirrors, and a name that is written down is allowed also where nobody uses it.
//!
//! One module per client. Each says which files and variables it reads and what it asks; none of them writes
//! anything outside of a folder of its own. Two (pip, cargo) let the client make one request to its registry, since
//! only the registry knows from where packages are downloaded.

mod apt;
mod cargo;
mod containers;
mod go;
mod machine;
mod maven;
mod npm;
mod pip;

use policy::{Registry, RegistryHost, RegistryHosts, Scheme};

pub use machine::Machine;

/// Reads the hosts of a registry when a policy asks for them.
#[derive(Debug, Clone)]
pub struct ClientConfigs(pub Machine);

impl RegistryHosts for ClientConfigs {
    fn hosts(&self, registry: Registry) -> Result<Vec<RegistryHost>, String> {
        self.0.remember(registry, || ask(&self.0, registry)).map_err(|problem| {
            format!(
                "{problem}; or write the hosts yourself: host = [\"…\"] in place of registry = \"{registry}\""
            )
        })
    }
}

fn ask(machine: &Machine, registry: Registry) -> Result<Vec<RegistryHost>, String> {
    let hosts = match registry {
        Registry::Pip => pip::hosts(machine),
        Registry::Npm => npm::hosts(machine),
        Registry::Cargo => cargo::hosts(machine),
        Registry::Apt => apt::hosts(machine),
        Registry::Go => go::hosts(machine),
        Registry::Maven => maven::hosts(machine),
        Registry::Containers => containers::hosts(machine),
        _ => Err("this program does not know this client".to_owned()),
    }?;
    if hosts.is_empty() { Err("its configuration names no server".to_owned()) } else { Ok(hosts) }
}

/// Scheme, host and port of a URL. What a configuration may hide in one (a user, a password, a path) goes nowhere, also
/// not into the error.
fn place(url: &str) -> Result<RegistryHost, String> {
    let (scheme, rest) = url.trim().split_once("://").unwrap_or_default();
    let scheme = match scheme.to_ascii_lowercase().as_str() {
        "https" => Scheme::Https,
        "http" => Scheme::Http,
        _ => return Err("its configuration names a server that is not reached by https or http".to_owned()),
    };
    let authority = rest.split(['/', '?', '#', '\\']).next().unwrap_or_default();
    let authority = authority.rsplit_once('@').map_or(authority, |(_, after)| after);
    place_at(scheme, authority)
}

/// `host` or `host:port`.
fn place_at(scheme: Scheme, authority: &str) -> Result<RegistryHost, String> {
    let parsed = netproxy::Authority::parse(authority, scheme.default_port());
    let parsed = parsed.map_err(|error| format!("its configuration names a server that is none: {error}"))?;
    match parsed.host() {
        netproxy::Host::Name(name) => {
            Ok(RegistryHost { scheme, host: name.as_str().to_owned(), port: parsed.port() })
        }
        netproxy::Host::Ip(address) => Err(format!(
            "its configuration names the address {address}, which needs a rule with cidr = \"…\""
        )),
    }
}

/// Text that has to be UTF-8, as all these configurations are.
fn utf8(text: &[u8]) -> Result<&str, String> {
    std::str::from_utf8(text).map_err(|_| "its configuration is not UTF-8".to_owned())
}

/// What tests look at.
#[cfg(test)]
fn names(hosts: &[RegistryHost]) -> Vec<&str> {
    hosts.iter().map(|host| host.host.as_str()).collect()
}

/// Whether a test can ask the client itself; else it says that it cannot.
#[cfg(test)]
fn can_run(program: &str, arguments: &[&str]) -> bool {
    use std::io::Write as _;

    let runs = std::process::Command::new(program).args(arguments).current_dir("/").output();
    let runs = runs.is_ok_and(|output| output.status.success());
    if !runs {
        let _ = writeln!(std::io::stdout(), "\nSKIPPED: {program} is not installed, so it was not asked");
    }
    runs
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_a_url_only_scheme_host_and_port_are_kept() {
        for (url, expected) in [
            ("https://Packages.Example/simple/", (Scheme::Https, "packages.example", 443)),
            ("http://user:p%40ss@packages.example:8081/a@b", (Scheme::Http, "packages.example", 8081)),
            ("HTTPS://packages.example?x", (Scheme::Https, "packages.example", 443)),
        ] {
            let found = place(url).unwrap();
            assert_eq!((found.scheme, found.host.as_str(), found.port), expected, "{url}");
        }
        for bad in [
            "packages.example",
            "ssh://packages.example",
            "https://",
            "https://:tok3n@/",
            "https://u:tok3n@10.0.0.1/",
        ] {
            let error = place(bad).unwrap_err();
            assert!(!error.contains("tok3n"), "{error}");
        }
    }

    #[test]
    fn a_client_is_asked_until_it_has_answered_once() {
        let root = tempfile::tempdir().unwrap();
        let sources = root.path().join("etc/apt/sources.list");
        let configs = ClientConfigs(Machine::new(&[], root.path()));
        assert!(configs.hosts(Registry::Apt).is_err());
        std::fs::create_dir_all(sources.parent().unwrap()).unwrap();
        std::fs::write(&sources, "deb http://one.registry.example/ x main\n").unwrap();
        let first = configs.clone().hosts(Registry::Apt).unwrap();
        std::fs::write(&sources, "deb http://two.registry.example/ x main\n").unwrap();
        assert_eq!(configs.hosts(Registry::Apt).unwrap(), first);
        let fresh = ClientConfigs(Machine::new(&[], root.path()));
        assert_ne!(fresh.hosts(Registry::Apt).unwrap(), first);
    }

    #[test]
    fn an_error_says_what_to_write_instead() {
        let root = tempfile::tempdir().unwrap();
        let configs = ClientConfigs(Machine::new(&[], root.path()));
        for registry in Registry::ALL {
            let error = configs.hosts(registry).unwrap_err();
            assert!(error.contains("host = [\"…\"]"), "{registry}: {error}");
        }
    }
}
