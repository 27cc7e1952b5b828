//! What names resolved to, for the lifetime of a DNS answer. Kept before it is judged: the policy may change
//! meanwhile, and is asked for every answer. Connections do not use it: they resolve, judge and dial for themselves.

use std::net::IpAddr;
use std::time::{Duration, Instant};

use super::recent::Recent;
use crate::authority::HostName;
use crate::hooks::ResolveError;
use crate::limits::{DNS_CACHE_NAMES_MAX, DNS_NEGATIVE_TTL_S_MAX};

/// Addresses, or that there are none.
pub type Resolved = Result<Vec<IpAddr>, ResolveError>;

/// What was resolved of late.
#[derive(Debug)]
pub struct Cache {
    kept: Recent<HostName, (Instant, Resolved)>,
    ttl_s: u32,
}

impl Cache {
    /// Keeps addresses for `ttl_s` seconds, and that a name does not exist for at most a few.
    #[must_use]
    pub fn new(ttl_s: u32) -> Self {
        Self { kept: Recent::new(DNS_CACHE_NAMES_MAX), ttl_s }
    }

    /// What `name` resolved to, and for how many whole seconds that still holds.
    pub fn get(&mut self, name: &HostName, now: Instant) -> Option<(Resolved, u32)> {
        let (end, resolved) = self.kept.get(name)?;
        let left = end.checked_duration_since(now)?.as_secs();
        let left = u32::try_from(left).ok().filter(|seconds| *seconds > 0)?;
        Some((resolved.clone(), left))
    }

    /// Keeps what `name` resolved to. Failures that may pass are not kept.
    pub fn put(&mut self, name: &HostName, resolved: &Resolved, now: Instant) {
        let ttl_s = match resolved {
            Ok(_) => self.ttl_s,
            Err(ResolveError::NotFound) => self.ttl_s.min(DNS_NEGATIVE_TTL_S_MAX),
            Err(_) => return,
        };
        if let Some(end) = now.checked_add(Duration::from_secs(u64::from(ttl_s))) {
            self.kept.insert(name.clone(), (end, resolved.clone()));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::authority::Host;

    #[test]
    fn answers_are_kept_for_their_time_and_failures_are_not() {
        let Ok(Host::Name(name)) = Host::parse("a.example") else { panic!() };
        let mut cache = Cache::new(30);
        let start = Instant::now();
        let after = |seconds| start + Duration::from_secs(seconds);
        let found: Resolved = Ok(vec!["192.0.2.1".parse().unwrap()]);
        assert_eq!(cache.get(&name, start), None);
        cache.put(&name, &found, start);
        assert_eq!(cache.get(&name, start), Some((found.clone(), 30)));
        assert_eq!(cache.get(&name, after(29)), Some((found, 1)));
        assert_eq!(cache.get(&name, after(30)), None);
        cache.put(&name, &Err(ResolveError::NotFound), start);
        assert!(cache.get(&name, after(4)).is_some());
        assert_eq!(cache.get(&name, after(5)), None);
        cache.put(&name, &Err(ResolveError::Timeout), after(6));
        assert_eq!(cache.get(&name, after(6)), None);
    }
}
