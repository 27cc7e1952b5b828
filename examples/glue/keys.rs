//! Keys on the host: how `--secret` is written, where it may go, and the vault made of it. A value never leaves
//! `Secret`, and never stands in an error.

use std::net::IpAddr;
use std::path::PathBuf;
use std::str::FromStr;

use credvault::{
    Binding, Endpoint, Injection, PlaceholderFormat, Secret, Services, Source, Vault, VaultBuilder,
};
use policy::{PolicyError, Ruleset};

/// One `--secret`: `NAME@HOST[:PORT]` for the user's store, or `NAME=SOURCE@HOST[:PORT]`; see [`SecretSource`].
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct SecretSpec {
    /// Name of the credential, and of the variable that holds its placeholder.
    pub name: String,
    /// Where the value comes from.
    pub source: SecretSource,
    /// The one host that it is sent to.
    pub host: String,
    /// The port there.
    pub port: u16,
}

/// Where a value comes from.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum SecretSource {
    /// `vault`, or nothing: the user's store.
    Vault,
    /// `env:VAR`, or `VAR`: this variable of the program's own environment.
    HostEnvironment(String),
    /// `file:/PATH`: a file that only this user may read.
    File(PathBuf),
    /// `cmd:PROGRAM ARGUMENT …`, run once; `cmd/TIME:…` again when its answer is older than TIME (`30s`, `15m`, `1h`).
    Command {
        /// Program and arguments; no shell reads them.
        words: Vec<String>,
        /// How long an answer is kept, in seconds; `None`: for the sandbox's life.
        keep_s: Option<u64>,
    },
}

/// What a source has to give.
pub enum Value {
    /// The value.
    Is {
        /// Itself.
        secret: Secret,
        /// When it is to be sent no more, where the source knows (seconds since 1970).
        not_after_s: Option<u64>,
    },
    /// It is in a store that is locked: the sandbox starts without it.
    Locked,
}

/// A key cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("secret {name}: {problem}")]
pub struct KeyError {
    /// Its name.
    pub name: String,
    /// What is wrong; never holds a value.
    pub problem: String,
}

const FORM: &str = "expected NAME@HOST[:PORT] (from your store), or NAME=SOURCE@HOST[:PORT] with SOURCE vault, env:VAR, \
    file:/PATH, cmd:PROGRAM ARGUMENT … or cmd/TIME:PROGRAM …";

impl FromStr for SecretSource {
    type Err = String;

    /// Never repeats what stands there: it could be a key.
    fn from_str(text: &str) -> Result<Self, String> {
        if text == "vault" {
            return Ok(Self::Vault);
        }
        if credvault::is_env_name(text) {
            return Ok(Self::HostEnvironment(text.to_owned()));
        }
        let (kind, keep_s) = match text.split_once(':').and_then(|(kind, _)| kind.split_once('/')) {
            Some(("cmd", time)) => {
                ("cmd", Some(seconds(time).ok_or("after `cmd/` stands a time: 30s, 15m or 1h")?))
            }
            Some(_) => ("", None),
            None => (text.split_once(':').map_or("", |(kind, _)| kind), None),
        };
        let rest = text.split_once(':').map_or("", |(_, rest)| rest);
        match (kind, format!("{kind}:{rest}").parse()) {
            ("env", Ok(Source::Env(variable))) => Ok(Self::HostEnvironment(variable)),
            ("file", Ok(Source::File(path))) => Ok(Self::File(path)),
            ("cmd", Ok(Source::Command(words))) => Ok(Self::Command { words, keep_s }),
            ("file", Err(_)) => Err(format!("after `file:` stands an absolute path; {FORM}")),
            _ => Err(format!(
                "after `=` stands the name of a variable or another source; never put a key on the command line; {FORM}"
            )),
        }
    }
}

fn seconds(text: &str) -> Option<u64> {
    let count = text.strip_suffix(['s', 'm', 'h'])?;
    let unit_s = if text.ends_with('s') {
        1
    } else if text.ends_with('m') {
        60
    } else {
        3_600
    };
    count.parse::<u64>().ok()?.checked_mul(unit_s).filter(|seconds| (1..=7 * 86_400).contains(seconds))
}

