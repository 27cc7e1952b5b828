//! `inject-proxy`: `netproxy`, `policy` and `credvault` as one program, in front of a container or any process.
//! The smallest embedding of the three: read it to write your own.
//!
//! In the order of a run: `options.rs` (what a user types), `keys.rs` (keys out of the environment), `setup.rs` (the
//! proxy from its parts), `files.rs` (what it writes for clients), `serve.rs` (connections and signals), `doors.rs`
//! (SOCKS5, DNS and metrics), `metrics.rs`. `say.rs` is what it prints, `trace.rs` what `--trace` adds, `error.rs` the
//! exit codes. It never writes the authority's key anywhere, and never listens beyond loopback unasked.

mod doors;
mod error;
mod files;
mod keys;
mod metrics;
mod options;
mod say;
mod serve;
mod setup;
mod trace;

use std::alloc::System;
use std::process::ExitCode;

use zeroizing_alloc::ZeroAlloc;

use crate::error::{Error, Result};
use crate::options::Options;
use crate::say::Messages;

/// Clears all memory that is given back, as copies of keys are in it that no `Secret` owns: in the buffers of the HTTP
/// library, for one.
#[global_allocator]
static CLEARING: ZeroAlloc<System> = ZeroAlloc(System);

fn main() -> ExitCode {
    let options: Options =
        glue::command_line::parse(std::env::args_os()).unwrap_or_else(|error| error.exit());
    let messages = Messages { json: options.json };
    match run(&options, messages) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            messages.say("error", &format!("error: {error}"));
            ExitCode::from(error.exit_code())
        }
    }
}

fn run(options: &Options, messages: Messages) -> Result<()> {
    let values = keys::take(options)?;
    if let Some(level) = options.trace {
        trace::begin(level);
    }
    if let Some(warning) = glue::hardening::harden() {
        messages.say("not_hardened", &warning);
    }
    serve::raise_file_limit();
    let runtime =
        serve::runtime(options.threads).map_err(Error::io("the proxy's threads cannot be started"))?;
    let setup = {
        // Listeners and the resolver's timers belong to the runtime.
        let _context = runtime.enter();
        glue::hardening::outlive_file_limit().map_err(Error::io("signals cannot be watched"))?;
        setup::Setup::new(options, values)?
    };
    runtime.block_on(serve::serve(setup, options, messages))
}
