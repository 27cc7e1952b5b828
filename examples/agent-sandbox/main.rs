//! `agent-sandbox`: the five libraries glued into one program.
//!
//! Start reading here; `ARCHITECTURE.md` has the way of one request through the files.

mod cli;
mod demo;
mod doctor;
mod engine;
mod environ;
mod error;
mod gateway;
mod guest;
mod policy;
mod report;
mod run;
mod sandbox;
mod secret;
mod secrets;
mod setup;
mod streams;
mod terminal;

use std::alloc::System;
use std::process::ExitCode;

use zeroizing_alloc::ZeroAlloc;

use crate::cli::{Cli, Verb};

/// Clears all memory that is given back, as copies of keys are in it that no `Secret` owns: in the buffers of the HTTP
/// library, for one.
#[global_allocator]
static CLEARING: ZeroAlloc<System> = ZeroAlloc(System);

fn main() -> ExitCode {
    // clap ends with 2 on a usage error, as this program does for every job that was not begun.
    let cli: Cli = glue::command_line::parse(std::env::args_os()).unwrap_or_else(|error| error.exit());
    let (result, json) = match &cli.verb {
        Verb::Run(args) => (run::run(args), args.json),
        Verb::Demo(args) => (demo::demo(args), args.json),
        Verb::Doctor(args) => (doctor::doctor(args), args.json),
        Verb::Secret(args) => (secret::manage(args), args.json),
        Verb::Policy(args) => (policy::policy(args), args.json),
    };
    match result {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            // Shown even with --quiet: silence would leave an exit code without a reason.
            let style = report::Style::new(false, json);
            style.say(
                "error",
                &format!("error: {error}"),
                serde_json::json!({ "message": error.to_string() }),
            );
            ExitCode::from(error.exit_code())
        }
    }
}
