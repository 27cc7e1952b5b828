//! The machine's own addresses, read again when they may have changed: a laptop changes networks, an IPv6 address
//! its suffix.

use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use crate::guard::LocalNetwork;
use crate::limits::LOCAL_NETWORK_AGE;

/// Says what is near.
pub type Read = Box<dyn Fn() -> io::Result<LocalNetwork> + Send + Sync>;

/// What was last read, and how to read it again.
pub struct Local {
    read: Read,
    kept: Mutex<(Instant, Arc<LocalNetwork>)>,
    failures: AtomicU64,
}

impl Local {
    /// Reads once: without any knowledge of what is near, nothing may be dialled.
    pub fn new(read: Read) -> io::Result<Self> {
        let first = Arc::new(read()?);
        Ok(Self { read, kept: Mutex::new((Instant::now(), first)), failures: AtomicU64::new(0) })
    }

    /// What is near, not older than [`LOCAL_NETWORK_AGE`]; older only where it cannot be read any more.
    pub fn get(&self, now: Instant) -> Arc<LocalNetwork> {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        if now.saturating_duration_since(kept.0) >= LOCAL_NETWORK_AGE {
            kept.0 = now;
            match (self.read)() {
                Ok(network) => kept.1 = Arc::new(network),
                Err(_) => {
                    self.failures.fetch_add(1, Ordering::Relaxed);
                }
            }
        }
        Arc::clone(&kept.1)
    }

    /// How often it could not be read since, so that what was read before was kept.
    pub fn failures(&self) -> u64 {
        self.failures.load(Ordering::Relaxed)
    }
}

impl LocalNetwork {
    /// As the system says: one call, which takes no longer than a dialled connection's own.
    ///
    /// # Errors
    /// The system's error: on Linux where a sandbox around this program forbids netlink sockets.
    pub fn of_this_machine() -> io::Result<Self> {
        let interfaces = if_addrs::get_if_addrs()?;
        Ok(interfaces.iter().fold(Self::default(), |network, interface| {
            let bits = match &interface.addr {
                if_addrs::IfAddr::V4(v4) => v4.prefixlen,
                if_addrs::IfAddr::V6(v6) => v6.prefixlen,
            };
            network.with_interface(interface.ip(), bits)
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::IpAddr;
    use std::sync::atomic::AtomicU8;

    #[test]
    fn it_is_read_again_when_it_is_old_and_kept_when_that_fails() {
        let reads = Arc::new(AtomicU8::new(0));
        let counted = Arc::clone(&reads);
        let read = move || match counted.fetch_add(1, Ordering::Relaxed) {
            1 => Err(io::ErrorKind::PermissionDenied.into()),
            n => Ok(LocalNetwork::default().with_interface(IpAddr::from([1, 1, 1, n]), 32)),
        };
        let local = Local::new(Box::new(read)).unwrap();
        let start = Instant::now();
        let knows = |after, last| local.get(start + after).place(IpAddr::from([1, 1, 1, last])).is_some();
        assert!(knows(LOCAL_NETWORK_AGE / 2, 0));
        assert_eq!(reads.load(Ordering::Relaxed), 1);
        assert!(knows(LOCAL_NETWORK_AGE * 2, 0));
        assert_eq!((reads.load(Ordering::Relaxed), local.failures()), (2, 1));
        // One that failed is not repeated for every connection either.
        assert!(knows(LOCAL_NETWORK_AGE * 2, 0));
        assert!(knows(LOCAL_NETWORK_AGE * 3, 2));
        assert_eq!((reads.load(Ordering::Relaxed), local.failures()), (3, 1));
        assert!(Local::new(Box::new(|| Err(io::ErrorKind::PermissionDenied.into()))).is_err());
    }

    #[test]
    fn this_machine_has_its_loopback() {
        let network = LocalNetwork::of_this_machine().unwrap();
        assert_eq!(network.place(IpAddr::from([127, 0, 0, 1])), Some("an address of this machine"));
    }
}
