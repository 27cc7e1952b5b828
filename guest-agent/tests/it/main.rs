//! The public API, with real programs, over socket pairs: no VM is needed.

mod exec;
mod support;
