//! Adapters between the hooks of `netproxy` and the libraries that answer them. Each only copies fields:
//! a decision made here would be one that nobody can test elsewhere.

pub mod audit;
pub mod authorize;
pub mod inject;
pub mod redact;
