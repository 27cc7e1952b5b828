//! Real clients through `inject-proxy`: each makes an allowed call, a denied one and one with a key, to a TLS server
//! on loopback. A denied call has to be made exactly once, and the client's own words have to show why.
//!
//! `INJECT_PROXY_BIN` names the program; without it, it is built first. Python and Node packages come from the folder
//! that `cargo xtask ci` prepares, or `AGENT_SANDBOX_CLIENTS`. What the machine lacks is skipped
//! loudly, unless `AGENT_SANDBOX_REQUIRE_CLIENTS` is set, as CI does.

#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

mod aws;
mod check;
mod curl;
mod doors;
mod git;
mod go;
mod java;
mod lifecycle;
mod logins;
mod memory;
mod minted;
mod node;
mod outward;
mod packages;
mod policies;
#[path = "../process_memory.rs"]
mod process_memory;
mod proxy;
mod python;
mod readme;
mod tokens;
mod tools;
mod upstream;
mod world;
