//! What programs that embed `policy`, `credvault` and `netproxy` share. Never prints, never ends the process.
//!
//! Adapters between the hooks of `netproxy` and the libraries that answer them. Each only copies fields: a decision made
//! here would be one that nobody can test elsewhere.
//!
//! - [`authorize`] (with [`live`], a policy that is loaded again when it changes), [`inject`] (with [`unlock`], keys whose
//!   store is still locked, and [`tokens`], those that are renewed, by [`fetch`]), [`redact`], [`resolve`] (fixed
//!   addresses), [`audit`] (a file), [`ask`] (a person, by [`terminal`]).
//!
//! What a user gives, and what clients get:
//!
//! - policies: [`policy_files`] with their includes, [`registries`] of this machine, a [`question`] to a policy;
//! - keys: [`keys`] (`--secret`), [`services`], [`stores`], [`sources`] (values, and new ones);
//! - [`limits`], [`command_line`] (what may be a key is never repeated), [`printable`] text;
//! - clients: the variables of [`clients`] and [`java`], and the [`logins`] of tools;
//! - the process itself: [`hardening`].

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
