//! Keys of known services: `--service NAME=SOURCE`, where NAME is one of credvault's table or of the user's own
//! (`--services FILE`). The table says where the key goes, how it is put in and what the guest sees.

use std::path::Path;
use std::str::FromStr;

use crate::keys::{KeyError, SecretSource, SecretSpec, Value, problem};
use credvault::{
    Allowed, Binding, Endpoint, Injection, OAuthError, PlaceholderFormat, Secret, Service, Services,
    TokenEndpoint, TokenKind, TokenSource, VaultBuilder,
};

/// One `--service`: `NAME` (the user's store) or `NAME=SOURCE`, with the sources of [`SecretSource`].
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ServiceSpec {
    /// Name in the table.
    pub name: String,
    /// Where the value comes from.
    pub source: SecretSource,
}

impl FromStr for ServiceSpec {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (name, source) = match text.split_once('=') {
            None => (text, SecretSource::Vault),
            Some((name, from)) => (name, from.parse()?),
        };
        if !credvault::is_credential_name(name) {
            return Err("expected NAME (from your store) or NAME=SOURCE; NAME is a service".to_owned());
        }
        Ok(Self { name: name.to_owned(), source })
    }
}

impl ServiceSpec {
    /// As the sources of values know it; the places are the table's to say.
    fn secret(&self) -> SecretSpec {
        SecretSpec { name: self.name.clone(), source: self.source.clone(), host: String::new(), port: 0 }
    }
}

/// Those whose stored value is what is sent, so that it may be looked at again while the sandbox runs. Never those with a
/// token: what is stored for them must not get into the vault.
#[must_use]
pub fn sent_as_stored(chosen: &Chosen) -> Vec<SecretSpec> {
    chosen.iter().filter(|(_, service)| service.token.is_none()).map(|(spec, _)| spec.secret()).collect()
}

/// Services that were asked for.
pub type Chosen = Vec<(ServiceSpec, Service)>;

/// credvault's table, with the services of the file before it.
///
/// # Errors
/// A file that cannot be read, with file and line.
pub fn known(file: Option<&Path>) -> Result<Services, String> {
    let table = Services::builtin().map_err(|error| error.to_string())?;
    let Some(path) = file else { return Ok(table) };
    let text =
        std::fs::read_to_string(path).map_err(|error| format!("cannot read {}: {error}", path.display()))?;
    let own = Services::parse(&text).map_err(|error| format!("{}: {error}", path.display()))?;
    Ok(table.overridden_by(own))
}

/// Looks the services up; those of the file come before credvault's own.
///
/// # Errors
/// A file that cannot be read, with file and line, or a name that is in neither.
pub fn choose(specs: &[ServiceSpec], file: Option<&Path>) -> Result<Chosen, String> {
    let table = known(file)?;
    let find = |spec: &ServiceSpec| match table.get(&spec.name) {
        Some(service) => Ok((spec.clone(), service.clone())),
        None => Err(format!(
            "--service {}: there is no service of this name; define it in --services FILE",
            spec.name
        )),
    };
    specs.iter().map(find).collect()
}

/// Binds the services; the sources are those whose tokens are to be renewed, by name.
///
/// # Errors
/// What `value_of` said, or a value that cannot be used.
pub fn bind(
    builder: &mut VaultBuilder,
    chosen: &Chosen,
    mut value_of: impl FnMut(&SecretSpec) -> Result<Value, String>,
) -> Result<Vec<(String, TokenSource)>, KeyError> {
    let mut sources = Vec::new();
    for (spec, service) in chosen {
        let refused = |error: String| problem(&spec.name, error);
        let binding = service.binding.clone();
        let bound = match (value_of(&spec.secret()).map_err(refused)?, &service.token) {
            (Value::Is { secret, not_after_s }, None) => {
                builder.bind_until(binding, secret, not_after_s, &mut credvault::os_random)
            }
            (Value::Locked, None) => builder.bind_locked(binding, &mut credvault::os_random),
            (Value::Is { secret, not_after_s }, Some(kind)) => {
                let refresh = secret.duplicate();
                let source = source(kind, secret).map_err(|error| refused(error.to_string()))?;
                let own = refresh_binding(kind, &spec.name, source.endpoint()).map_err(refused)?;
                if let Some(own) = own {
                    let bound = builder.bind_until(own, refresh, not_after_s, &mut credvault::os_random);
                    bound.map_err(|error| refused(error.to_string()))?;
                }
                sources.push((spec.name.clone(), source));
                builder.bind_renewed(binding, &mut credvault::os_random)
            }
            (Value::Locked, Some(_)) => {
                return Err(refused(
                    "its store is locked, and tokens are made from what is in it: unlock it".to_owned(),
                ));
            }
        };
        bound.map_err(|error| refused(error.to_string()))?;
    }
    Ok(sources)
}

