//! Logins for the guest's tools: `--tools` and the files that come of it. They hold placeholders, never keys.

use std::collections::BTreeSet;
use std::str::FromStr;

use credvault::{GuestFile, Login, Tool, Vault, guest_files};

use crate::keys::{KeyError, SecretSpec};
use crate::services::Chosen;

/// Beside a token, services take any name or this one.
const USER: &str = "x-access-token";

/// One `--tools`: `NAME=TOOL[,TOOL…]`.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ToolsSpec {
    /// Name of the credential.
    pub name: String,
    /// Tools that are logged in with it.
    pub tools: Vec<Tool>,
}

impl FromStr for ToolsSpec {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (name, tools) = text.split_once('=').ok_or("expected NAME=TOOL,…")?;
        // Never repeats what stands there: it could be a key.
        let parse = |tool: &str| tool.parse::<Tool>().map_err(|error| error.to_string());
        if !credvault::is_credential_name(name) {
            return Err("NAME is that of a --secret or --service: letters, digits, - _ and .".to_owned());
        }
        Ok(Self { name: name.to_owned(), tools: tools.split(',').map(parse).collect::<Result<_, _>>()? })
    }
}

/// The files for these tools: each is logged in at every host of its credential, a secret's or a service's.
///
/// # Errors
/// A name that neither has, or a host that cannot stand in such a file.
pub fn files(
    specs: &[ToolsSpec],
    secrets: &[SecretSpec],
    services: &Chosen,
    vault: &Vault,
) -> Result<Vec<GuestFile>, KeyError> {
    let mut logins = Vec::new();
    for spec in specs {
        let problem = |problem: String| KeyError { name: spec.name.clone(), problem };
        let placeholder = vault.placeholder(&spec.name).ok_or_else(unknown)?;
        let places = places(&spec.name, secrets, services);
        if places.is_empty() {
            return Err(problem("--tools: none of its hosts is a whole name to log in at".to_owned()));
        }
        for (host, port) in places {
            let login = Login::new(&host, port, USER, placeholder)
                .map_err(|error| problem(format!("--tools: {error}")))?;
            logins.extend(spec.tools.iter().map(|tool| (tool.clone(), login.clone())));
        }
    }
    Ok(guest_files(&logins))
}

/// What the environment says beside those files: without it, cargo shows no login to a registry that asks for one.
#[must_use]
pub fn variables(specs: &[ToolsSpec]) -> Vec<(String, String)> {
    let registries = specs.iter().flat_map(|spec| &spec.tools).filter_map(|tool| match tool {
        Tool::Cargo(name) => Some(name.to_ascii_uppercase().replace('-', "_")),
        _ => None,
    });
    let names: BTreeSet<_> =
        registries.map(|name| format!("CARGO_REGISTRIES_{name}_CREDENTIAL_PROVIDER")).collect();
    names.into_iter().map(|name| (name, "cargo:token".to_owned())).collect()
}

/// Does not repeat the name: it could be a key.
fn unknown() -> KeyError {
    let problem = "NAME=TOOL,… has a NAME that no --secret and no --service has".to_owned();
    KeyError { name: "of --tools".to_owned(), problem }
}

/// Where the credential of this name goes. A wildcard is no place to log in at.
fn places(name: &str, secrets: &[SecretSpec], services: &Chosen) -> BTreeSet<(String, u16)> {
    let named = secrets.iter().filter(|secret| secret.name == name);
    let named = named.map(|secret| (secret.host.clone(), secret.port));
    let chosen = services.iter().filter(|(spec, _)| spec.name == name);
    let endpoints = chosen.flat_map(|(_, service)| &service.binding.endpoints);
    let known = endpoints.flat_map(|endpoint| {
        endpoint
            .hosts
            .iter()
            .map(|host| (host.to_string(), endpoint.port))
            .filter(|(host, _)| !host.contains('*'))
    });
    named.chain(known).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tool_is_logged_in_at_every_host_of_its_key() {
        let spec = ToolsSpec::from_str("K=git,netrc").unwrap();
        let secrets = ["K=V@a.example", "K=V@b.example:8443"].map(|text| text.parse().unwrap());
        let value = |_: &SecretSpec| {
            let secret = credvault::Secret::new(b"0123456789abcdef".to_vec());
            Ok(crate::keys::Value::Is { secret, not_after_s: None })
        };
        let vault = crate::keys::vault(&secrets, |_| credvault::Injection::replace(), value).unwrap();
        let none = Chosen::new();
        let files = files(&[spec], &secrets, &none, &vault).unwrap();
        let git = &files[0].content;
        assert!(git.contains("https://a.example\"") && git.contains("https://b.example:8443\""), "{git}");
        assert!(!files.iter().any(|file| file.content.contains("0123456789abcdef")));
        let unknown = ToolsSpec::from_str("sk-hunter2=git").unwrap();
        let error = super::files(&[unknown], &secrets, &none, &vault).unwrap_err().to_string();
        assert!(error.contains("no --secret and no --service") && !error.contains("hunter2"), "{error}");
        for bad in ["K", "K=", "K=svn", "K=git,,npm"] {
            assert!(ToolsSpec::from_str(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn cargo_is_told_where_its_logins_are() {
        let specs = ["A=git,cargo:ours", "B=cargo:ours,cargo:x-2"].map(|text| text.parse().unwrap());
        let told = ["CARGO_REGISTRIES_OURS_CREDENTIAL_PROVIDER", "CARGO_REGISTRIES_X_2_CREDENTIAL_PROVIDER"];
        assert_eq!(variables(&specs), told.map(|name| (name.to_owned(), "cargo:token".to_owned())));
        assert!(variables(&specs[..0]).is_empty());
    }

    #[test]
    fn a_tool_is_logged_in_at_every_whole_host_of_its_service() {
        let own = "[[service]]\nname = \"my-forge\"\n[[service.endpoint]]\nhosts = [\"forge.example\", \"*.forge.example\"]\n\
            port = 8443\ninject = \"replace\"\n[[service]]\nname = \"wild\"\n[[service.endpoint]]\n\
            hosts = [\"*.wild.example\"]\ninject = \"replace\"\n";
        let table = credvault::Services::parse(own).unwrap();
        let chosen: Chosen =
            ["my-forge", "wild"].map(|name| (name.parse().unwrap(), table.get(name).unwrap().clone())).into();
        let mut builder = Vault::builder();
        crate::services::bind(&mut builder, &chosen, |_| {
            let secret = credvault::Secret::new(b"0123456789abcdef".to_vec());
            Ok(crate::keys::Value::Is { secret, not_after_s: None })
        })
        .unwrap();
        let vault = builder.build();
        let spec = ToolsSpec::from_str("my-forge=git,netrc").unwrap();
        let files = files(&[spec], &[], &chosen, &vault).unwrap();
        let placeholder = vault.placeholder("my-forge").unwrap();
        assert!(files.iter().any(|file| file.content.contains(placeholder.as_str())));
        assert!(files[0].content.contains("https://forge.example:8443\""), "{}", files[0].content);
        assert!(!files.iter().any(|file| file.content.contains('*') || file.content.contains("0123456789")));
        let wild = ToolsSpec::from_str("wild=git").unwrap();
        let error = super::files(&[wild], &[], &chosen, &vault).unwrap_err().to_string();
        assert!(error.contains("wild") && error.contains("whole name"), "{error}");
    }
}
