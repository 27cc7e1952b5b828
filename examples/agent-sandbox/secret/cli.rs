//! What a user types after `secret`. Parses, decides nothing.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Subcommand};
use glue::stores::StoreArgs;

use super::when::{End, parse_end, parse_span};

const AFTER_HELP: &str = "\
Values are read from standard input, hidden if it is a terminal, and never printed. A sandbox that is running takes a
new value within its --refresh-secrets.

Examples:
  printf %s \"$KEY\" | agent-sandbox secret set OPENAI_API_KEY
  agent-sandbox secret rotate OPENAI_API_KEY --not-after 90d
  agent-sandbox secret stores
  agent-sandbox secret init --store age:/home/me/keys.age

Exit code: 0, or 2 if nothing was done.";

#[derive(Debug, Args)]
#[command(after_help = AFTER_HELP)]
pub struct SecretArgs {
    #[command(subcommand)]
    pub verb: SecretVerb,
    #[command(flatten)]
    pub stores: StoreArgs,
    /// JSON instead of text
    #[arg(long, global = true)]
    pub json: bool,
}

#[derive(Debug, Subcommand)]
pub enum SecretVerb {
    /// Store the value read from standard input under NAME
    Set {
        name: String,
        /// When it is to be sent no more: 2027-01-31, 2027-01-31T12:00:00Z, or from now: 12h, 90d
        #[arg(long, value_name = "TIME", value_parser = parse_end)]
        not_after: Option<End>,
    },
    /// Replace the value of NAME, which must be there
    Rotate {
        name: String,
        /// When the new value is to be sent no more [default: the end of the old one, if it has one]
        #[arg(long, value_name = "TIME", value_parser = parse_end)]
        not_after: Option<End>,
    },
    /// List names, versions and ends; no value is shown (a keyring gives none; the age file is decrypted as a whole)
    Ls,
    /// Remove NAME
    Rm { name: String },
    /// Say which stores are there, which one is used, and why not the others
    Stores,
    /// Create the age file; with --identity, and where that file is missing, an identity too
    Init,
    /// Keep the age file's passphrase in the kernel's keyring for a time
    Unlock {
        /// How long (30m, 8h)
        #[arg(long = "for", value_name = "TIME", default_value = "8h", value_parser = parse_span)]
        time: Duration,
    },
    /// Forget the passphrase that `unlock` kept
    Lock,
    /// List the services that are known, or show what one would put in where
    Services {
        name: Option<String>,
        /// Your own services too, as with `run --services`
        #[arg(long = "services", value_name = "FILE")]
        file: Option<PathBuf>,
    },
}
