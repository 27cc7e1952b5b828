//! The environment variables that make real clients use the proxy and trust its certificates.

/// Read by practically every client; both spellings are needed.
pub const PROXY_VARIABLES: &[&str] = &["HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy"];

/// What does not go to the proxy: its own side of the loopback.
pub const NO_PROXY_VARIABLES: &[&str] = &["NO_PROXY", "no_proxy"];

/// Value of [`NO_PROXY_VARIABLES`].
pub const NO_PROXY: &str = "localhost,127.0.0.1,::1";

/// Tools disagree on where to look for trusted certificates; together these cover curl, git, OpenSSL,
/// Python (requests, httpx, pip), cargo, Node, npm, Deno, the AWS tools and Codex. Each takes a file of PEM.
pub const CA_VARIABLES: &[&str] = &[
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

/// The variables for a proxy at `proxy_url` whose certificates are in the file `ca_bundle`.
#[must_use]
pub fn variables(proxy_url: &str, ca_bundle: Option<&str>) -> Vec<(String, String)> {
    let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    let mut variables: Vec<_> = PROXY_VARIABLES.iter().map(|name| pair(name, proxy_url)).collect();
    variables.extend(NO_PROXY_VARIABLES.iter().map(|name| pair(name, NO_PROXY)));
    if let Some(file) = ca_bundle {
        variables.extend(CA_VARIABLES.iter().map(|name| pair(name, file)));
    }
    // git asks on the terminal for what a refused request "lacks"; an agent would wait for ever.
    variables.push(pair("GIT_TERMINAL_PROMPT", "0"));
    variables
}
