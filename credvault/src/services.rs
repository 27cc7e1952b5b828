//! The table of services: TOML in, bindings out. The built-in one is `services.toml`; users add their own
//! in the same form. Must never accept an unknown key: a misspelt `paths` would widen a credential.

use serde::Deserialize;

use crate::binding::{Binding, Companion, Endpoint, is_credential_name, is_env_name};
use crate::limits::SERVICES_BYTES_MAX;
use crate::matching::Allowed;
use crate::target::Scheme;

/// A known service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Service {
    /// For people, such as `GitHub token`.
    pub title: String,
    /// What is bound for it.
    pub binding: Binding,
    /// How its token is had, if what is stored is not sent itself.
    pub token: Option<TokenKind>,
}

/// How a token is had from what is stored (feature `oauth`: `TokenSource`).
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case", deny_unknown_fields)]
#[non_exhaustive]
pub enum TokenKind {
    /// A refresh token of OAuth 2 is stored.
    Refresh {
        /// Of the token endpoint, https.
        url: String,
        /// Of a public client.
        client_id: String,
        /// Variables of the guest that hold a placeholder of the refresh token, for a tool there that renews by itself.
        #[serde(default)]
        refresh_env: Vec<String>,
        /// The look of that placeholder.
        #[serde(default)]
        refresh_placeholder: Option<String>,
    },
    /// The PEM file of a GitHub App is stored.
    GithubApp {
        /// Of the API, `https://api.github.com`.
        url: String,
        /// The App's id or client id.
        app: String,
        /// The installation's id.
        installation: String,
    },
    /// The JSON file of a Google service account is stored.
    GoogleServiceAccount {
        /// Scopes, separated by spaces.
        scope: String,
    },
}

/// A table of services.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Services(Vec<Service>);

/// Why a table was refused. Nothing of a refused table is used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ServicesError {
    /// Not TOML, or not this form; the text names line and key.
    #[error("service table cannot be read: {0}")]
    Syntax(#[from] Box<toml::de::Error>),
    /// A value that is well-formed TOML but makes no sense.
    #[error("service table, line {line}: service `{service}`: {reason}")]
    Value {
        /// Where the service's name stands, from 1.
        line: usize,
        /// The service.
        service: String,
        /// What is wrong and what to write.
        reason: String,
    },
    /// Too large to be a table written by people.
    #[error("service table is larger than {SERVICES_BYTES_MAX} bytes: split it or remove services")]
    TooLarge,
}

impl Services {
    /// The table that comes with this crate.
    ///
    /// # Errors
    /// None in practice: a test reads it.
    pub fn builtin() -> Result<Self, ServicesError> {
        Self::parse(include_str!("services.toml"))
    }

    /// Reads a table in the form that `services.toml` describes.
    ///
    /// # Errors
    /// [`ServicesError`], with the service and what to write instead.
    pub fn parse(text: &str) -> Result<Self, ServicesError> {
        if text.len() > SERVICES_BYTES_MAX {
            return Err(ServicesError::TooLarge);
        }
        let table: Table = toml::from_str(text).map_err(Box::new)?;
        let mut services = Self::default();
        for row in table.service {
            let name = row.name.get_ref().escape_debug().to_string();
            let before = text.get(..row.name.span().start).unwrap_or_default();
            let line = before.bytes().filter(|byte| *byte == b'\n').count().saturating_add(1);
            let refused = |reason| ServicesError::Value { line, service: name.clone(), reason };
            let service = row.read().map_err(refused)?;
            if services.get(&name).is_some() {
                return Err(refused("is defined twice: rename one".to_owned()));
            }
            services.0.push(service);
        }
        Ok(services)
    }

