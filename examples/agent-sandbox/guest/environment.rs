//! The environment variables of every command in the sandbox.
//!
//! Nothing of the host's own environment is passed on unless it was named with `--env`.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::Path;

use guest_agent::proto::PROXY_PORT;

use crate::error::{Error, Result};

/// The guest end of the proxy.
const PROXY: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), PROXY_PORT);

/// Home of the one user.
pub const HOME: &str = "/root";

/// The bundle that holds the host's roots and the sandbox's own CA.
pub const CA_BUNDLE: &str = "/etc/ssl/certs/ca-certificates.crt";

/// The same for Java.
pub const JAVA_TRUST_STORE: &str = "/etc/ssl/certs/agent-sandbox.jks";

/// The defaults, before `--env` and the placeholders of `--secret`.
pub fn defaults() -> Vec<(String, String)> {
    let mut variables = Vec::new();
    let mut set = |name: &str, value: &str| variables.push((name.to_owned(), value.to_owned()));
    set("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin");
    set("HOME", HOME);
    set("USER", "root");
    set("LOGNAME", "root");
    set("SHELL", "/bin/sh");
    set("LANG", "C.UTF-8");
    variables.extend(glue::clients::variables(&format!("http://{PROXY}"), Some(CA_BUNDLE)));
    let java = glue::java::options(PROXY, Some(Path::new(JAVA_TRUST_STORE)));
    variables.push((glue::java::VARIABLE.to_owned(), java));
    variables.push(("SSL_CERT_DIR".to_owned(), "/etc/ssl/certs".to_owned()));
    variables
}

/// Resolves `--env NAME=VALUE`, and `--env NAME`, which takes the host's value.
pub fn requested(specs: &[String]) -> Result<Vec<(String, String)>> {
    let resolve = |spec: &String| {
        let (name, value) = match spec.split_once('=') {
            Some((name, value)) => (name, Some(value.to_owned())),
            None => (spec.as_str(), std::env::var(spec).ok()),
        };
        let plain = |c: char| c.is_ascii_alphanumeric() || c == '_';
        if name.is_empty() || name.starts_with(|c: char| c.is_ascii_digit()) || !name.chars().all(plain) {
            // Not repeated: it may be a value whose name was forgotten.
            return Err(Error::Usage("--env NAME[=VALUE]: a name has letters, digits and _".to_owned()));
        }
        match value {
            Some(value) => Ok((name.to_owned(), value)),
            None => Err(Error::Usage(format!("--env {name}: the variable is not set on this host"))),
        }
    };
    specs.iter().map(resolve).collect()
}
