//! A certificate authority for one sandbox: P-256, in memory, valid from yesterday since guest clocks lag.
//!
//! It never signs with its key for anything but leaves for hosts, never writes its key anywhere, and never
//! uses its key as a leaf key.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::SystemTime;

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer,
    KeyPair, KeyUsagePurpose, PKCS_ECDSA_P256_SHA256, SanType, SerialNumber,
};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::sign::{CertifiedKey, SigningKey};
use time::{Duration, OffsetDateTime};

use super::provider::provider;
use crate::authority::Host;

/// How far before "now" certificates start to be valid, in hours: a fresh guest's clock may be behind.
const BACKDATE_HOURS: i64 = 24;
/// Lifetime of the authority, in days.
const CA_DAYS: i64 = 397;
/// Lifetime of a leaf, in days: below the 197 that browsers accept.
const LEAF_DAYS: i64 = 90;
/// Longest common name of RFC 5280 (`ub-common-name`), in characters.
const COMMON_NAME_CHARS_MAX: usize = 64;

/// A certificate could not be made.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CaError {
    /// The certificate library refused.
    #[error("the sandbox's certificate authority cannot make a certificate: {0}")]
    Certificate(#[from] rcgen::Error),
    /// The TLS library refused the key.
    #[error("the sandbox's certificate authority cannot load its key: {0}")]
    Key(#[from] rustls::Error),
    /// No randomness.
    #[error("the operating system gives no random bytes for a serial number")]
    Random,
    /// The clock is outside what a certificate can say.
    #[error("the system clock is out of range for a certificate")]
    Clock,
}

/// The authority of one sandbox, and the one key that all its leaves share.
pub struct SandboxCa {
    issuer: Issuer<'static, KeyPair>,
    certificate: CertificateDer<'static>,
    certificate_pem: String,
    leaf_key: KeyPair,
    leaf_signer: Arc<dyn SigningKey>,
}

impl SandboxCa {
    /// Makes a new authority; `name` (a sandbox's, say) is shown in its subject.
    ///
    /// # Errors
    /// [`CaError`], in practice only without randomness.
    pub fn generate(name: &str, now: SystemTime) -> Result<Self, CaError> {
        let mut params = CertificateParams::default();
        params.distinguished_name = distinguished_name(&format!("agent-sandbox CA {name}"));
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        params.serial_number = Some(serial_number()?);
        (params.not_before, params.not_after) = validity(now, CA_DAYS)?;
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
        let certificate = params.self_signed(&key)?;

        let leaf_key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
        let leaf_der = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(leaf_key.serialize_der()));
        let leaf_signer = provider().key_provider.load_private_key(leaf_der)?;
        Ok(Self {
            certificate_pem: certificate.pem(),
            certificate: certificate.der().clone(),
            issuer: Issuer::new(params, key),
            leaf_key,
            leaf_signer,
        })
    }

    /// The authority's certificate, for the guest's trust stores.
    #[must_use]
    pub fn certificate_pem(&self) -> &str {
        &self.certificate_pem
    }

    /// Signs a certificate for `host`: a DNS name or an IP address in the right kind of SAN.
    pub(crate) fn mint(&self, host: &Host, now: SystemTime) -> Result<CertifiedKey, CaError> {
        let mut params = CertificateParams::default();
        let text = match host {
            Host::Name(name) => name.to_string(),
            Host::Ip(ip) => ip.to_string(),
        };
        params.subject_alt_names = vec![subject_alt_name(host)?];
        params.distinguished_name =
            distinguished_name(if text.len() > COMMON_NAME_CHARS_MAX { "agent-sandbox leaf" } else { &text });
        params.is_ca = IsCa::ExplicitNoCa;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        // Python's VERIFY_X509_STRICT wants it.
        params.use_authority_key_identifier_extension = true;
        // Random: the library's default is made from the key, which all leaves share.
        params.serial_number = Some(serial_number()?);
        (params.not_before, params.not_after) = validity(now, LEAF_DAYS)?;
        let leaf = params.signed_by(&self.leaf_key, &self.issuer)?;
        let chain = vec![leaf.der().clone(), self.certificate.clone()];
        Ok(CertifiedKey::new(chain, Arc::clone(&self.leaf_signer)))
    }
}

