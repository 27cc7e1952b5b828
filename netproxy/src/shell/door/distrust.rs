//! Clients that do not trust the sandbox's certificate authority: they cannot read an answer inside TLS, and most try
//! again. Each alert is answered once, where it can be: to the next `CONNECT` to that host, in the clear.
//!
//! Clients are not told apart, so one that trusts may get the answer in the place of one that does not: once for an
//! alert, and only for a short time.

use std::collections::VecDeque;
use std::io;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use rustls::AlertDescription as Alert;

use crate::authority::Host;
use crate::limits::{DISTRUST_ALERTS_MAX, DISTRUST_ALERTS_PER_HOST_MAX, DISTRUST_REMEMBERED};

/// Alerts that are not answered yet, oldest first.
#[derive(Default)]
pub struct Distrust(Mutex<VecDeque<(Instant, Host)>>);

impl Distrust {
    /// Remembers that a client that asked for `host` ended its TLS handshake so, if that is what the error says.
    pub fn note(&self, host: &Host, error: &io::Error, now: Instant) {
        if !says_so(error) {
            return;
        }
        let mut alerts = self.current(now);
        let same = alerts.iter().filter(|(_, one)| one == host).count();
        let dropped = match same < DISTRUST_ALERTS_PER_HOST_MAX {
            true => (alerts.len() >= DISTRUST_ALERTS_MAX).then_some(0),
            false => alerts.iter().position(|(_, one)| one == host),
        };
        dropped.map(|at| alerts.remove(at));
        alerts.push_back((now, host.clone()));
    }

    /// Whether a client that asks for `host` is to be answered in the clear. That is one alert less.
    pub fn take(&self, host: &Host, now: Instant) -> bool {
        let mut alerts = self.current(now);
        let found = alerts.iter().position(|(_, one)| one == host);
        found.and_then(|at| alerts.remove(at)).is_some()
    }

    fn current(&self, now: Instant) -> MutexGuard<'_, VecDeque<(Instant, Host)>> {
        let mut alerts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        while alerts.front().is_some_and(|(at, _)| now.saturating_duration_since(*at) >= DISTRUST_REMEMBERED)
        {
            alerts.pop_front();
        }
        alerts
    }
}

/// Whether a handshake failed because the client does not take our certificate: OpenSSL says `unknown_ca`, Go
/// `bad_certificate`, Java `certificate_unknown`. (Node says nothing: it ends the handshake, and then the connection.)
fn says_so(error: &io::Error) -> bool {
    let tls = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
    matches!(
        tls,
        Some(rustls::Error::AlertReceived(
            Alert::UnknownCA | Alert::BadCertificate | Alert::CertificateUnknown
        ))
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn host(text: &str) -> Host {
        Host::parse(text).unwrap()
    }

    fn failed(alert: Alert) -> io::Error {
        io::Error::new(io::ErrorKind::InvalidData, rustls::Error::AlertReceived(alert))
    }

    #[test]
    fn each_alert_of_distrust_is_answered_once_for_its_host_and_in_time() {
        let (distrust, start) = (Distrust::default(), Instant::now());
        let [a, b] = ["a.example", "b.example"].map(host);
        for error in
            [failed(Alert::HandshakeFailure), failed(Alert::CloseNotify), io::ErrorKind::UnexpectedEof.into()]
        {
            distrust.note(&a, &error, start);
            assert!(!distrust.take(&a, start), "{error}");
        }
        for alert in [Alert::UnknownCA, Alert::BadCertificate, Alert::CertificateUnknown] {
            distrust.note(&a, &failed(alert), start);
            assert_eq!(
                [&b, &a, &a].map(|host| distrust.take(host, start)),
                [false, true, false],
                "{alert:?}"
            );
        }
        distrust.note(&a, &failed(Alert::UnknownCA), start);
        assert!(!distrust.take(&a, start + DISTRUST_REMEMBERED));
        distrust.note(&a, &failed(Alert::UnknownCA), start);
        assert!(distrust.take(&a, start + DISTRUST_REMEMBERED - Duration::from_millis(1)));
    }

    #[test]
    fn few_are_remembered_for_a_host_and_over_all() {
        let (distrust, now) = (Distrust::default(), Instant::now());
        for _ in 0..100 {
            distrust.note(&host("a.example"), &failed(Alert::UnknownCA), now);
        }
        let answered = (0..100).filter(|_| distrust.take(&host("a.example"), now)).count();
        assert_eq!(answered, DISTRUST_ALERTS_PER_HOST_MAX);
        for n in 0..10 * DISTRUST_ALERTS_MAX {
            distrust.note(&host(&format!("h{n}.example")), &failed(Alert::UnknownCA), now);
        }
        assert_eq!(distrust.0.lock().unwrap().len(), DISTRUST_ALERTS_MAX);
        assert!(distrust.take(&host(&format!("h{}.example", 10 * DISTRUST_ALERTS_MAX - 1)), now));
    }
}
