//! What a user types. Parses, decides nothing.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{ArgGroup, Parser};
use credvault::Injection;
use glue::audit::Rotation;
use glue::keys::SecretSpec;
use glue::limits::LimitSpec;
use glue::logins::ToolsSpec;
use glue::resolve::ResolveSpec;
use glue::services::ServiceSpec;
use glue::stores::StoreArgs;
use tracing_subscriber::filter::LevelFilter;

const AFTER_HELP: &str = "\
On standard output stand the variables that make clients use the proxy, then `# ready`; with --json one object with
the same. Clients get `ca.pem` in --ca-dir: without it they trust nothing that the proxy intercepts.

The policy is loaded again when its file changes (within a second) and on SIGHUP; if it does not load, the old one stays.
Open connections that the new one refuses end. SIGHUP also looks for new values of keys. SIGTERM and SIGINT stop taking
connections and let the open ones finish.

Example:
  MY_KEY=… inject-proxy --listen 127.0.0.1:3128 --policy policy.toml \\
      --secret OPENAI_API_KEY=MY_KEY@api.openai.com --ca-dir /tmp/ca --audit audit.jsonl

Exit code: 0 after SIGTERM or SIGINT; 1 if the audit log lacks a line; 2 if nothing was started.";

/// A proxy that applies your policy and adds your API keys on the way out.
#[derive(Debug, Parser)]
#[command(name = "inject-proxy", version, after_help = AFTER_HELP, max_term_width = 118)]
#[command(group = ArgGroup::new("what may be reached").args(["policies", "secrets"]).required(true).multiple(true))]
pub struct Options {
    /// Where clients connect, with HTTP or SOCKS5; port 0 takes a free one and says which
    #[arg(long, value_name = "ADDR:PORT")]
    pub listen: SocketAddr,
    /// Serve SOCKS5 alone here
    #[arg(long, value_name = "ADDR:PORT")]
    pub socks: Option<SocketAddr>,
    /// Answer DNS here, over UDP and TCP: the addresses of allowed names
    #[arg(long, value_name = "ADDR:PORT")]
    pub dns: Option<SocketAddr>,
    /// Answer GET /metrics here, in Prometheus' text format
    #[arg(long, value_name = "ADDR:PORT")]
    pub metrics: Option<SocketAddr>,
    /// DNS answers are addresses of 198.18.0.0/15 that stand for the name; to be routed here
    #[arg(long, requires = "dns")]
    pub synthetic_dns: bool,
    /// Upstream proxy that rules call NAME; its URL (http://[USER:PASSWORD@]HOST:PORT, socks5://, socks5h://) is in VAR
    #[arg(long = "upstream-proxy", value_name = "NAME=VAR", value_parser = parse_upstream_proxy)]
    pub upstream_proxies: Vec<(String, String)>,
    /// Certificate to show to HOST where it asks for one: a PEM file with the chain and the key
    #[arg(long = "client-cert", value_name = "HOST=FILE", value_parser = parse_client_certificate)]
    pub client_certificates: Vec<(String, PathBuf)>,
    /// Policy file (TOML), several as layers; without one, only the hosts of --secret can be reached
    #[arg(long = "policy", value_name = "FILE")]
    pub policies: Vec<PathBuf>,
    /// Ask on the terminal about what no rule decides; requests wait for the answer, a minute at most
    #[arg(long)]
    pub ask: bool,
    /// Key NAME from this environment's variable VAR, only ever sent to HOST[:PORT] over https; or
    /// NAME=vault@HOST (your store), NAME=file:/PATH@HOST, NAME=cmd:PROGRAM ARGUMENT …@HOST
    #[arg(long = "secret", value_name = "NAME=VAR@HOST")]
    pub secrets: Vec<SecretSpec>,
    #[command(flatten)]
    pub stores: StoreArgs,
    /// How often stores, files and `cmd/TIME:` are looked at for a new value of a key; 0 for only at SIGHUP
    #[arg(long, value_name = "SECONDS", default_value_t = 60)]
    pub refresh_secrets: u64,
    /// Key of the service NAME (of credvault's table, or of --services), from a source as with --secret; the policy has
    /// to allow its hosts
    #[arg(long = "service", value_name = "NAME=VAR", requires = "policies")]
    pub service: Vec<ServiceSpec>,
    /// Further services: where their keys go, how they are put in, which tokens are renewed (form: credvault's services.toml)
    #[arg(long = "services", value_name = "FILE", requires = "service")]
    pub services_file: Option<PathBuf>,
    /// How the key NAME is put in, e.g. 'NAME=authorization: Bearer {}'; by default in place of its placeholder
    #[arg(long = "inject", value_name = "NAME=FORM", value_parser = parse_injection)]
    pub injections: Vec<(String, Injection)>,
    /// Log TOOLs in with key NAME (its placeholder): git, netrc, npm, docker, cargo:REGISTRY; see --guest-files
    #[arg(long = "tools", value_name = "NAME=TOOL,…", requires = "guest_files")]
    pub tools: Vec<ToolsSpec>,
    /// Write those logins below DIR, for the home folder of the clients; an empty folder, or one of an earlier run
    #[arg(long, value_name = "DIR")]
    pub guest_files: Option<PathBuf>,
    /// Write the certificate that clients must trust to DIR/ca.pem, and with this machine's to DIR/ca-bundle.pem and ca.jks
    #[arg(long, value_name = "DIR")]
    pub ca_dir: Option<PathBuf>,
    /// Trust the certificates in FILE (PEM) when connecting upstream
    #[arg(long, value_name = "FILE")]
    pub upstream_ca: Vec<PathBuf>,
    /// Use ADDR for HOST instead of asking DNS (a special address still needs a `cidr` rule)
    #[arg(long = "resolve", value_name = "HOST:ADDR")]
    pub resolve: Vec<ResolveSpec>,
    /// Limit of this sandbox, several: connections, requests-per-s, bytes-per-s, request-body-bytes, head-bytes, head-time,
    /// idle-time and more (README.md); e.g. requests-per-s=50, request-body-bytes=10MiB, idle-time=5m
    #[arg(long = "limit", value_name = "NAME=VALUE")]
    pub limits: Vec<LimitSpec>,
    /// Append one JSON line per decision
    #[arg(long, value_name = "FILE")]
    pub audit: Option<PathBuf>,
    /// What this sandbox is called: `sandbox` in the audit log, and in the name of its certificate authority
    #[arg(long, value_name = "NAME", default_value = "inject-proxy", value_parser = glue::command_line::sandbox_name)]
    pub name: String,
    /// Begin a new audit file at BYTES, and keep COUNT older ones (FILE.1 is the newest of them)
    #[arg(long, value_name = "BYTES:COUNT", value_parser = rotation, requires = "audit")]
    pub audit_rotate: Option<Rotation>,
    /// Print what happens to each connection and decision on standard error: error, warn, info, debug or trace
    #[arg(long, value_name = "LEVEL")]
    pub trace: Option<LevelFilter>,
    /// Threads that carry traffic
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=256))]
    pub threads: u16,
    /// How long open connections may go on after SIGTERM or SIGINT, in seconds; a second signal ends them at once
    #[arg(long, value_name = "SECONDS", default_value_t = 5)]
    pub drain: u64,
    /// What is printed, as JSON lines
    #[arg(long)]
    pub json: bool,
    /// Listen beyond loopback: the proxy asks nobody for a password, and adds your keys for all who reach it
    #[arg(long)]
    pub i_know_anyone_can_use_it: bool,
    /// The values of --secret come as frames on standard input (see keys.rs)
    #[arg(long, hide = true)]
    pub keys_on_stdin: bool,
}

