//! What a user types: every verb and option, with the text `--help` shows. Parses, decides nothing.

use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};
use glue::keys::SecretSpec;
use glue::limits::LimitSpec;
use glue::logins::ToolsSpec;
use glue::resolve::ResolveSpec;
use glue::services::ServiceSpec;
use glue::stores::StoreArgs;

use crate::secret::cli::SecretArgs;

const AFTER_HELP: &str = "\
Examples:
  agent-sandbox demo
  agent-sandbox run python3 script.py
  agent-sandbox run --secret OPENAI_API_KEY@api.openai.com -t bash
  agent-sandbox run --policy ~/policy.toml --audit ~/audit.jsonl make test

Exit code: that of COMMAND; 128 + N if signal N ended it; 124 after --timeout;
127 not found, 126 not executable; 2 if nothing was run; 125 if the sandbox failed.";

/// Runs a command in a microVM whose only way out is a proxy: your policy, your keys, neither in reach.
#[derive(Debug, Parser)]
#[command(name = "agent-sandbox", version, after_help = AFTER_HELP, max_term_width = 100)]
pub struct Cli {
    #[command(subcommand)]
    pub verb: Verb,
}

#[derive(Debug, Subcommand)]
pub enum Verb {
    /// Run COMMAND in a new sandbox that lives as long as the command
    Run(Box<RunArgs>),
    /// Show the whole promise on this machine: a sandbox, a fake model API, a key it cannot steal
    Demo(DemoArgs),
    /// Say what this machine offers: KVM, QEMU, kernel, keyring
    Doctor(DoctorArgs),
    /// Keys in your keyring or an encrypted file: store, rotate, list, remove; which store is used; known services
    Secret(SecretArgs),
    /// Ask a policy, test it, look for mistakes in it: nothing is started
    Policy(crate::policy::cli::PolicyArgs),
}

#[derive(Debug, Args)]
pub struct RunArgs {
    /// Policy file (TOML), several as layers; without one, only the hosts of --secret can be reached
    #[arg(long = "policy", value_name = "FILE")]
    pub policies: Vec<PathBuf>,
    /// Ask on the terminal about what no rule decides; requests wait for the answer, a minute at most
    #[arg(long)]
    pub ask: bool,
    /// Key NAME, from your store or NAME=env:VAR, NAME=file:/PATH, NAME=cmd:…; only ever sent to HOST[:PORT] over https
    #[arg(long = "secret", value_name = "NAME@HOST")]
    pub secrets: Vec<SecretSpec>,
    #[command(flatten)]
    pub stores: StoreArgs,
    /// How often stores, files and `cmd/TIME:` are looked at for a new value of a key; 0 for never
    #[arg(long, value_name = "SECONDS", default_value_t = 60)]
    pub refresh_secrets: u64,
    /// Key of the service NAME (of credvault's table, or of --services), from a source as with --secret; the policy has
    /// to allow its hosts
    #[arg(long = "service", value_name = "NAME", requires = "policies")]
    pub service: Vec<ServiceSpec>,
    /// Further services: where their keys go, how they are put in, which tokens are renewed (form: credvault's services.toml)
    #[arg(long = "services", value_name = "FILE", requires = "service")]
    pub services_file: Option<PathBuf>,
    /// Log TOOLs of the guest in with key NAME (its placeholder): git, netrc, npm, docker, cargo:REGISTRY
    #[arg(long = "tools", value_name = "NAME=TOOL,…")]
    pub tools: Vec<ToolsSpec>,
    /// Share a file or folder at the same path, read-write unless :ro
    #[arg(long = "share", value_name = "PATH[:ro]")]
    pub shares: Vec<ShareSpec>,
    /// Leave the current directory out of the sandbox
    #[arg(long)]
    pub no_workspace: bool,
    /// Set a variable in the sandbox, or pass on the host's
    #[arg(short, long = "env", value_name = "NAME[=VALUE]")]
    pub env: Vec<String>,
    /// Give COMMAND a terminal
    #[arg(short, long)]
    pub tty: bool,
    /// Limit of this sandbox, several: connections, requests-per-s, bytes-per-s, request-body-bytes, head-bytes, head-time,
    /// idle-time and more (README.md); e.g. requests-per-s=50, request-body-bytes=10MiB, idle-time=5m
    #[arg(long = "limit", value_name = "NAME=VALUE")]
    pub limits: Vec<LimitSpec>,
    /// Append one JSON line per decision of the proxy
    #[arg(long, value_name = "FILE")]
    pub audit: Option<PathBuf>,
    /// What the sandbox is called: `sandbox` in the audit log, and in the name of its certificate authority
    #[arg(long, value_name = "NAME", default_value = "agent-sandbox", value_parser = glue::command_line::sandbox_name)]
    pub name: String,
    /// End COMMAND after this time (30s, 5m, 1h)
    #[arg(long, value_name = "TIME", value_parser = parse_duration)]
    pub timeout: Option<Duration>,
    #[command(flatten)]
    pub machine: MachineArgs,
    /// Use ADDR for HOST instead of asking DNS (a special address still needs a `cidr` rule)
    #[arg(long = "resolve", value_name = "HOST:ADDR")]
    pub resolve: Vec<ResolveSpec>,
    /// Trust the certificates in FILE (PEM) when connecting upstream
    #[arg(long, value_name = "FILE")]
    pub upstream_ca: Vec<PathBuf>,
    /// Nothing of ours on standard error
    #[arg(short, long)]
    pub quiet: bool,
    /// Our messages on standard error as JSON lines
    #[arg(long)]
    pub json: bool,
    /// The command and its arguments; `--` before it where it could be taken for an option
    #[arg(trailing_var_arg = true, required = true, value_name = "COMMAND")]
    #[arg(value_parser = clap::builder::NonEmptyStringValueParser::new())]
    pub command: Vec<String>,
}