/// Name of the credential that is the refresh token of `name`.
#[must_use]
pub fn refresh_name(name: &str) -> String {
    format!("{name}.refresh")
}

/// The refresh token as a credential of its own, good in the body of requests to the token server only, if a tool of the
/// guest is to have a placeholder of it.
fn refresh_binding(kind: &TokenKind, name: &str, server: &TokenEndpoint) -> Result<Option<Binding>, String> {
    let TokenKind::Refresh { refresh_env, refresh_placeholder, .. } = kind else { return Ok(None) };
    if refresh_env.is_empty() {
        return Ok(None);
    }
    let text = |error: &dyn std::fmt::Display| error.to_string();
    let endpoint = Endpoint::https(&server.host, Injection::Body).map_err(|error| text(&error))?;
    let path = server.path.parse().map_err(|error| text(&error))?;
    let post = "POST".parse().map_err(|error| text(&error))?;
    let placeholder = match refresh_placeholder {
        Some(format) => format.parse().map_err(|error| text(&error))?,
        None => PlaceholderFormat::generic(),
    };
    let endpoint = Endpoint {
        methods: Allowed::Only(vec![post]),
        paths: Allowed::Only(vec![path]),
        ..endpoint.on_port(server.port)
    };
    let (name, env) = (refresh_name(name), refresh_env.clone());
    Ok(Some(Binding { name, endpoints: vec![endpoint], env, placeholder, companions: Vec::new() }))
}

fn source(kind: &TokenKind, value: Secret) -> Result<TokenSource, OAuthError> {
    match kind {
        TokenKind::Refresh { url, client_id, .. } => TokenSource::refresh(url, client_id, None, value),
        TokenKind::GithubApp { url, app, installation } => {
            TokenSource::github_app(url, app, installation, value)
        }
        TokenKind::GoogleServiceAccount { scope } => TokenSource::google_service_account(value, scope),
        // A kind that a newer credvault knows.
        _ => Err(OAuthError::Account),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forms() {
        let spec = ServiceSpec::from_str("github=MY_TOKEN").unwrap();
        assert_eq!(
            (spec.name.as_str(), spec.source),
            ("github", SecretSource::HostEnvironment("MY_TOKEN".into()))
        );
        assert_eq!(ServiceSpec::from_str("google-ai").unwrap().source, SecretSource::Vault);
        for bad in ["", "a b", "github=", "github=ghp-real", "=X"] {
            assert!(ServiceSpec::from_str(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_users_table_comes_first_and_is_refused_with_file_and_line() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("services.toml");
        let specs = ["groq=V", "mine=V"].map(|text| text.parse().unwrap());
        let table = |host: &str| {
            let row = |name: &str| {
                format!(
                    "[[service]]\nname = \"{name}\"\n[[service.endpoint]]\nhosts = [\"{host}\"]\ninject = \"replace\"\n"
                )
            };
            std::fs::write(&path, row("groq") + &row("mine")).unwrap();
        };
        table("own.example");
        let chosen = choose(&specs, Some(&path)).unwrap();
        assert!(
            chosen
                .iter()
                .all(|(_, service)| service.binding.endpoints[0].hosts[0].to_string() == "own.example")
        );
        assert!(choose(&specs, None).unwrap_err().contains("mine"));
        assert!(
            known(Some(&path)).unwrap().get("mine").is_some() && known(None).unwrap().get("mine").is_none()
        );
        table("NOT.canonical");
        let error = choose(&specs, Some(&path)).unwrap_err();
        assert!(
            error.contains("services.toml") && error.contains("line 2") && error.contains("groq"),
            "{error}"
        );
    }
}