fn subject_alt_name(host: &Host) -> Result<SanType, CaError> {
    Ok(match host {
        Host::Name(name) => SanType::DnsName(name.as_str().try_into()?),
        Host::Ip(IpAddr::V4(ip)) => SanType::IpAddress(IpAddr::V4(*ip)),
        Host::Ip(IpAddr::V6(ip)) => SanType::IpAddress(IpAddr::V6(*ip)),
    })
}

fn distinguished_name(common_name: &str) -> DistinguishedName {
    let mut name = DistinguishedName::new();
    let short: String = common_name.chars().take(COMMON_NAME_CHARS_MAX).collect();
    name.push(DnType::CommonName, short);
    name
}

fn serial_number() -> Result<SerialNumber, CaError> {
    let mut bytes = [0u8; 16];
    getrandom::fill(&mut bytes).map_err(|_| CaError::Random)?;
    // RFC 5280 §4.1.2.2: positive, not zero.
    let [first, ..] = &mut bytes;
    *first = (*first & 0x7f) | 0x40;
    Ok(SerialNumber::from_slice(&bytes))
}

fn validity(now: SystemTime, days: i64) -> Result<(OffsetDateTime, OffsetDateTime), CaError> {
    let now = OffsetDateTime::from(now);
    let start = now.checked_sub(Duration::hours(BACKDATE_HOURS)).ok_or(CaError::Clock)?;
    let end = now.checked_add(Duration::days(days)).ok_or(CaError::Clock)?;
    Ok((start, end))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 2027-01-15, 08:00:00.
    const NOW_S: u64 = 1_800_000_000;
    /// BasicConstraints, critical: an authority, and none below it (RFC 5280 §4.2.1.9).
    const NONE_BELOW: &[u8] = b"\x06\x03\x55\x1d\x13\x01\x01\xff\x04\x08\x30\x06\x01\x01\xff\x02\x01\x00";
    /// The beginning of SubjectKeyIdentifier, of 20 bytes (§4.2.1.2).
    const OWN_KEY: &[u8] = b"\x06\x03\x55\x1d\x0e\x04\x16\x04\x14";
    /// The beginning of AuthorityKeyIdentifier, which names a key in 20 bytes (§4.2.1.1).
    const KEY_OF_ISSUER: &[u8] = b"\x06\x03\x55\x1d\x23\x04\x18\x30\x16\x80\x14";

    /// The 20 bytes after these.
    fn after(der: &[u8], start: &[u8]) -> Option<[u8; 20]> {
        let at = der.windows(start.len()).position(|bytes| bytes == start)?;
        der.get(at + start.len()..)?.first_chunk().copied()
    }

    /// The authority, and one leaf.
    fn made() -> [CertificateDer<'static>; 2] {
        let now = SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(NOW_S);
        let ca = SandboxCa::generate("test", now).unwrap();
        let leaf = ca.mint(&Host::parse("a.example").unwrap(), now).unwrap().cert.remove(0);
        [ca.certificate.clone(), leaf]
    }

    #[test]
    fn no_authority_can_be_below_it() {
        let [ca, leaf] = made();
        assert!(ca.windows(NONE_BELOW.len()).any(|bytes| bytes == NONE_BELOW));
        assert!(!leaf.windows(NONE_BELOW.len()).any(|bytes| bytes == NONE_BELOW));
    }

    #[test]
    fn certificates_are_valid_for_a_guest_whose_clock_is_a_day_behind() {
        for der in made() {
            // The first time in it is the one from when it is valid (§4.1.2.5.1).
            let at = der.windows(2).position(|bytes| bytes == b"\x17\x0d").unwrap();
            assert_eq!(String::from_utf8_lossy(&der[at + 2..at + 15]), "270114080000Z");
        }
    }

    #[test]
    fn a_leaf_names_the_key_that_it_is_signed_with() {
        let [ca, leaf] = made();
        let (own, named) = (after(&ca, OWN_KEY), after(&leaf, KEY_OF_ISSUER));
        assert!(named.is_some() && named == own, "{own:?} {named:?}");
    }
}
