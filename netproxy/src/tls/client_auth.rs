//! Certificates of our own, shown to chosen hosts that ask for one, and to no other: a certificate tells every
//! server that sees it who we are.

use std::collections::BTreeMap;
use std::sync::Arc;

use rustls::ClientConfig;
use rustls::client::{ResolvesClientCert, Resumption};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::{CertifiedKey, SingleCertAndKey};

use super::provider::provider;
use crate::authority::Host;

/// A client certificate that cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ClientCertificateError {
    /// Not PEM, or no certificate in it.
    #[error(
        "the client certificate for {host} is not PEM; give a file with BEGIN CERTIFICATE blocks, the leaf first"
    )]
    BadCertificate {
        /// The host it is for.
        host: Host,
    },
    /// Not PEM, no private key in it, or an encrypted one.
    #[error(
        "the key of the client certificate for {host} is not PEM; give a file with an unencrypted PRIVATE KEY"
    )]
    BadKey {
        /// The host it is for.
        host: Host,
    },
    /// A key that does not fit, or of an unknown kind.
    #[error("the client certificate for {host} cannot be used: {error}")]
    Unusable {
        /// The host it is for.
        host: Host,
        /// What the TLS library says.
        error: rustls::Error,
    },
}

/// Which host is shown which certificate.
#[derive(Default)]
pub(crate) struct ClientCertificates {
    by_host: BTreeMap<Host, Arc<dyn ResolvesClientCert>>,
}

impl ClientCertificates {
    /// Shows this certificate to `host`, in place of an earlier one.
    pub fn add(&mut self, host: Host, chain_pem: &str, key_pem: &str) -> Result<(), ClientCertificateError> {
        let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(chain_pem.as_bytes()).collect();
        let Some(chain) = chain.ok().filter(|chain| !chain.is_empty()) else {
            return Err(ClientCertificateError::BadCertificate { host });
        };
        let Ok(key) = PrivateKeyDer::from_pem_slice(key_pem.as_bytes()) else {
            return Err(ClientCertificateError::BadKey { host });
        };
        match CertifiedKey::from_der(chain, key, &provider()) {
            Ok(certified) => {
                self.by_host.insert(host, Arc::new(SingleCertAndKey::from(certified)));
                Ok(())
            }
            Err(error) => Err(ClientCertificateError::Unusable { host, error }),
        }
    }

    /// Whether `host` is to be shown one.
    pub fn has(&self, host: &Host) -> bool {
        self.by_host.contains_key(host)
    }

    /// `config` as it is for every other host, and with the certificate for one that is to be shown it.
    pub fn config_for(&self, host: &Host, config: &Arc<ClientConfig>) -> Arc<ClientConfig> {
        match self.by_host.get(host) {
            None => Arc::clone(config),
            Some(certificate) => {
                let mut with = ClientConfig::clone(config);
                with.client_auth_cert_resolver = Arc::clone(certificate);
                // A session that was resumed would not say who we are now.
                with.resumption = Resumption::disabled();
                Arc::new(with)
            }
        }
    }
}