    /// The service of this name.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&Service> {
        self.0.iter().find(|service| service.binding.name == name)
    }

    /// All services, in the order of the table.
    pub fn iter(&self) -> impl Iterator<Item = &Service> {
        self.0.iter()
    }

    /// Puts the services of `other` before and instead of those of the same name.
    #[must_use]
    pub fn overridden_by(self, mut other: Self) -> Self {
        let kept: Vec<_> =
            self.0.into_iter().filter(|service| other.get(&service.binding.name).is_none()).collect();
        other.0.extend(kept);
        other
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Table {
    #[serde(default)]
    service: Vec<ServiceRow>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ServiceRow {
    name: toml::Spanned<String>,
    #[serde(default)]
    title: Option<String>,
    #[serde(default)]
    env: Vec<String>,
    #[serde(default)]
    placeholder: Option<String>,
    #[serde(default)]
    token: Option<TokenKind>,
    #[serde(default)]
    companion: Vec<CompanionRow>,
    endpoint: Vec<EndpointRow>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct CompanionRow {
    env: Vec<String>,
    placeholder: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct EndpointRow {
    hosts: Vec<String>,
    inject: String,
    #[serde(default)]
    scheme: Option<Scheme>,
    #[serde(default)]
    port: Option<u16>,
    #[serde(default)]
    methods: Option<Vec<String>>,
    #[serde(default)]
    paths: Option<Vec<String>>,
}

impl ServiceRow {
    fn read(self) -> Result<Service, String> {
        let name = self.name.into_inner();
        if !is_credential_name(&name) {
            return Err("name must be 1 to 64 characters of `A-Z a-z 0-9 - _ .`".to_owned());
        }
        let companion_env = self.companion.iter().flat_map(|companion| &companion.env);
        if let Some(bad) = self.env.iter().chain(companion_env).find(|name| !is_env_name(name)) {
            return Err(format!(
                "`{}` cannot be a variable of the guest: choose another",
                bad.escape_debug()
            ));
        }
        let placeholder = match &self.placeholder {
            Some(format) => format.parse().map_err(|error| explain(format, error))?,
            None => crate::PlaceholderFormat::generic(),
        };
        let companion = |row: CompanionRow| match row.placeholder.parse() {
            Ok(placeholder) => Ok(Companion { env: row.env, placeholder }),
            Err(error) => Err(explain(&row.placeholder, error)),
        };
        let companions = self.companion.into_iter().map(companion).collect::<Result<Vec<_>, _>>()?;
        let endpoints = self.endpoint.into_iter().map(EndpointRow::read).collect::<Result<Vec<_>, _>>()?;
        if endpoints.is_empty() {
            return Err("needs at least one [[service.endpoint]]".to_owned());
        }
        Ok(Service {
            title: self.title.unwrap_or_else(|| name.clone()),
            token: self.token,
            binding: Binding { name, endpoints, env: self.env, placeholder, companions },
        })
    }
}

impl EndpointRow {
    fn read(self) -> Result<Endpoint, String> {
        if self.hosts.is_empty() {
            return Err("an endpoint needs at least one host".to_owned());
        }
        if self.port == Some(0) {
            return Err("port 0 cannot be connected to: write 1 to 65535".to_owned());
        }
        Ok(Endpoint {
            scheme: self.scheme.unwrap_or(Scheme::Https),
            hosts: parse_all(&self.hosts)?,
            port: self.port.unwrap_or(443),
            methods: limit(self.methods.as_deref())?,
            paths: limit(self.paths.as_deref())?,
            injection: self.inject.parse().map_err(|error| explain(&self.inject, error))?,
        })
    }
}

fn limit<T: std::str::FromStr<Err: std::fmt::Display>>(
    list: Option<&[String]>,
) -> Result<Allowed<T>, String> {
    list.map_or(Ok(Allowed::Any), |list| parse_all(list).map(Allowed::Only))
}

fn parse_all<T: std::str::FromStr<Err: std::fmt::Display>>(list: &[String]) -> Result<Vec<T>, String> {
    list.iter().map(|text| text.parse().map_err(|error| explain(text, error))).collect()
}

fn explain(text: &str, error: impl std::fmt::Display) -> String {
    format!("`{}`: {error}", text.escape_debug())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::injection::Injection;
    use crate::target::Target;

    #[test]
    fn the_builtin_table_is_read_and_covers_the_services_agents_use() {
        let services = Services::builtin().unwrap();
        for service in services.iter() {
            assert!(!service.binding.env.is_empty() && !service.title.is_empty(), "{}", service.binding.name);
        }
        assert!(services.iter().count() >= 50);
        for service in services.iter() {
            let (name, binding) = (&service.binding.name, &service.binding);
            let placeholder = service.binding.placeholder.mint(&mut crate::os_random).unwrap();
            assert!(placeholder.as_str().len() >= 20, "{name}");
            // Each can be bound alone, with what SDKs read.
            let mut builder = crate::Vault::builder();
            let value = crate::Secret::new(b"AKIDEXAMPLEEXAMPLE:wJalrXUtnFEMI/K7MDENG".to_vec());
            builder.bind(binding.clone(), value, &mut crate::os_random).unwrap();
        }
    }

    /// Row by row: variables, and hosts with what they get. A key that is sent to another host than these is lost.
    #[test]
    fn services_that_agents_call_have_these_variables_hosts_and_headers() {
        const BEARER: &str = "authorization: Bearer {}";
        type Hosts<'a> = (&'a str, &'a [&'a str]);
        let rows: [(&str, &[&str], &[Hosts<'_>]); 11] = [
            (
                "anthropic",
                &["ANTHROPIC_API_KEY"],
                &[
                    ("x-api-key: {}", &["api.anthropic.com"]),
                    ("replace", &["console.anthropic.com", "claude.ai", "mcp-proxy.anthropic.com"]),
                ],
            ),
            (
                "openai",
                &["OPENAI_API_KEY"],
                &[
                    (BEARER, &["api.openai.com"]),
                    ("replace", &["openai.com", "chatgpt.com", "www.chatgpt.com"]),
                ],
            ),
            (
                "github",
                &["GH_TOKEN", "GITHUB_TOKEN"],
                &[
                    (BEARER, &["api.github.com", "api.githubcopilot.com", "copilot.github.com"]),
                    ("basic x-access-token", &["github.com"]),
                    ("replace", &["github.com", "raw.githubusercontent.com", "gist.github.com"]),
                ],
            ),
            (
                "google",
                &["GEMINI_API_KEY", "GOOGLE_API_KEY"],
                &[
                    (
                        "x-goog-api-key: {}",
                        &["generativelanguage.googleapis.com", "aiplatform.googleapis.com"],
                    ),
                    ("replace", &["oauth2.googleapis.com", "vertexai.googleapis.com"]),
                ],
            ),
            ("groq", &["GROQ_API_KEY"], &[(BEARER, &["api.groq.com"])]),
            ("mistral", &["MISTRAL_API_KEY"], &[(BEARER, &["api.mistral.ai"])]),
            (
                "nebius",
                &["NEBIUS_API_KEY"],
                &[(BEARER, &["api.studio.nebius.com", "api.tokenfactory.nebius.com"])],
            ),
            ("openrouter", &["OPENROUTER_API_KEY"], &[(BEARER, &["openrouter.ai"])]),
            ("xai", &["XAI_API_KEY"], &[(BEARER, &["api.x.ai"])]),
            (
                "cursor",
                &["CURSOR_API_KEY"],
                &[
                    (BEARER, &["api2.cursor.sh", "api3.cursor.sh", "repo42.cursor.sh"]),
                    ("replace", &["cursor.com"]),
                ],
            ),
            (
                "droid",
                &["FACTORY_API_KEY"],
                &[("replace", &["api.factory.ai", "app.factory.ai", "relay.factory.ai"])],
            ),
        ];
        let services = Services::builtin().unwrap();
        for (name, env, endpoints) in rows {
            let binding = &services.get(name).unwrap_or_else(|| panic!("{name} is missing")).binding;
            assert_eq!(binding.env, env, "{name}");
            assert_eq!(binding.endpoints.len(), endpoints.len(), "{name}");
            for (endpoint, (injection, hosts)) in binding.endpoints.iter().zip(endpoints) {
                let found: Vec<String> = endpoint.hosts.iter().map(ToString::to_string).collect();
                assert_eq!(found, *hosts, "{name}");
                assert_eq!(endpoint.injection, injection.parse().unwrap(), "{name}: {hosts:?}");
                assert_eq!((endpoint.scheme, endpoint.port), (Scheme::Https, 443), "{name}: {hosts:?}");
            }
        }
    }

    #[test]
    fn git_gets_basic_and_the_api_gets_bearer() {
        let services = Services::builtin().unwrap();
        let github = &services.get("github").unwrap().binding;
        let at = |host, path| {
            let target = Target { scheme: Scheme::Https, host, port: 443, method: "GET", path };
            github.endpoint(&target).map(|endpoint| endpoint.injection.clone())
        };
        assert_eq!(at("api.github.com", "/user"), Some(Injection::bearer()));
        let git = at("github.com", "/owner/repo.git/info/refs?service=git-upload-pack");
        assert_eq!(git, Some(Injection::Basic { user: "x-access-token".into() }));
        assert_eq!(at("github.com", "/owner/repo/settings"), Some(Injection::replace()));
        assert_eq!(at("evil.github.com", "/user"), None);
    }

    #[test]
    fn a_bad_table_is_refused_whole_and_names_the_service() {
        let endpoint = "[[service.endpoint]]\nhosts = [\"a.example\"]\ninject = \"x-key: {}\"\n";
        let with = |lines: &str| format!("[[service]]\nname = \"mine\"\n{lines}\n{endpoint}");
        assert!(Services::parse(&with("")).is_ok());
        for (text, part) in [
            (with("env = [\"LD_PRELOAD\"]"), "LD_PRELOAD"),
            (with("placeholder = \"fixed\""), "random bits"),
            (with("colour = 1"), "colour"),
            (with("") + "path = [\"/v1\"]", "path"),
            (with("") + "paths = [\"v1\"]", "not canonical"),
            (with("") + "port = 0", "port 0"),
            (with("") + "scheme = \"ftp\"", "ftp"),
            (with("").replace("a.example", "A.example"), "not canonical"),
            (with("").replace("x-key: {}", "host: {}"), "authentication header"),
            (with("").replace("[\"a.example\"]", "[]"), "at least one host"),
            (with("").replace("mine", "my service"), "1 to 64 characters"),
            (with("") + &with(""), "defined twice"),
            ("[[service]]\nname = \"x\"\nendpoint = []".into(), "at least one"),
            ("[[service".into(), "line 1"),
            (with("token = { kind = \"refresh\", url = \"https://a.example/t\" }"), "client_id"),
            (with("token = { kind = \"other\" }"), "other"),
            (with("") + "\n\n" + &with("").replace("mine", "A B"), "line 10: service `A B`"),
            (format!("#{}", " ".repeat(SERVICES_BYTES_MAX)), "larger than"),
        ] {
            let error = Services::parse(&text).unwrap_err().to_string();
            assert!(error.contains(part), "{error} does not say {part}");
        }
    }

    #[test]
    fn a_users_table_comes_first() {
        let text = "[[service]]\nname = \"groq\"\n[[service.endpoint]]\nhosts = [\"groq.corp.example\"]\ninject = \"x-key: {}\"";
        let builtin = Services::builtin().unwrap();
        let count = builtin.iter().count();
        let merged = builtin.overridden_by(Services::parse(text).unwrap());
        assert_eq!(merged.iter().count(), count);
        let groq = &merged.get("groq").unwrap().binding;
        assert_eq!(groq.endpoints[0].hosts[0].to_string(), "groq.corp.example");
    }
}
