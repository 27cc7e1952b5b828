//! Leaf certificates, minted at first use of a host and kept, with the server configuration around them.

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use rustls::ServerConfig;
use rustls::crypto::CryptoProvider;
use rustls::server::{ClientHello, ResolvesServerCert, ServerSessionMemoryCache, StoresServerSessions};
use rustls::sign::CertifiedKey;

use super::ca::{CaError, SandboxCa};
use super::provider::provider;
use crate::authority::Host;
use crate::limits::LEAF_CACHE_ENTRIES_MAX;

/// A cached leaf is minted anew after this long: well before it ends.
const LEAF_REUSE: Duration = Duration::from_secs(30 * 86_400);
/// TLS sessions kept for resumption, over all hosts.
const SESSIONS_MAX: usize = 1024;

/// The authority with what it has signed so far.
pub struct LeafCache {
    ca: SandboxCa,
    provider: Arc<CryptoProvider>,
    sessions: Arc<dyn StoresServerSessions>,
    kept: Mutex<Kept>,
    minted: AtomicU64,
}

#[derive(Default)]
struct Kept {
    by_host: HashMap<Host, (SystemTime, Arc<ServerConfig>)>,
    oldest_first: VecDeque<Host>,
}

#[derive(Debug)]
struct Fixed(Arc<CertifiedKey>);

impl ResolvesServerCert for Fixed {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.0))
    }
}

impl LeafCache {
    /// Nothing is signed yet.
    #[must_use]
    pub fn new(ca: SandboxCa) -> Self {
        let sessions = ServerSessionMemoryCache::new(SESSIONS_MAX);
        Self { ca, provider: provider(), sessions, kept: Mutex::default(), minted: AtomicU64::new(0) }
    }

    /// The authority.
    #[must_use]
    pub fn ca(&self) -> &SandboxCa {
        &self.ca
    }

    /// The configuration to answer as `host` with.
    ///
    /// # Errors
    /// [`CaError`] if a new leaf cannot be made.
    pub fn server_config(&self, host: &Host, now: SystemTime) -> Result<Arc<ServerConfig>, CaError> {
        if let Some(config) = self.lookup(host, now) {
            return Ok(config);
        }
        // Minted outside the lock: two connections may both mint, and the later one is kept.
        let config = Arc::new(self.build(host, now)?);
        self.minted.fetch_add(1, Ordering::Relaxed);
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.by_host.insert(host.clone(), (now, Arc::clone(&config))).is_none() {
            kept.oldest_first.push_back(host.clone());
        }
        if kept.oldest_first.len() > LEAF_CACHE_ENTRIES_MAX
            && let Some(oldest) = kept.oldest_first.pop_front()
        {
            kept.by_host.remove(&oldest);
        }
        Ok(config)
    }

    /// Leaves made so far.
    #[must_use]
    pub fn minted(&self) -> u64 {
        self.minted.load(Ordering::Relaxed)
    }

    fn lookup(&self, host: &Host, now: SystemTime) -> Option<Arc<ServerConfig>> {
        let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let (minted, config) = kept.by_host.get(host)?;
        let age = now.duration_since(*minted).unwrap_or_default();
        (age < LEAF_REUSE).then(|| Arc::clone(config))
    }

    fn build(&self, host: &Host, now: SystemTime) -> Result<ServerConfig, CaError> {
        let key = Arc::new(self.ca.mint(host, now)?);
        let mut config = ServerConfig::builder_with_provider(Arc::clone(&self.provider))
            .with_safe_default_protocol_versions()?
            .with_no_client_auth()
            .with_cert_resolver(Arc::new(Fixed(key)));
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        config.session_storage = Arc::clone(&self.sessions);
        // One ticket: most clients here make one connection and never resume.
        config.send_tls13_tickets = 1;
        Ok(config)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cache() -> LeafCache {
        LeafCache::new(SandboxCa::generate("test", SystemTime::now()).unwrap())
    }

    #[test]
    fn a_leaf_is_minted_once_and_again_after_its_reuse_time() {
        let (cache, now) = (cache(), SystemTime::now());
        let host = Host::parse("a.example").unwrap();
        let first = cache.server_config(&host, now).unwrap();
        assert!(Arc::ptr_eq(&first, &cache.server_config(&host, now).unwrap()));
        let later = cache.server_config(&host, now + LEAF_REUSE).unwrap();
        assert!(!Arc::ptr_eq(&first, &later));
        assert_eq!(cache.minted(), 2);
    }

    #[test]
    fn the_cache_is_bounded() {
        let (cache, now) = (cache(), SystemTime::now());
        for n in 0..=LEAF_CACHE_ENTRIES_MAX {
            cache.server_config(&Host::parse(&format!("h{n}.example")).unwrap(), now).unwrap();
        }
        let kept = cache.kept.lock().unwrap();
        assert_eq!(kept.by_host.len(), LEAF_CACHE_ENTRIES_MAX);
        assert!(!kept.by_host.contains_key(&Host::parse("h0.example").unwrap()));
    }
}
