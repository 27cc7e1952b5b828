//! Counts of what the proxy did, in Prometheus' text format (0.0.4). Fed by the records of the audit log, so that the
//! two cannot disagree. Labels come from fixed sets: never a host, a path or a rule, of which a guest could make
//! as many as it likes.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use crate::audit::{Layer, Outcome, Record};

/// Upper bounds of the histogram's buckets, in milliseconds: from a refusal to a model that thinks.
const BUCKETS_MS: [u32; 12] = [1, 5, 10, 25, 50, 100, 250, 500, 1000, 5000, 30_000, 120_000];

/// The counters of one sandbox. Counting takes no lock, but for errors.
#[derive(Default)]
pub struct Metrics {
    decisions: [[AtomicU64; Outcome::ALL.len()]; Layer::ALL.len()],
    /// By code: as many as the program has.
    errors: Mutex<BTreeMap<&'static str, u64>>,
    bytes_up: AtomicU64,
    bytes_down: AtomicU64,
    redactions: AtomicU64,
    credentials: AtomicU64,
    upstream_opened: AtomicU64,
    /// As the embedder counts; 0 until it says so.
    policy_generation: AtomicU64,
    upstream_reused: AtomicU64,
    tunnels: AtomicU64,
    /// Exchanges by the first bucket they fit into; the last holds the rest.
    durations: [AtomicU64; BUCKETS_MS.len() + 1],
    duration_us: AtomicU64,
}

impl Metrics {
    /// Counts one record.
    pub fn count(&self, record: &Record) {
        let layer = Layer::ALL.iter().position(|one| *one == record.layer);
        let outcome = Outcome::ALL.iter().position(|one| *one == record.verdict);
        if let (Some(layer), Some(outcome)) = (layer, outcome)
            && let Some(count) = self.decisions.get(layer).and_then(|row| row.get(outcome))
        {
            add(count, 1);
        }
        if let Some(error) = record.error {
            let mut errors = self.errors.lock().unwrap_or_else(PoisonError::into_inner);
            let count = errors.entry(error).or_default();
            *count = count.wrapping_add(1);
        }
        add(&self.bytes_up, record.bytes_up);
        add(&self.bytes_down, record.bytes_down);
        add(&self.redactions, record.redactions);
        add(&self.credentials, u64::from(record.credential.is_some()));
        let bucket = BUCKETS_MS.iter().position(|most| record.ms_total <= f64::from(*most));
        if let Some(count) = self.durations.get(bucket.unwrap_or(BUCKETS_MS.len())) {
            add(count, 1);
        }
        add(&self.duration_us, microseconds(record.ms_total));
    }

    /// The policy of this generation is in force.
    pub fn policy_generation(&self, generation: u64) {
        self.policy_generation.store(generation, Ordering::Relaxed);
    }

    /// Counts a connection to an upstream.
    pub fn upstream_opened(&self) {
        add(&self.upstream_opened, 1);
    }

    /// Counts a request that went over a connection which was open already.
    pub fn upstream_reused(&self) {
        add(&self.upstream_reused, 1);
    }

    /// Counts a tunnel as long as what is returned lives.
    #[must_use]
    pub fn open_tunnel(&self) -> OpenTunnel<'_> {
        add(&self.tunnels, 1);
        OpenTunnel(self)
    }

    /// All of it as text; `clients` are connected now, so many `leaves` were minted, and so often what is near could not
    /// be read again (`unread`).
    #[must_use]
    pub fn text(&self, clients: usize, leaves: u64, unread: u64) -> String {
        let mut out = Text::default();
        out.family("decisions_total", "counter", "Refusals and finished exchanges, names and tunnels.");
        for (layer, row) in Layer::ALL.iter().zip(&self.decisions) {
            for (outcome, count) in Outcome::ALL.iter().zip(row) {
                let labels = format!("{{layer=\"{}\",verdict=\"{}\"}}", layer.as_str(), outcome.as_str());
                out.sample(&format!("decisions_total{labels}"), get(count));
            }
        }
        out.family("errors_total", "counter", "Refusals and failures by the code of the audit log.");
        for (code, count) in self.errors.lock().unwrap_or_else(PoisonError::into_inner).iter() {
            out.sample(&format!("errors_total{{error=\"{code}\"}}"), *count);
        }
        out.family("bytes_total", "counter", "Bytes of bodies and tunnels.");
        out.sample("bytes_total{direction=\"up\"}", get(&self.bytes_up));
        out.sample("bytes_total{direction=\"down\"}", get(&self.bytes_down));
        for (name, help, count) in [
            ("redactions_total", "Secrets removed from responses.", &self.redactions),
            ("credentials_total", "Requests that a credential was put into.", &self.credentials),
            ("upstream_connections_total", "Connections opened to upstreams.", &self.upstream_opened),
            (
                "upstream_reused_total",
                "Requests over connections that were open already.",
                &self.upstream_reused,
            ),
            ("leaf_certificates_total", "Certificates made for hosts.", &AtomicU64::new(leaves)),
            (
                "local_network_failures_total",
                "Times that this machine's addresses could not be read, and older ones were kept.",
                &AtomicU64::new(unread),
            ),
        ] {
            out.family(name, "counter", help);
            out.sample(name, get(count));
        }
        out.family("client_connections", "gauge", "Client connections open now.");
        out.sample("client_connections", u64::try_from(clients).unwrap_or(u64::MAX));
        out.family(
            "policy_generation",
            "gauge",
            "The policy in force, counted up with each load; 0: not counted.",
        );
        out.sample("policy_generation", get(&self.policy_generation));
        out.family("tunnels", "gauge", "Tunnels open now: connections whose bytes are passed on unread.");
        out.sample("tunnels", get(&self.tunnels));
        self.write_durations(&mut out);
        out.0
    }

    fn write_durations(&self, out: &mut Text) {
        out.family("duration_seconds", "histogram", "From a decision to the end of what it was about.");
        let mut sum = 0u64;
        for (most, count) in BUCKETS_MS.iter().zip(&self.durations) {
            sum = sum.wrapping_add(get(count));
            out.sample(&format!("duration_seconds_bucket{{le=\"{}\"}}", f64::from(*most) / 1000.0), sum);
        }
        sum = sum.wrapping_add(self.durations.last().map_or(0, get));
        out.sample("duration_seconds_bucket{le=\"+Inf\"}", sum);
        let seconds = std::time::Duration::from_micros(get(&self.duration_us)).as_secs_f64();
        let _ = writeln!(out.0, "{PREFIX}duration_seconds_sum {seconds}");
        out.sample("duration_seconds_count", sum);
    }
}

