//! A binding: which credential may go where, how it is put in, and how it looks in the guest.

use crate::injection::Injection;
use crate::limits::NAME_BYTES_MAX;
use crate::matching::{Allowed, HostPattern, Method, PathPattern, PatternError};
use crate::placeholder::PlaceholderFormat;
use crate::target::{Scheme, Target};

/// One place a credential may go to. All fields must agree with the request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    /// https unless the table or the caller says otherwise.
    pub scheme: Scheme,
    /// Hosts; an empty list matches nothing.
    pub hosts: Vec<HostPattern>,
    /// The one port.
    pub port: u16,
    /// Methods.
    pub methods: Allowed<Method>,
    /// Paths, without query.
    pub paths: Allowed<PathPattern>,
    /// How the credential is put in.
    pub injection: Injection,
}

impl Endpoint {
    /// https to one host on port 443, every method and path.
    ///
    /// # Errors
    /// [`PatternError::Host`] if `host` is not canonical.
    pub fn https(host: &str, injection: Injection) -> Result<Self, PatternError> {
        Ok(Self {
            scheme: Scheme::Https,
            hosts: vec![host.parse()?],
            port: 443,
            methods: Allowed::Any,
            paths: Allowed::Any,
            injection,
        })
    }

    /// The same on another port.
    #[must_use]
    pub fn on_port(mut self, port: u16) -> Self {
        self.port = port;
        self
    }

    /// Whether a request to `target` may carry the credential.
    #[must_use]
    pub fn matches(&self, target: &Target<'_>) -> bool {
        self.scheme == target.scheme
            && self.port == target.port
            && self.hosts.iter().any(|host| host.matches(target.host))
            && self.methods.allows(|method| method.matches(target.method))
            && self.paths.allows(|path| path.matches(target.path_alone()))
    }
}

/// A credential's name, its places, its variables in the guest, and the look of its placeholder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Binding {
    /// Name of the credential: what rules, logs and the store call it.
    pub name: String,
    /// Where it may go.
    pub endpoints: Vec<Endpoint>,
    /// Environment variables of the guest that hold the placeholder.
    pub env: Vec<String>,
    /// How the placeholder looks.
    pub placeholder: PlaceholderFormat,
    /// Further placeholders that the client needs beside it, such as the secret half of a pair of keys.
    pub companions: Vec<Companion>,
}

/// A placeholder beside the first one: never replaced, refused outside its service just the same.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Companion {
    /// Environment variables of the guest that hold it.
    pub env: Vec<String>,
    /// How it looks.
    pub placeholder: PlaceholderFormat,
}

impl Binding {
    /// A credential for one https host that is in no table: `authorization: Bearer`, variable
    /// `NAME_API_KEY`, placeholder `sbx-…`. Change the public fields for anything else.
    ///
    /// # Errors
    /// [`PatternError::Host`] if `host` is not canonical.
    pub fn bearer(name: &str, host: &str) -> Result<Self, PatternError> {
        let variable = name.to_ascii_uppercase().replace(|c: char| !c.is_ascii_alphanumeric(), "_");
        Ok(Self {
            name: name.to_owned(),
            endpoints: vec![Endpoint::https(host, Injection::bearer())?],
            env: vec![format!("{variable}_API_KEY")],
            placeholder: PlaceholderFormat::generic(),
            companions: Vec::new(),
        })
    }

    /// The same credential at another host and port, for a mirror, a gateway or a test server that speaks
    /// the service's protocol. The first endpoint's injection is kept, the others are dropped.
    ///
    /// # Errors
    /// [`PatternError::Host`] if `host` is not canonical.
    pub fn at(mut self, host: &str, port: u16) -> Result<Self, PatternError> {
        let host: HostPattern = host.parse()?;
        self.endpoints.truncate(1);
        for endpoint in &mut self.endpoints {
            endpoint.hosts = vec![host.clone()];
            endpoint.port = port;
        }
        Ok(self)
    }

    /// Every variable of the guest that holds one of its placeholders.
    pub fn variables(&self) -> impl Iterator<Item = &str> {
        let companions = self.companions.iter().flat_map(|companion| &companion.env);
        self.env.iter().chain(companions).map(String::as_str)
    }

