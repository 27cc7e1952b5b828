//! The one place that names a cryptography library.

use std::sync::Arc;

use rustls::crypto::CryptoProvider;

#[cfg(not(any(feature = "aws-lc-rs", feature = "ring")))]
compile_error!("netproxy's feature `shell` needs `aws-lc-rs` (the default) or `ring`");

/// The provider that this build was made with. Never the process-wide default: that one is not ours to set.
#[cfg(feature = "aws-lc-rs")]
pub fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::aws_lc_rs::default_provider())
}

/// The provider that this build was made with. Never the process-wide default: that one is not ours to set.
#[cfg(all(feature = "ring", not(feature = "aws-lc-rs")))]
pub fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}