/// The machine itself: shared by `run` and `demo`.
#[derive(Clone, Debug, Args)]
pub struct MachineArgs {
    /// Our own VMM on KVM, or QEMU's software emulation; auto probes KVM first
    #[arg(long, value_enum, default_value_t = EngineChoice::Auto)]
    pub engine: EngineChoice,
    /// `minimal`, `debian-6.12`, `debian-6.1`, `host`, or a vmlinux or bzImage file
    #[arg(long, value_name = "KERNEL")]
    pub kernel: Option<String>,
    /// Virtual processors
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u8).range(1..=32))]
    pub cpus: u8,
    /// Memory in MiB
    #[arg(long, value_name = "MIB", default_value_t = 1024, value_parser = clap::value_parser!(u32).range(128..=1_048_576))]
    pub memory: u32,
    /// Install what is missing without asking
    #[arg(short, long)]
    pub yes: bool,
}

#[derive(Debug, Args)]
pub struct DemoArgs {
    #[command(flatten)]
    pub machine: MachineArgs,
    /// Keep the audit log at FILE
    #[arg(long, value_name = "FILE")]
    pub audit: Option<PathBuf>,
    /// One JSON object instead of the table
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Args)]
pub struct DoctorArgs {
    /// One JSON object instead of the table
    #[arg(long)]
    pub json: bool,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
pub enum EngineChoice {
    // Plain comments: documented values would turn `--help` into three screens.
    // Probe KVM, else QEMU.
    Auto,
    // Our own VMM on /dev/kvm.
    Kvm,
    // QEMU's software emulation with our devices.
    Qemu,
}

/// `PATH` or `PATH:ro`.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ShareSpec {
    pub path: PathBuf,
    pub read_only: bool,
}

impl FromStr for ShareSpec {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (path, read_only) = match text.strip_suffix(":ro") {
            Some(path) => (path, true),
            None => (text.strip_suffix(":rw").unwrap_or(text), false),
        };
        if path.is_empty() {
            return Err("expected PATH or PATH:ro".to_owned());
        }
        Ok(Self { path: PathBuf::from(path), read_only })
    }
}

fn parse_duration(text: &str) -> Result<Duration, String> {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let seconds_per_unit = match &text[digits.len()..] {
        "" | "s" => 1,
        "m" => 60,
        "h" => 3600,
        unit => return Err(format!("unknown unit {unit:?}: use s, m or h")),
    };
    let count: u64 = digits.parse().map_err(|_| "expected a whole number and s, m or h".to_owned())?;
    let seconds = count.checked_mul(seconds_per_unit).filter(|seconds| (1..=7 * 86_400).contains(seconds));
    seconds.map(Duration::from_secs).ok_or_else(|| "expected 1s to 168h".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_and_shares() {
        assert_eq!(parse_duration("90").unwrap(), Duration::from_secs(90));
        assert_eq!(parse_duration("2h").unwrap(), Duration::from_secs(7200));
        for bad in ["", "s", "0", "5d", "-1", "99999999999999999999h"] {
            assert!(parse_duration(bad).is_err(), "{bad}");
        }
        assert!(ShareSpec::from_str("/a:ro").unwrap().read_only);
        assert!(!ShareSpec::from_str("/a").unwrap().read_only);
    }

    #[test]
    fn what_may_be_a_key_is_not_printed_back() {
        for wrong in [
            &["run", "--secret", "K=sk-hunter2@h", "true"][..],
            &["run", "--secret", "K@h:hunter2", "true"],
            &["run", "--service", "github=sk-hunter2", "--policy", "p", "true"],
            &["run", "--tools", "K=hunter2", "true"],
            &["run", "--resolve", "h:hunter2", "true"],
            &["run", "--store", "hunter2", "true"],
            &["run", "--identity", "age-secret-key-1hunter2", "true"],
            &["secret", "set", "K", "hunter2"],
            &["secret", "rotate", "K", "sk-hunter2"],
            &["secret", "set", "K", "--value", "hunter2"],
            &["secret", "set", "K", "--value=hunter2"],
            &["demo", "hunter2"],
        ] {
            let given = ["agent-sandbox"].iter().chain(wrong);
            let text = glue::command_line::parse::<Cli, _>(given).unwrap_err().to_string();
            assert!(text.starts_with("error: ") && !text.contains("hunter2"), "{wrong:?}: {text}");
        }
    }
}
