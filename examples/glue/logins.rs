//! Logins for the guest's tools: `--tools` and the files that come of it. They hold placeholders, never keys.

use std::str::FromStr;

use credvault::{GuestFile, Login, Tool, Vault, guest_files};

use crate::keys::{KeyError, SecretSpec};

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
        if !credvault::is_env_name(name) {
            return Err("NAME is that of a --secret: letters, digits and _".to_owned());
        }
        Ok(Self { name: name.to_owned(), tools: tools.split(',').map(parse).collect::<Result<_, _>>()? })
    }
}

/// The files for these tools: each is logged in at every host of its credential.
///
/// # Errors
/// A name that no secret has, or a host that cannot stand in such a file.
pub fn files(specs: &[ToolsSpec], secrets: &[SecretSpec], vault: &Vault) -> Result<Vec<GuestFile>, KeyError> {
    let mut logins = Vec::new();
    for spec in specs {
        let problem = |problem: String| KeyError { name: spec.name.clone(), problem };
        let placeholder = vault
            .placeholder(&spec.name)
            .ok_or_else(|| problem("--tools names it, and there is no --secret of this name".to_owned()))?;
        for secret in secrets.iter().filter(|secret| secret.name == spec.name) {
            let login = Login::new(&secret.host, secret.port, USER, placeholder)
                .map_err(|error| problem(format!("--tools: {error}")))?;
            logins.extend(spec.tools.iter().map(|tool| (tool.clone(), login.clone())));
        }
    }
    Ok(guest_files(&logins))
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
        let files = files(&[spec], &secrets, &vault).unwrap();
        let git = &files[0].content;
        assert!(git.contains("https://a.example\"") && git.contains("https://b.example:8443\""), "{git}");
        assert!(!files.iter().any(|file| file.content.contains("0123456789abcdef")));
        let unknown = ToolsSpec::from_str("X=git").unwrap();
        assert!(super::files(&[unknown], &secrets, &vault).is_err());
        for bad in ["K", "K=", "K=svn", "K=git,,npm"] {
            assert!(ToolsSpec::from_str(bad).is_err(), "{bad}");
        }
    }
}
