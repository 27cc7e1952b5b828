//! The public API, with real programs, over socket pairs: no VM is needed.

mod client;
mod exec;
mod schema;
mod support;
