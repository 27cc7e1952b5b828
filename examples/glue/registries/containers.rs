//! Docker and Podman: `daemon.json` (`registry-mirrors`, `insecure-registries`) and `registries.conf` (search list,
//! registries and their mirrors). The registry that is compiled into both is not told by either: pulling from it
//! also takes a host for tokens and one for layers, which only its own answers name.

use policy::{RegistryHost, Scheme};
use toml::de::{DeTable, DeValue};

use super::machine::Machine;
use super::{place, place_at, utf8};

pub(super) fn hosts(machine: &Machine) -> Result<Vec<RegistryHost>, String> {
    let mut hosts = Vec::new();
    let user = machine.config_home();
    let daemons = user.iter().map(|folder| folder.join("docker/daemon.json"));
    for path in daemons.chain([machine.system("etc/docker/daemon.json")]) {
        if let Some(text) = machine.read(&path)? {
            hosts.extend(docker(&text)?);
        }
    }
    // The user's file is read in place of the system's; parts are added to either.
    let own = user.iter().map(|folder| folder.join("containers/registries.conf")).find(|path| path.exists());
    let mut files = vec![own.unwrap_or_else(|| machine.system("etc/containers/registries.conf"))];
    files.extend(machine.list(&machine.system("etc/containers/registries.conf.d"), "conf"));
    if let Some(folder) = &user {
        files.extend(machine.list(&folder.join("containers/registries.conf.d"), "conf"));
    }
    for path in files {
        if let Some(text) = machine.read(&path)? {
            hosts.extend(podman(utf8(&text)?)?);
        }
    }
    match hosts.is_empty() {
        true => {
            Err("neither daemon.json nor registries.conf names a registry or a mirror, and the one that is \
                     compiled in is not told by Docker or Podman"
                .to_owned())
        }
        false => Ok(hosts),
    }
}

fn docker(text: &[u8]) -> Result<Vec<RegistryHost>, String> {
    let text: serde_json::Value =
        serde_json::from_slice(text).map_err(|_| "daemon.json is not JSON".to_owned())?;
    let list = |key: &str| {
        let list = text.get(key).and_then(|list| list.as_array()).into_iter().flatten();
        list.filter_map(|item| item.as_str().map(str::to_owned)).collect::<Vec<_>>()
    };
    let mut hosts = list("registry-mirrors").iter().map(|url| place(url)).collect::<Result<Vec<_>, _>>()?;
    // Networks in it say how to speak to hosts that are named elsewhere.
    for registry in list("insecure-registries").iter().filter(|registry| !registry.contains('/')) {
        hosts.extend(both_schemes(registry)?);
    }
    Ok(hosts)
}

fn podman(text: &str) -> Result<Vec<RegistryHost>, String> {
    let table = DeTable::parse(text).map_err(|_| "registries.conf is not TOML".to_owned())?;
    let table = table.get_ref();
    let mut hosts = Vec::new();
    for item in array(table, "unqualified-search-registries") {
        hosts.push(registry_at(item.as_str().unwrap_or_default())?);
    }
    for registry in array(table, "registry").filter_map(DeValue::as_table) {
        if flag(registry, "blocked") {
            continue;
        }
        let mirrors = array(registry, "mirror").filter_map(DeValue::as_table);
        for place in std::iter::once(registry).chain(mirrors) {
            // A prefix with a star says how other names are rewritten, and is no server itself.
            let named = text_of(place, "location").or_else(|| text_of(place, "prefix"));
            let Some(named) = named.filter(|named| !named.contains('*')) else { continue };
            match flag(place, "insecure") {
                true => hosts.extend(both_schemes(host_of(named))?),
                false => hosts.push(registry_at(named)?),
            }
        }
    }
    Ok(hosts)
}

/// A client that need not check certificates tries both.
fn both_schemes(registry: &str) -> Result<[RegistryHost; 2], String> {
    Ok([place_at(Scheme::Https, registry)?, place_at(Scheme::Http, registry)?])
}

/// `host[:port][/namespace…]`
fn registry_at(location: &str) -> Result<RegistryHost, String> {
    place_at(Scheme::Https, host_of(location))
}

fn host_of(location: &str) -> &str {
    location.split('/').next().unwrap_or_default()
}

fn array<'v, 't>(table: &'v DeTable<'t>, key: &str) -> impl Iterator<Item = &'v DeValue<'t>> {
    let list = table.get(key).and_then(|value| value.get_ref().as_array());
    list.into_iter().flat_map(|list| list.iter()).map(|item| item.get_ref())
}

fn text_of<'v>(table: &'v DeTable<'_>, key: &str) -> Option<&'v str> {
    table.get(key).and_then(|value| value.get_ref().as_str())
}

fn flag(table: &DeTable<'_>, key: &str) -> bool {
    table.get(key).and_then(|value| value.get_ref().as_bool()).unwrap_or(false)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mirrors_and_registries_of_both_files_are_named() {
        let root = tempfile::tempdir().unwrap();
        let write = |path: &str, text: &str| {
            let path = root.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        };
        let machine = Machine::new(&[("HOME", root.path().to_str().unwrap())], root.path());
        assert!(hosts(&machine).unwrap_err().contains("daemon.json"));
        write(
            "etc/docker/daemon.json",
            r#"{"registry-mirrors": ["https://d.registry.example"],
                "insecure-registries": ["i.registry.example:5000", "10.0.0.0/8"]}"#,
        );
        write(
            "etc/containers/registries.conf",
            "unqualified-search-registries = [\"s.registry.example\"]\n\
             [[registry]]\nprefix = \"p.registry.example/ns\"\nlocation = \"l.registry.example:8443/ns\"\n\
             [[registry.mirror]]\nlocation = \"m.registry.example/x\"\ninsecure = true\n\
             [[registry]]\nlocation = \"blocked.registry.example\"\nblocked = true\n\
             [[registry]]\nprefix = \"*.wild.example\"\n",
        );
        write("etc/containers/registries.conf.d/a.conf", "[[registry]]\nlocation = \"a.registry.example\"\n");
        let found = hosts(&machine).unwrap();
        let named: Vec<_> =
            found.iter().map(|h| format!("{}://{}:{}", h.scheme.as_str(), h.host, h.port)).collect();
        let expected = [
            "https://d.registry.example:443",
            "https://i.registry.example:5000",
            "http://i.registry.example:5000",
            "https://s.registry.example:443",
            "https://l.registry.example:8443",
            "https://m.registry.example:443",
            "http://m.registry.example:80",
            "https://a.registry.example:443",
        ];
        assert_eq!(named, expected);
        write(
            ".config/containers/registries.conf",
            "unqualified-search-registries = [\"u.registry.example\"]\n",
        );
        let found = hosts(&machine).unwrap();
        assert!(found.iter().any(|host| host.host == "u.registry.example"));
        assert!(!found.iter().any(|host| host.host == "s.registry.example"));
    }
}
