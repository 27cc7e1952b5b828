//! The built program, a real Linux guest, real clients: nothing here is mocked.
//!
//! Build the program first: `cargo build --release --example agent-sandbox` (`cargo xtask ci` does), or name
//! it with `AGENT_SANDBOX_BIN`. Tests boot one guest at a time, whatever the number of test threads: on two
//! cores, emulated guests side by side only make each other slow.

#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

mod commands;
mod demo;
mod errors;
mod files;
mod keyring;
mod memory;
mod network;
mod policy;
#[path = "../process_memory.rs"]
mod process_memory;
mod program;
#[path = "../../examples/glue/pty.rs"]
mod pty;
mod secrets;
#[path = "../../credvault/tests/it/session.rs"]
mod session;
mod transparent;
mod typed;
mod upstream;
