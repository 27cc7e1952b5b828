//! Adapters between the hooks of `netproxy` and the libraries that answer them. Each only copies fields:
//! a decision made here would be one that nobody can test elsewhere.
//!
//! ([`live`] does so with a policy that is loaded again when it changes.)
//!
//! Beside them, what programs that embed the three libraries also share: where keys come from
//! ([`command_line`], [`keys`], [`stores`], [`sources`]), also those whose store is still locked ([`unlock`]), policy files with their includes
//! ([`policy_files`]) and the machine's package registries ([`registries`]), fixed addresses ([`resolve`]), limits ([`limits`]), and the
//! variables that make clients use the proxy
//! ([`clients`]). Never prints, never ends the process.

pub mod ask;
pub mod audit;
pub mod authorize;
pub mod clients;
pub mod command_line;
pub mod fetch;
pub mod hardening;
pub mod inject;
pub mod java;
pub mod keys;
pub mod limits;
pub mod live;
pub mod logins;
pub mod policy_files;
pub mod printable;
#[cfg(test)]
mod pty;
pub mod question;
pub mod redact;
pub mod registries;
pub mod resolve;
pub mod services;
pub mod sources;
pub mod stores;
pub mod terminal;
#[cfg(test)]
mod testing;
pub mod tokens;
pub mod unlock;