impl FromStr for SecretSpec {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        // The last one: paths and arguments of commands may hold others, a host never does.
        let (what, place) = text.rsplit_once('@').ok_or(FORM)?;
        let (name, source) = match what.split_once('=') {
            None => (what, SecretSource::Vault),
            Some((name, from)) => (name, from.parse()?),
        };
        if !credvault::is_env_name(name) {
            return Err(format!("NAME is also an environment variable: letters, digits and _; {FORM}"));
        }
        let is_bare = place.ends_with(']') || place.parse::<std::net::Ipv6Addr>().is_ok();
        let (host, port) = match place.rsplit_once(':').filter(|_| !is_bare) {
            Some((host, port)) => {
                (host, port.parse().map_err(|_| format!("after the last `:` stands a port; {FORM}"))?)
            }
            None => (place, 443),
        };
        let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
        if host.is_empty() {
            return Err(FORM.to_owned());
        }
        if host.contains(['[', ']']) {
            return Err(format!("an IPv6 address stands between brackets, as in [::1]:8443; {FORM}"));
        }
        Ok(Self { name: name.to_owned(), source, host: host.to_owned(), port })
    }
}

/// Makes the vault: `value_of` fetches each value once, `injection_of` says how the credential of a name is put in.
///
/// # Errors
/// What `value_of` said, or a name, host or value that cannot be used.
pub fn vault(
    specs: &[SecretSpec],
    injection_of: impl Fn(&str) -> Injection,
    value_of: impl FnMut(&SecretSpec) -> Result<Value, String>,
) -> Result<Vault, KeyError> {
    let mut builder = Vault::builder();
    bind(&mut builder, specs, injection_of, value_of)?;
    Ok(builder.build())
}

/// The same into a vault that gets other keys too.
///
/// # Errors
/// As [`vault`].
pub fn bind(
    builder: &mut VaultBuilder,
    specs: &[SecretSpec],
    injection_of: impl Fn(&str) -> Injection,
    mut value_of: impl FnMut(&SecretSpec) -> Result<Value, String>,
) -> Result<(), KeyError> {
    let mut done: Vec<&str> = Vec::new();
    for spec in specs {
        if done.contains(&spec.name.as_str()) {
            continue;
        }
        done.push(&spec.name);
        let places: Vec<&SecretSpec> = specs.iter().filter(|other| other.name == spec.name).collect();
        if places.iter().any(|other| other.source != spec.source) {
            return Err(problem(&spec.name, "it is given with two different sources"));
        }
        let value = value_of(spec).map_err(|text| problem(&spec.name, text))?;
        let binding = binding(&spec.name, &places, &injection_of(&spec.name))?;
        let bound = match value {
            Value::Is { secret, not_after_s } => {
                builder.bind_until(binding, secret, not_after_s, &mut credvault::os_random)
            }
            Value::Locked => builder.bind_locked(binding, &mut credvault::os_random),
        };
        bound.map_err(|error| problem(&spec.name, error.to_string()))?;
    }
    Ok(())
}

/// Without a policy file, exactly the places of the keys can be reached: the user named them.
///
/// # Errors
/// A host that is no pattern of a policy.
pub fn policy_for(specs: &[SecretSpec]) -> Result<Ruleset, PolicyError> {
    let mut builder = policy::RulesetBuilder::new();
    for (number, spec) in specs.iter().enumerate() {
        let rule = policy::Rule::allow().id(format!("secret-{}", number + 1));
        let rule = match spec.host.parse::<IpAddr>() {
            Ok(IpAddr::V4(ip)) => rule.cidr(format!("{ip}/32")),
            Ok(IpAddr::V6(ip)) => rule.cidr(format!("{ip}/128")),
            Err(_) => rule.host(&spec.host),
        };
        let rule = rule
            .port(spec.port)
            .credential(&spec.name)
            .origin(format!("--secret {}@{}:{}", spec.name, spec.host, spec.port));
        builder = builder.rule(rule)?;
    }
    Ok(builder.build())
}

/// Why a policy does not fit what the program was given, found before the first request does: a rule promises a credential
/// that nobody gave, or leaves by an upstream proxy that is not one of `proxies`.
#[must_use]
pub fn misfit(policy: &Ruleset, vault: &Vault, proxies: &[String]) -> Option<String> {
    if let Some(missing) = policy.credentials().find(|name| !vault.names().any(|known| known == *name)) {
        return Some(format!(
            "the policy puts in the credential {missing:?}, which was not given\n  add --secret {missing}@HOST"
        ));
    }
    let missing = policy.upstreams().find(|name| !proxies.iter().any(|known| known == name))?;
    Some(format!(
        "the policy leaves by the upstream proxy {missing:?}, which is not set up\n  add --upstream-proxy {missing}=VAR (inject-proxy; agent-sandbox has no upstream proxies)"
    ))
}

