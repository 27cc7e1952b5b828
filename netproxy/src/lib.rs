//! The only way out of a sandbox: a proxy that asks, injects, forwards, redacts and records.
