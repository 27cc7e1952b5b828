//! The environment variables of every command in the sandbox.
//!
//! Nothing of the host's own environment is passed on unless it was named with `--env`.

use crate::error::{Error, Result};

/// Address of the guest end of the proxy.
pub const PROXY_URL: &str = "http://127.0.0.1:3128";

/// The bundle that holds the host's roots and the sandbox's own CA.
pub const CA_BUNDLE: &str = "/etc/ssl/certs/ca-certificates.crt";

/// Tools disagree on where to look for trusted certificates; together these cover curl, git, OpenSSL,
/// Python (requests, httpx, pip), cargo, Node, npm, Deno, the AWS tools and Codex.
const CA_VARIABLES: &[&str] = &[
    "SSL_CERT_FILE",
    "CURL_CA_BUNDLE",
    "REQUESTS_CA_BUNDLE",
    "PIP_CERT",
    "GIT_SSL_CAINFO",
    "CARGO_HTTP_CAINFO",
    "NODE_EXTRA_CA_CERTS",
    "npm_config_cafile",
    "DENO_CERT",
    "AWS_CA_BUNDLE",
    "CODEX_CA_CERTIFICATE",
];

const PROXY_VARIABLES: &[&str] = &["HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy"];

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
    for name in PROXY_VARIABLES {
        set(name, PROXY_URL);
    }
    for name in ["NO_PROXY", "no_proxy"] {
        set(name, "localhost,127.0.0.1,::1");
    }
    for name in CA_VARIABLES {
        set(name, CA_BUNDLE);
    }
    set("SSL_CERT_DIR", "/etc/ssl/certs");
    // git asks on the terminal for what a refused request "lacks"; an agent would wait for ever.
    set("GIT_TERMINAL_PROMPT", "0");
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
