//! The TLS side towards upstreams: this machine's trust roots and extra ones, names always verified.

use std::sync::Arc;

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::{ClientConfig, RootCertStore};

use super::provider::provider;

/// Trust roots that cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum UpstreamTlsError {
    /// Not PEM, or no certificate in it.
    #[error("the extra trust roots are not PEM certificates; give a file with BEGIN CERTIFICATE blocks")]
    BadPem,
    /// A certificate that cannot be a root.
    #[error("an extra trust root cannot be used: {0}")]
    BadRoot(rustls::Error),
    /// Neither the machine nor the caller has any.
    #[error("this machine has no trust roots; install ca-certificates or give extra ones")]
    NoRoots,
    /// The TLS library refused its own defaults.
    #[error("TLS cannot be set up: {0}")]
    Tls(#[from] rustls::Error),
}

/// The default client configuration: the machine's roots (where there are some) and those of
/// `extra_roots_pem`, HTTP/1.1.
///
/// # Errors
/// [`UpstreamTlsError`].
pub fn client_config(extra_roots_pem: &[&str]) -> Result<ClientConfig, UpstreamTlsError> {
    let mut roots = RootCertStore::empty();
    // Broken entries of the machine's store are skipped, as every TLS program does.
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    for pem in extra_roots_pem {
        let mut found = false;
        for certificate in CertificateDer::pem_slice_iter(pem.as_bytes()) {
            let certificate = certificate.map_err(|_| UpstreamTlsError::BadPem)?;
            roots.add(certificate).map_err(UpstreamTlsError::BadRoot)?;
            found = true;
        }
        if !found {
            return Err(UpstreamTlsError::BadPem);
        }
    }
    if roots.is_empty() {
        return Err(UpstreamTlsError::NoRoots);
    }
    let mut config = ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()?
        .with_root_certificates(Arc::new(roots))
        .with_no_client_auth();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(config)
}