// None of these repeats what stands there: it could be a key, or a URL with a password.

fn parse_upstream_proxy(text: &str) -> Result<(String, String), String> {
    let (name, variable) =
        text.split_once('=').ok_or("expected NAME=VAR; the URL itself is in the variable VAR")?;
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    if name.is_empty() || !name.chars().all(plain) {
        return Err("NAME, by which rules call the proxy, has letters, digits, `-`, `_` and `.`".to_owned());
    }
    if !credvault::is_env_name(variable) {
        return Err(
            "after `=` stands the name of a variable that holds the URL, never the URL itself".to_owned()
        );
    }
    Ok((name.to_owned(), variable.to_owned()))
}

fn parse_client_certificate(text: &str) -> Result<(String, PathBuf), String> {
    match text.split_once('=') {
        Some((host, path)) if !host.is_empty() && !path.is_empty() => {
            Ok((host.to_owned(), glue::command_line::file(path)?))
        }
        _ => Err("expected HOST=FILE".to_owned()),
    }
}

fn parse_injection(text: &str) -> Result<(String, Injection), String> {
    let (name, form) = text.split_once('=').ok_or("expected NAME=FORM")?;
    if !credvault::is_env_name(name) {
        return Err("NAME is that of a --secret: letters, digits and _".to_owned());
    }
    let injection = form.parse().map_err(|error: credvault::InjectionError| error.to_string())?;
    Ok((name.to_owned(), injection))
}

