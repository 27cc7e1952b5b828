//! The environment variables of every command in the sandbox.
//!
//! Nothing of the host's own environment is passed on unless it was named with `--env`.

use crate::error::{Error, Result};

/// Address of the guest end of the proxy.
pub const PROXY_URL: &str = "http://127.0.0.1:3128";

/// The bundle that holds the host's roots and the sandbox's own CA.
pub const CA_BUNDLE: &str = "/etc/ssl/certs/ca-certificates.crt";

/// The defaults, before `--env` and the placeholders of `--secret`.
pub fn defaults() -> Vec<(String, String)> {
    let mut variables = Vec::new();
    let mut set = |name: &str, value: &str| variables.push((name.to_owned(), value.to_owned()));
    set("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin");
    set("HOME", "/root");
    set("USER", "root");
    set("LOGNAME", "root");
    set("SHELL", "/bin/sh");
    set("LANG", "C.UTF-8");
    variables.extend(glue::clients::variables(PROXY_URL, Some(CA_BUNDLE)));
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
            return Err(Error::Usage(format!("--env {name:?}: a name has letters, digits and _")));
        }
        match value {
            Some(value) => Ok((name.to_owned(), value)),
            None => Err(Error::Usage(format!("--env {name}: the variable is not set on this host"))),
        }
    };
    specs.iter().map(resolve).collect()
}
