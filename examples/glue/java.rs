//! What Java wants: it reads no proxy variable and no PEM file, but options from `JAVA_TOOL_OPTIONS` and a trust
//! store in a format of its own. JKS is written here, as it is the one that every JDK reads without a password.

use std::net::SocketAddr;
use std::path::Path;

use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;

/// The variable that every JVM reads.
pub const VARIABLE: &str = "JAVA_TOOL_OPTIONS";

/// `keystore.type` JKS, version 2.
const MAGIC_AND_VERSION: [u8; 8] = [0xfe, 0xed, 0xfe, 0xed, 0, 0, 0, 2];
/// Entry with one certificate and no key.
const TRUSTED_CERTIFICATE: u32 = 2;
/// A keyed SHA-1 at the end. Without a password it is not looked at: this is a list of public certificates.
const UNCHECKED_DIGEST: [u8; 20] = [0; 20];

/// The certificates of a PEM text as a trust store. What is no certificate is left out.
#[must_use]
pub fn trust_store(pem: &[u8]) -> Vec<u8> {
    let certificates: Vec<_> = CertificateDer::pem_slice_iter(pem).flatten().collect();
    let mut store = MAGIC_AND_VERSION.to_vec();
    push_length(&mut store, certificates.len());
    for (number, certificate) in certificates.iter().enumerate() {
        store.extend(TRUSTED_CERTIFICATE.to_be_bytes());
        push_text(&mut store, &format!("certificate-{number}"));
        // Date of the entry: nobody asks.
        store.extend([0; 8]);
        push_text(&mut store, "X.509");
        push_length(&mut store, certificate.len());
        store.extend(certificate.as_ref());
    }
    store.extend(UNCHECKED_DIGEST);
    store
}

/// Value of [`VARIABLE`] for a proxy and, if given, its trust store.
#[must_use]
pub fn options(proxy: SocketAddr, trust_store: Option<&Path>) -> String {
    let (host, port) = (proxy.ip(), proxy.port());
    let proxies =
        ["http", "https"].map(|kind| format!("-D{kind}.proxyHost={host} -D{kind}.proxyPort={port}"));
    let store = trust_store.map(|path| format!(" -Djavax.net.ssl.trustStore=\"{}\"", path.display()));
    proxies.join(" ") + &store.unwrap_or_default()
}

fn push_length(store: &mut Vec<u8>, length: usize) {
    store.extend(u32::try_from(length).unwrap_or(u32::MAX).to_be_bytes());
}

/// Only for short ASCII texts: `DataOutput.writeUTF`.
fn push_text(store: &mut Vec<u8>, text: &str) {
    store.extend(u16::try_from(text.len()).unwrap_or(u16::MAX).to_be_bytes());
    store.extend(text.as_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_store_counts_its_certificates_and_leaves_out_the_rest() {
        let pem = "-----BEGIN CERTIFICATE-----\nAAEC\n-----END CERTIFICATE-----\n";
        let key = "-----BEGIN PRIVATE KEY-----\nAAEC\n-----END PRIVATE KEY-----\n";
        let store = trust_store(format!("{pem}{key}{pem}").as_bytes());
        assert_eq!(store[8..12], [0, 0, 0, 2]);
        assert_eq!(store.windows(3).filter(|bytes| *bytes == [0, 1, 2]).count(), 2);
        assert_eq!(trust_store(b"").len(), 8 + 4 + 20);
    }

    #[test]
    fn options_name_proxy_and_store() {
        let text = options("127.0.0.1:3128".parse().unwrap(), Some(Path::new("/a b/ca.jks")));
        assert!(text.contains("-Dhttps.proxyHost=127.0.0.1 -Dhttps.proxyPort=3128"), "{text}");
        assert!(text.ends_with("-Djavax.net.ssl.trustStore=\"/a b/ca.jks\""), "{text}");
    }
}
