//! TLS on both sides: the sandbox's own certificate authority towards the guest, strict verification
//! towards the upstream. The authority lives in memory only and dies with its sandbox.

mod ca;
mod client_auth;
mod leaf;
mod provider;
mod upstream;

pub use ca::{CaError, SandboxCa};
pub use client_auth::ClientCertificateError;
pub(crate) use client_auth::ClientCertificates;
// For the bench of it alone.
#[doc(hidden)]
pub use leaf::LeafCache;
pub use upstream::{UpstreamTlsError, client_config};