/// A tunnel that is open.
pub struct OpenTunnel<'a>(&'a Metrics);

impl Drop for OpenTunnel<'_> {
    fn drop(&mut self) {
        self.0.tunnels.fetch_sub(1, Ordering::Relaxed);
    }
}

const PREFIX: &str = "agent_sandbox_proxy_";

/// The text format, line by line. Writing into a `String` cannot fail.
#[derive(Default)]
struct Text(String);

impl Text {
    fn family(&mut self, name: &str, kind: &str, help: &str) {
        let _ = writeln!(self.0, "# HELP {PREFIX}{name} {help}\n# TYPE {PREFIX}{name} {kind}");
    }

    fn sample(&mut self, name: &str, value: u64) {
        let _ = writeln!(self.0, "{PREFIX}{name} {value}");
    }
}

fn add(counter: &AtomicU64, amount: u64) {
    counter.fetch_add(amount, Ordering::Relaxed);
}

fn get(counter: &AtomicU64) -> u64 {
    counter.load(Ordering::Relaxed)
}

fn microseconds(ms: f64) -> u64 {
    let seconds = (ms / 1000.0).max(0.0);
    let duration = std::time::Duration::try_from_secs_f64(seconds).unwrap_or_default();
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use std::time::UNIX_EPOCH;

    use super::*;
    use crate::id::DecisionId;

    #[test]
    fn records_are_counted_where_they_belong() {
        let metrics = Metrics::default();
        let mut record = Record::new(UNIX_EPOCH, DecisionId::new(0, [0; 10]), Layer::Http, Outcome::Allow);
        (record.bytes_up, record.bytes_down, record.redactions) = (3, 40, 2);
        record.ms_total = 7.5;
        record.credential = Some("KEY".into());
        metrics.count(&record);
        metrics.count(&record);
        record.verdict = Outcome::Deny;
        record.error = Some("blocked_by_policy");
        record.ms_total = 500_000.0;
        metrics.count(&record);
        metrics.policy_generation(4);
        metrics.upstream_reused();
        (0..2).for_each(|_| metrics.upstream_opened());
        let _open = metrics.open_tunnel();
        drop(metrics.open_tunnel());
        let text = metrics.text(5, 4, 3);
        for line in [
            "decisions_total{layer=\"http\",verdict=\"allow\"} 2",
            "decisions_total{layer=\"http\",verdict=\"deny\"} 1",
            "decisions_total{layer=\"dns\",verdict=\"deny\"} 0",
            "errors_total{error=\"blocked_by_policy\"} 1",
            "bytes_total{direction=\"up\"} 9",
            "bytes_total{direction=\"down\"} 120",
            "redactions_total 6",
            "credentials_total 3",
            "upstream_connections_total 2",
            "upstream_reused_total 1",
            "leaf_certificates_total 4",
            "local_network_failures_total 3",
            "client_connections 5",
            "policy_generation 4",
            "tunnels 1",
            "duration_seconds_bucket{le=\"0.005\"} 0",
            "duration_seconds_bucket{le=\"0.01\"} 2",
            "duration_seconds_bucket{le=\"120\"} 2",
            "duration_seconds_bucket{le=\"+Inf\"} 3",
            "duration_seconds_sum 500.015",
            "duration_seconds_count 3",
        ] {
            assert!(text.contains(&format!("\nagent_sandbox_proxy_{line}\n")), "{line} in\n{text}");
        }
    }
}