/// Bound to https at the named places; where a known service has a key of this name, with its look.
fn binding(name: &str, places: &[&SecretSpec], injection: &Injection) -> Result<Binding, KeyError> {
    let services = Services::builtin().map_err(|error| problem(name, error.to_string()))?;
    let known = services.iter().find(|service| service.binding.env.iter().any(|variable| variable == name));
    let endpoint = |spec: &&SecretSpec| {
        Endpoint::https(&spec.host, injection.clone())
            .map(|endpoint| endpoint.on_port(spec.port))
            .map_err(|error| problem(name, error.to_string()))
    };
    // A client signs with two placeholders; elsewhere the key alone is what was asked for.
    let companions = match (injection, known) {
        (Injection::AwsSigV4, Some(service)) => service.binding.companions.clone(),
        _ => Vec::new(),
    };
    Ok(Binding {
        name: name.to_owned(),
        endpoints: places.iter().map(endpoint).collect::<Result<_, _>>()?,
        env: vec![name.to_owned()],
        placeholder: known
            .map_or_else(PlaceholderFormat::generic, |service| service.binding.placeholder.clone()),
        companions,
    })
}

pub(crate) fn problem(name: &str, problem: impl Into<String>) -> KeyError {
    KeyError { name: name.to_owned(), problem: problem.into() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secret_forms() {
        let vault = SecretSpec::from_str("OPENAI_API_KEY@api.openai.com").unwrap();
        assert_eq!((vault.source, vault.port), (SecretSource::Vault, 443));
        for form in ["K=env:MY_KEY@localhost:8443", "K=MY_KEY@localhost:8443"] {
            let env = SecretSpec::from_str(form).unwrap();
            assert_eq!(env.source, SecretSource::HostEnvironment("MY_KEY".into()));
            assert_eq!((env.host.as_str(), env.port), ("localhost", 8443));
        }
        for (form, port) in [("K=V@[::1]:8443", 8443), ("K=V@[::1]", 443), ("K=V@::1", 443)] {
            let spec = SecretSpec::from_str(form).unwrap();
            assert_eq!((spec.host.as_str(), spec.port), ("::1", port), "{form}");
        }
        let source = |text: &str| SecretSpec::from_str(text).unwrap().source;
        assert_eq!(source("K=vault@h"), SecretSource::Vault);
        assert_eq!(source("K=file:/run/me@work/key@h"), SecretSource::File("/run/me@work/key".into()));
        let words = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>();
        let command = SecretSource::Command { words: words(&["op", "read", "op://a/b@c"]), keep_s: None };
        assert_eq!(source("K=cmd:op read op://a/b@c@h:8443"), command);
        let again = SecretSource::Command { words: words(&["gh", "auth", "token"]), keep_s: Some(900) };
        assert_eq!(source("K=cmd/15m:gh auth token@h"), again);
        for bad in [
            "K",
            "K@",
            "@h",
            "K=sk-123@h",
            "1K@h",
            "K=env:@h",
            "K=@h",
            "K@h:notaport",
            "K=file:key@h",
            "K=cmd:@h",
            "K=cmd/15:x@h",
            "K=cmd/0s:x@h",
            "K=cmd/:x@h",
            "K=env/5m:V@h",
            "K=sk-ant-x:y@h",
            "K=a/b:c@h",
        ] {
            let error = SecretSpec::from_str(bad).unwrap_err();
            assert!(!error.contains("sk-"), "{bad}: {error}");
        }
        for bad in ["K=V@[::1:8443", "K=V@::1]:8443", "K=V@[[::1]]"] {
            let error = SecretSpec::from_str(bad).unwrap_err();
            assert!(error.contains("brackets"), "{bad}: {error}");
        }
    }

    #[test]
    fn a_credential_that_nobody_gave_is_a_misfit() {
        let specs = [SecretSpec::from_str("K=V@api.example").unwrap()];
        let policy = policy_for(&specs).unwrap();
        let value = |_: &SecretSpec| {
            Ok(Value::Is { secret: Secret::new(b"0123456789abcdef".to_vec()), not_after_s: None })
        };
        let given = super::vault(&specs, |_| Injection::bearer(), value).unwrap();
        assert_eq!(misfit(&policy, &given, &[]), None);
        assert!(misfit(&policy, &Vault::builder().build(), &[]).unwrap().contains("\"K\""));
    }
}
