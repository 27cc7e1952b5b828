//! npm: `npm config list --json` says what it uses for everything, its default included: `registry`, and
//! `@scope:registry` of some packages. It leaves tokens out.

use policy::RegistryHost;

use super::machine::{Machine, Output, Question};
use super::place;

const VARIABLES: [&str; 6] = [
    "npm_config_registry",
    "NPM_CONFIG_REGISTRY",
    "npm_config_userconfig",
    "NPM_CONFIG_USERCONFIG",
    "npm_config_globalconfig",
    "NPM_CONFIG_GLOBALCONFIG",
];

pub(super) fn hosts(machine: &Machine) -> Result<Vec<RegistryHost>, String> {
    let reads: Vec<_> =
        machine.home().into_iter().flat_map(|home| [".npmrc", ".nvm"].map(|name| home.join(name))).collect();
    let listed = machine.ask(&Question {
        program: "npm",
        arguments: &["config", "list", "--json", "--long"],
        variables: &VARIABLES,
        set: &[("npm_config_update_notifier", "false")],
        reads: &reads,
        output: Output::Plain,
    });
    match listed {
        Ok(listed) => configured(&listed),
        // Without the client, its variable still says what the user means.
        Err(problem) => {
            let named = VARIABLES.iter().take(2).find_map(|name| machine.variable(name)).ok_or(problem)?;
            Ok(vec![place(named)?])
        }
    }
}

fn configured(listed: &[u8]) -> Result<Vec<RegistryHost>, String> {
    let listed: serde_json::Map<String, serde_json::Value> =
        serde_json::from_slice(listed).map_err(|_| "npm's configuration cannot be read".to_owned())?;
    let named = listed
        .iter()
        .filter(|(key, _)| *key == "registry" || (key.starts_with('@') && key.ends_with(":registry")));
    named.filter_map(|(_, value)| value.as_str()).map(place).collect()
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    #[test]
    fn its_list_names_the_registry_and_those_of_scopes() {
        let listed =
            br#"{"registry": "https://npm.registry.example/", "omit-lockfile-registry-resolved": false,
            "@mine:registry": "http://own.registry.example:4873/", "replace-registry-host": "x"}"#;
        let found = configured(listed).unwrap();
        let names: Vec<_> = found.iter().map(|host| (host.host.as_str(), host.port)).collect();
        assert_eq!(names, [("own.registry.example", 4873), ("npm.registry.example", 443)]);
        assert!(configured(b"npm ERR!").is_err());
    }

    #[test]
    fn npm_itself_tells_what_a_file_says() {
        if !super::super::can_run("npm", &["--version"]) {
            return;
        }
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("npmrc");
        let text = "registry=https://mirror.registry.example/npm/\n//mirror.registry.example/npm/:_authToken=tok3n\n";
        std::fs::write(&file, text).unwrap();
        let path = std::env::var("PATH").unwrap();
        let home = folder.path().to_str().unwrap();
        let variables =
            [("PATH", path.as_str()), ("HOME", home), ("npm_config_userconfig", file.to_str().unwrap())];
        let found = hosts(&Machine::new(&variables, Path::new("/"))).unwrap();
        assert_eq!(
            found.iter().map(|host| host.host.as_str()).collect::<Vec<_>>(),
            ["mirror.registry.example"]
        );
        let found = hosts(&Machine::new(&[("PATH", &path), ("HOME", home)], Path::new("/"))).unwrap();
        assert_eq!(found.len(), 1, "its default is compiled in");
        let variables = [("HOME", home), ("npm_config_registry", "https://variable.registry.example/")];
        assert_eq!(
            hosts(&Machine::new(&variables, Path::new("/"))).unwrap()[0].host,
            "variable.registry.example"
        );
    }
}
