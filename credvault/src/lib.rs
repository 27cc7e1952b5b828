//! Keeps secrets, hands out placeholders and turns a placeholder into a credential at the last moment.
//!
//! A program that runs untrusted code (an agent in a sandbox) gives it placeholders instead of keys. On
//! the way out, in the program's own proxy, a request to the key's own service gets the key; on the way
//! back, the key is taken out of the answer.
//!
//! ```text
//!  keyring ─▶ Secret ─▶ Vault ─── env() ──▶ ANTHROPIC_API_KEY=sk-ant-api03-<random> ─▶ guest
//!                        │                                                              │
//!    service ◀─ x-api-key: KEY ◀─ inject() ◀── request with the placeholder, or bare ◀──┤
//!        └───── response ─▶ scrubber() ──▶ placeholder in place of every form of KEY ───┘
//! ```
//!
//! # From an empty project to a working use
//!
//! `cargo add --path CHECKOUT/credvault`, where CHECKOUT is a clone of this repository; it is on no registry.
//!
//! ```
//! use credvault::{Scheme, Secret, Services, Target, Vault, os_random};
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let services = Services::builtin()?;
//! let anthropic = services.get("anthropic").ok_or("no such service")?.binding.clone();
//! let mut builder = Vault::builder();
//! builder.bind(anthropic, Secret::new(b"sk-ant-api03-the-real-key".to_vec()), &mut os_random)?;
//! let vault = builder.build();
//!
//! let guest_env: Vec<_> = vault.env().collect(); // [("ANTHROPIC_API_KEY", "sk-ant-api03-kT3…AA")]
//! let mut headers = vec![(b"x-api-key".to_vec(), guest_env[0].1.as_bytes().to_vec())];
//! let target = Target { scheme: Scheme::Https, host: "api.anthropic.com", port: 443, method: "POST", path: "/v1/messages" };
//! assert_eq!(vault.inject(&target, &mut headers)?.credential, Some("anthropic"));
//! assert_eq!(headers, [(b"x-api-key".to_vec(), b"sk-ant-api03-the-real-key".to_vec())]);
//!
//! let (mut scrubber, mut body) = (vault.scrubber(), Vec::new());
//! scrubber.push(br#"{"you-sent": "sk-ant-api03-the-real-key"}"#, &mut body);
//! scrubber.finish(&mut body);
//! assert_eq!(body, format!(r#"{{"you-sent": "{}"}}"#, guest_env[0].1).as_bytes());
//!
//! // The same placeholder on its way to anybody else is refused.
//! let mut stolen = vec![(b"x-note".to_vec(), guest_env[0].1.as_bytes().to_vec())];
//! assert!(vault.inject(&Target { host: "evil.example", ..target }, &mut stolen).is_err());
//! # Ok(()) }
//! ```
//!
//! What it never does: print, log or serialise a secret; fall back to a weaker store; send a credential where its
//! binding does not reach; resolve a name or open a network connection (the keyring is on the session bus of this
//! machine).
//!
//! Values that are kept are locked into RAM, where the system allows it ([`Secret::protection`]). While an encrypted file
//! is read or written, its plain text and passphrase are in ordinary memory for a moment, which may be swapped and is
//! cleared.
//!
//! What it cannot do: clear the copies that an HTTP library or the kernel makes of a request; find a
//! secret that a server has transformed beyond the forms listed at [`Scrubber`].
//!
//! | module | job |
//! |---|---|
//! | [`Secret`], [`harden_process`] | memory that is locked, cleared, not dumped |
//! | [`Store`], [`survey`], [`chosen`] | where secrets live (keyring, encrypted file, memory), and which one is used |
//! | [`Source`], [`CommandSource`] | where a value comes from, said explicitly |
//! | [`Binding`], [`Services`] | which credential may go where, and how; as data |
//! | [`Placeholder`] | what the guest holds |
//! | [`Vault`] | one sandbox: inject, refuse, scrub |
//! | [`guest_files`] | logins of the guest's tools, with placeholders |
//! | [`Scrubber`] | streaming redaction without I/O |
//!
//! Features: `secret-service` (default) for the keyring, `age-file` for an encrypted file, `keyutils` for the kernel's
//! keyring as a cache, `keychain` and `wincred` for the stores of macOS and Windows, `http` for `http::HeaderMap`, `oauth`
//! for tokens that the host renews. The stores of macOS and Windows are written against `keyring-core` and tested with its
//! mock; the crate compiles for both systems and was never run there. On systems other than Unix memory is not locked, and
//! there is neither a [`Source`] that is a file or a command nor an encrypted file.

#![deny(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::string_slice,
    clippy::cast_possible_truncation
)]

mod binding;
mod encode;
mod guest_files;
mod headers;
mod injection;
pub mod limits;
mod lock;
mod matching;
#[cfg(test)]
mod not_shown;
#[cfg(feature = "oauth")]
mod oauth;
mod placeholder;
#[cfg(unix)]
mod private_file;
mod scrub;
mod secret;
mod services;
mod sign;
mod source;
mod store;
mod target;
mod vault;

pub use binding::{Binding, Companion, Endpoint, is_credential_name, is_env_name};
pub use guest_files::{GuestFile, Login, LoginError, Tool, guest_files};
pub use headers::{BadHeader, HeaderAccess, HeaderEdit};
pub use injection::{AUTH_HEADERS, AUTH_PARAMETERS, Injection, InjectionError, Replaceable};
pub use lock::Protection;
pub use matching::{Allowed, HostPattern, Method, PathPattern, PatternError};
#[cfg(feature = "oauth")]
pub use oauth::{
    Masked, Next, OAuthError, Token, TokenEndpoint, TokenLooks, TokenRequest, TokenSource, mask_token_answer,
};
pub use placeholder::{FormatError, Placeholder, PlaceholderFormat};
pub use scrub::{ScrubSet, Scrubber};
pub use secret::{Secret, harden_process, os_clock, os_random};
pub use services::{Service, Services, ServicesError, TokenKind};
pub use sign::{
    AwsKeys, AwsScope, CanonicalStyle, ChunkError, ChunkResigner, HmacEncoding, HmacTemplate, Payload, SigV4,
    SignError, SignedHeaders, Signer, SigningRequest, hmac_sha256,
};
pub use source::{CommandSource, Source, SourceError};
#[cfg(any(feature = "keychain", feature = "wincred"))]
pub use store::KeyringCoreStore;
#[cfg(all(feature = "keyutils", target_os = "linux"))]
pub use store::KeyutilsStore;
#[cfg(feature = "secret-service")]
pub use store::SecretServiceStore;
#[cfg(all(feature = "age-file", unix))]
pub use store::{AgeFileStore, AgeKey, AskKey};
pub use store::{
    ChooseError, MemoryStore, NoStoreReason, Store, StoreError, Stored, Surveyed, chosen, survey,
};
pub use target::{Scheme, Target};
pub use vault::{
    BindError, Clock, InjectError, InjectOutcome, Place, Random, ReplacedBody, Vault, VaultBuilder,
};