/// Each is looked at and moved when a new file begins.
const OLDER_FILES_MAX: u32 = 1_000;

fn rotation(text: &str) -> Result<Rotation, String> {
    let parsed = text
        .split_once(':')
        .and_then(|(bytes, keep)| Some((glue::limits::bytes(bytes)?, keep.parse().ok()?)));
    match parsed {
        Some((bytes, keep)) if bytes > 0 && keep <= OLDER_FILES_MAX => Ok(Rotation { bytes, keep }),
        _ => Err("expected BYTES:COUNT, such as 100MiB:5, with at most 1000 older files".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(arguments: &[&str]) -> Result<Options, clap::Error> {
        Options::try_parse_from(["inject-proxy", "--listen", "127.0.0.1:0"].iter().chain(arguments))
    }

    #[test]
    fn a_policy_or_a_secret_is_needed() {
        assert!(parse(&[]).is_err());
        assert_eq!(parse(&["--policy", "p.toml", "--policy", "q.toml"]).unwrap().policies.len(), 2);
        let options = parse(&["--secret", "K=V@h:8443", "--inject", "K=x-api-key: {}"]).unwrap();
        assert_eq!(options.secrets[0].port, 8443);
        assert!(matches!(&options.injections[0].1, Injection::Header { name, .. } if name == "x-api-key"));
        assert!(parse(&["--secret", "K=V@h", "--inject", "K=nonsense"]).is_err());
    }

    #[test]
    fn what_may_be_a_key_is_not_printed_back() {
        for wrong in [
            &["--upstream-proxy", "http://user:hunter2@proxy.corp:3128"][..],
            &["--upstream-proxy", "corp=http://user:hunter2@proxy.corp:3128"],
            &["--upstream-proxy", "http://user:p=hunter2@proxy.corp:3128"],
            &["--inject", "K=Bearer hunter2"],
            &["--inject", "K=authorization: Bearer hunter2"],
            &["--inject", "Bearer hunter2={}"],
            &["--inject", "hunter2"],
            &["--secret", "K=sk-hunter2@h"],
            &["--secret", "K@h:hunter2"],
            &["--secret=sk-hunter2"],
            &["--service", "github=sk-hunter2"],
            &["--service", "sk hunter2"],
            &["--tools", "K=hunter2"],
            &["--tools", "sk hunter2=git"],
            &["--client-cert", "hunter2"],
            &["--client-cert", "h=-----BEGIN PRIVATE KEY-----\nhunter2"],
            &["--identity", "AGE-SECRET-KEY-1hunter2"],
            &["--store", "hunter2"],
            &["--resolve", "h:hunter2"],
            // A space too many, and an option that is none.
            &["--secret", "K", "hunter2"],
            &["hunter2"],
            &["--secrt=K=hunter2@h"],
            &["--secrt", "K=hunter2@h"],
        ] {
            let given = ["inject-proxy", "--listen", "127.0.0.1:0", "--policy", "p"].iter().chain(wrong);
            let error = glue::command_line::parse::<Options, _>(given).unwrap_err();
            for text in [error.to_string(), error.render().ansi().to_string()] {
                assert!(text.starts_with("error: ") || text.contains('\x1b'), "{text}");
                assert!(!text.contains("hunter2"), "{wrong:?}: {text}");
            }
        }
    }
}