    /// The first endpoint that matches.
    #[must_use]
    pub fn endpoint(&self, target: &Target<'_>) -> Option<&Endpoint> {
        self.endpoints.iter().find(|endpoint| endpoint.matches(target))
    }
}

/// Whether `name` can name a credential: it goes into rules, logs, markers and keyring attributes.
#[must_use]
pub fn is_credential_name(name: &str) -> bool {
    (1..=NAME_BYTES_MAX).contains(&name.len())
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b))
}

/// Whether `name` can name an environment variable of the guest (POSIX.1-2024, XBD §8.1) and is none that
/// makes programs run code or load libraries.
#[must_use]
pub fn is_env_name(name: &str) -> bool {
    const LOADERS: [&str; 9] = [
        "PATH",
        "IFS",
        "ENV",
        "BASH_ENV",
        "NODE_OPTIONS",
        "JAVA_TOOL_OPTIONS",
        "PYTHONSTARTUP",
        "PERL5OPT",
        "RUBYOPT",
    ];
    let mut bytes = name.bytes();
    bytes.next().is_some_and(|b| b.is_ascii_alphabetic() || b == b'_')
        && bytes.all(|b| b.is_ascii_alphanumeric() || b == b'_')
        && !name.starts_with("LD_")
        && !name.starts_with("DYLD_")
        && !LOADERS.contains(&name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn target(url: &'static str) -> Target<'static> {
        let (scheme, rest) = url.split_once("://").unwrap();
        let scheme = if scheme == "https" { Scheme::Https } else { Scheme::Http };
        let (authority, path) = rest.split_at(rest.find('/').unwrap());
        let (host, port) = authority.split_once(':').unwrap();
        Target { scheme, host, port: port.parse().unwrap(), method: "POST", path }
    }

    #[test]
    fn a_bare_host_is_https_on_443_only() {
        // Infisical's command line had this wrong: a bare host matched port 80 as well.
        let binding = Binding::bearer("example", "api.example.com").unwrap();
        assert!(binding.endpoint(&target("https://api.example.com:443/v1?x=1")).is_some());
        for url in [
            "http://api.example.com:80/v1",
            "http://api.example.com:443/v1",
            "https://api.example.com:8443/v1",
            "https://example.com:443/v1",
        ] {
            assert!(binding.endpoint(&target(url)).is_none(), "{url}");
        }
    }

    #[test]
    fn methods_and_paths_narrow_a_binding() {
        let mut binding = Binding::bearer("example", "a.example").unwrap();
        binding.endpoints[0].methods = Allowed::Only(vec!["GET".parse().unwrap()]);
        assert!(binding.endpoint(&target("https://a.example:443/v1/x")).is_none());
        binding.endpoints[0].methods = Allowed::Only(vec!["POST".parse().unwrap()]);
        binding.endpoints[0].paths = Allowed::Only(vec!["/v1/**".parse().unwrap()]);
        assert!(binding.endpoint(&target("https://a.example:443/v1/x?y=/../z")).is_some());
        assert!(binding.endpoint(&target("https://a.example:443/v2/x")).is_none());
    }

    #[test]
    fn moves_to_another_host() {
        let binding = Binding::bearer("my-key", "a.example").unwrap().at("localhost", 8443).unwrap();
        assert_eq!(binding.env, ["MY_KEY_API_KEY"]);
        assert!(binding.endpoint(&target("https://localhost:8443/")).is_some());
        assert!(binding.endpoint(&target("https://a.example:443/")).is_none());
    }

    #[test]
    fn names_are_checked() {
        assert!(
            is_credential_name("github.com_work-1") && !is_credential_name("") && !is_credential_name("a b")
        );
        assert!(is_credential_name(&"n".repeat(NAME_BYTES_MAX)));
        assert!(!is_credential_name(&"n".repeat(NAME_BYTES_MAX + 1)));
        assert!(is_env_name("GH_TOKEN") && is_env_name("_x1"));
        for bad in ["", "1A", "A-B", "A=B", "LD_PRELOAD", "NODE_OPTIONS", "PATH"] {
            assert!(!is_env_name(bad), "{bad}");
        }
    }
}
