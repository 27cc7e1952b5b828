//! What a user types after `agent-sandbox policy`.

use std::net::IpAddr;
use std::path::PathBuf;

use clap::{Args, Subcommand};

const AFTER_HELP: &str = "\
Examples:
  agent-sandbox policy check POST https://api.example.com/v1/chat --policy policy.toml
  agent-sandbox policy lint --policy policy.toml

Where a policy file stands is not judged here: `run` refuses one that its sandbox may write to.

Exit code: 0 yes (allowed, all tests pass, nothing to warn of, nothing changes, nothing left
out); 1 no; 2 if it could not be told, since an option, a policy or a log is unusable.";

#[derive(Debug, Args)]
#[command(after_help = AFTER_HELP)]
pub struct PolicyArgs {
    #[command(subcommand)]
    pub verb: PolicyVerb,
    /// JSON on standard output instead of text
    #[arg(long, global = true)]
    pub json: bool,
}

#[derive(Debug, Subcommand)]
pub enum PolicyVerb {
    /// Would this pass? By the function that enforces, with the rule that decides
    Check(CheckArgs),
    /// Run the [[test]]s of the policy, also where some fail
    Test(PolicyFiles),
    /// Rules that can never matter, or that allow more than they seem to
    Lint(LintArgs),
    /// Which attempts of an audit log would fare otherwise under B than under A
    Diff(DiffArgs),
    /// The smallest rules that would allow what an audit log says was refused, as a policy file
    Suggest(SuggestArgs),
    /// All rules in force, by layer, with file and line
    Show(PolicyFiles),
    /// The JSON Schema of a policy file, for editors
    Schema,
}

#[derive(Debug, Args)]
pub struct PolicyFiles {
    /// Policy file (TOML), several as layers
    #[arg(long = "policy", value_name = "FILE", required = true)]
    pub files: Vec<PathBuf>,
}

#[derive(Debug, Args)]
pub struct CheckArgs {
    /// GET, POST…; or CONNECT, TCP (with HOST:PORT) or DNS (with a name)
    pub method: String,
    /// https://HOST/PATH; also http, wss and ws
    pub url: String,
    #[command(flatten)]
    pub policy: PolicyFiles,
    /// Ask for this moment instead of now
    #[arg(long, value_name = "TIME", value_parser = parse_time)]
    pub at: Option<i64>,
    /// Ask whether this address may be dialled for it, where the name resolves to it
    #[arg(long, value_name = "IP")]
    pub address: Option<IpAddr>,
}

#[derive(Debug, Args)]
pub struct LintArgs {
    #[command(flatten)]
    pub policy: PolicyFiles,
    /// Judge what has expired at this moment instead of now
    #[arg(long, value_name = "TIME", value_parser = parse_time)]
    pub at: Option<i64>,
}

#[derive(Debug, Args)]
pub struct DiffArgs {
    /// The policy file before
    #[arg(value_name = "A")]
    pub before: PathBuf,
    /// The policy file after
    #[arg(value_name = "B")]
    pub after: PathBuf,
    /// Audit log, several as one
    #[arg(long, value_name = "LOG", required = true)]
    pub audit: Vec<PathBuf>,
    /// Policy file that is a layer beside both
    #[arg(long = "policy", value_name = "FILE")]
    pub policies: Vec<PathBuf>,
    /// Decide for this moment instead of now
    #[arg(long, value_name = "TIME", value_parser = parse_time)]
    pub at: Option<i64>,
}

#[derive(Debug, Args)]
pub struct SuggestArgs {
    /// Audit log, several as one
    #[arg(value_name = "AUDIT", required = true)]
    pub audit: Vec<PathBuf>,
    /// The policy there is: what it denies, or allows by now, is not suggested
    #[arg(long = "policy", value_name = "FILE")]
    pub policies: Vec<PathBuf>,
    /// Decide for this moment instead of now
    #[arg(long, value_name = "TIME", value_parser = parse_time)]
    pub at: Option<i64>,
}

fn parse_time(text: &str) -> Result<i64, String> {
    policy::parse_time(text)
        .ok_or_else(|| "expected date, time and offset, as in 2027-01-31T12:00:00Z".to_owned())
}
