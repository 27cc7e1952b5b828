//! What is measured. One round gives one [`Sample`].

use std::time::{Duration, Instant};

use crate::cpu::{cpu_time, resident_kib};
use crate::load::{self, Client};
use crate::subject::{Subject, World};
use crate::{Result, tls};

/// Connections of the keep-alive scenarios, and streams of the HTTP/2 one.
const CONNECTIONS: usize = 32;
/// Clients that connect anew, each again and again.
const CONNECTING: usize = 8;
/// Idle connections of the memory scenarios.
const IDLE: usize = 1000;
/// Bytes of a bulk transfer.
const BULK: u64 = 512 << 20;

/// One thing to measure.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Scenario {
    IdleTunnels,
    IdleIntercepted,
    Plain,
    PlainTwoSegments,
    Intercepted,
    InterceptedNew,
    RefusedSameHost,
    RefusedNewHost,
    TunnelNew,
    TunnelBulk,
    InterceptedBulk,
    InterceptedUpload,
    Http2,
}

/// In the order of measuring: memory first, while the processes are fresh.
pub const ALL: &[Scenario] = &[
    Scenario::IdleTunnels,
    Scenario::IdleIntercepted,
    Scenario::Plain,
    Scenario::PlainTwoSegments,
    Scenario::Intercepted,
    Scenario::Http2,
    Scenario::InterceptedNew,
    Scenario::RefusedSameHost,
    Scenario::RefusedNewHost,
    Scenario::TunnelNew,
    Scenario::TunnelBulk,
    Scenario::InterceptedBulk,
    Scenario::InterceptedUpload,
];

/// One round.
pub struct Sample {
    /// Requests, connections, megabytes or KiB, as the scenario says.
    pub count: f64,
    pub elapsed: Duration,
    pub cpu: Duration,
    pub latencies_us: Vec<u32>,
    pub errors: u64,
    /// Resident before, and for each connection.
    pub memory_kib: Option<(u64, f64)>,
}

impl Sample {
    pub fn per_second(&self) -> f64 {
        self.count / self.elapsed.as_secs_f64()
    }

    pub fn cpu_us(&self) -> f64 {
        self.cpu.as_secs_f64() * 1e6 / self.count
    }

    pub fn percentile(&self, part: f64) -> f64 {
        let mut sorted = self.latencies_us.clone();
        sorted.sort_unstable();
        let at = ((sorted.len() as f64 * part) as usize).min(sorted.len().saturating_sub(1));
        sorted.get(at).map_or(f64::NAN, |us| f64::from(*us))
    }
}

impl Scenario {
    pub fn name(self) -> &'static str {
        match self {
            Self::IdleTunnels => "idle-tunnels",
            Self::IdleIntercepted => "idle-intercepted",
            Self::Plain => "plain",
            Self::PlainTwoSegments => "plain-two-segments",
            Self::Intercepted => "intercepted",
            Self::InterceptedNew => "intercepted-new",
            Self::RefusedSameHost => "refused-same-host",
            Self::RefusedNewHost => "refused-new-host",
            Self::TunnelNew => "tunnel-new",
            Self::TunnelBulk => "tunnel-bulk",
            Self::InterceptedBulk => "intercepted-bulk",
            Self::InterceptedUpload => "intercepted-upload",
            Self::Http2 => "http2",
        }
    }

    pub fn unit(self) -> &'static str {
        match self {
            Self::IdleTunnels => "memory of 1,000 idle opaque tunnels",
            Self::IdleIntercepted => "memory of 1,000 idle intercepted connections, used once",
            Self::Plain => "http:// requests of 1 KiB, 32 kept connections",
            Self::PlainTwoSegments => "the same, the origin sends head and body apart",
            Self::Intercepted => "https:// requests of 1 KiB, 32 kept intercepted connections",
            Self::Http2 => "https:// requests of 1 KiB, 32 streams of one intercepted HTTP/2 connection",
            Self::InterceptedNew => "new intercepted connections to one host, a request each",
            Self::RefusedSameHost => "new connections to one refused host, answered inside TLS",
            Self::RefusedNewHost => "the same, a host never seen each time: a leaf is minted",
            Self::TunnelNew => "new opaque tunnels, TLS handshake and a request through each",
            Self::TunnelBulk => "megabytes (10⁶) down an opaque tunnel",
            Self::InterceptedBulk => "megabytes (10⁶) down an intercepted connection",
            Self::InterceptedUpload => "megabytes (10⁶) up an intercepted connection",
        }
    }

    /// A level, not a rate.
    pub fn is_once(self) -> bool {
        matches!(self, Self::IdleTunnels | Self::IdleIntercepted)
    }

    /// Counted in megabytes, and as long as it takes.
    pub fn is_bulk(self) -> bool {
        matches!(self, Self::TunnelBulk | Self::InterceptedBulk | Self::InterceptedUpload)
    }

    pub fn suits(self, subject: &Subject) -> bool {
        // Without a process there is no memory to look at.
        let (bare, process) = (subject.is_bare(), subject.process().is_some());
        match self {
            Self::Plain | Self::PlainTwoSegments => subject.kind.plain,
            Self::TunnelNew | Self::TunnelBulk => subject.kind.opaque,
            Self::IdleTunnels => subject.kind.opaque && process,
            Self::RefusedSameHost | Self::RefusedNewHost => subject.kind.name == "ours",
            Self::IdleIntercepted => (subject.kind.intercepts || bare) && process,
            Self::Intercepted | Self::InterceptedNew | Self::InterceptedBulk | Self::InterceptedUpload => {
                subject.kind.intercepts || bare
            }
            // The others offer no HTTP/2 to a client behind CONNECT.
            Self::Http2 => matches!(subject.kind.name, "ours" | "mitmproxy"),
        }
    }

    pub async fn round(self, subject: &Subject, world: &World, length: Duration) -> Result<Sample> {
        let ports = world.ports;
        let http1 = tls::client(b"http/1.1")?;
        let client = |port: u16| Client::new(subject, world, port, http1.clone());
        let process = subject.process();
        match self {
            Self::IdleTunnels => idle(process, &client(ports.opaque)).await,
            Self::IdleIntercepted => idle(process, &client(ports.tls)).await,
            Self::Plain => {
                timed(process, load::plain(&client(ports.plain), "/1k", CONNECTIONS, length)).await
            }
            Self::PlainTwoSegments => {
                timed(process, load::plain(&client(ports.plain), "/2k", CONNECTIONS, length)).await
            }
            Self::Intercepted => timed(process, load::kept(&client(ports.tls), CONNECTIONS, length)).await,
            Self::Http2 => {
                let client = Client::new(subject, world, ports.tls, tls::client(b"h2")?);
                timed(process, load::http2(&client, CONNECTIONS, length)).await
            }
            Self::InterceptedNew => timed(process, load::anew(&client(ports.tls), CONNECTING, length)).await,
            Self::TunnelNew => timed(process, load::anew(&client(ports.opaque), CONNECTING, length)).await,
            Self::RefusedSameHost => {
                timed(process, load::refused(&client(443), CONNECTING, length, false)).await
            }
            Self::RefusedNewHost => {
                timed(process, load::refused(&client(443), CONNECTING, length, true)).await
            }
            Self::TunnelBulk => timed(process, load::bulk_raw(&client(ports.raw), BULK)).await,
            Self::InterceptedBulk => timed(process, load::bulk(&client(ports.tls), BULK)).await,
            Self::InterceptedUpload => timed(process, load::upload(&client(ports.tls), BULK)).await,
        }
    }
}

/// Counts, latencies in microseconds, and errors.
pub type Done = (f64, Vec<u32>, u64);

async fn timed(process: Option<u32>, work: impl Future<Output = Result<Done>>) -> Result<Sample> {
    // What the round before left behind is not this one's.
    tokio::time::sleep(Duration::from_millis(200)).await;
    let used = || process.map(cpu_time).unwrap_or_default();
    let (before, started) = (used(), Instant::now());
    let (count, latencies_us, errors) = work.await?;
    let elapsed = started.elapsed();
    let cpu = used().saturating_sub(before);
    Ok(Sample { count, elapsed, cpu, latencies_us, errors, memory_kib: None })
}

async fn idle(process: Option<u32>, client: &Client) -> Result<Sample> {
    let resident = || process.map(resident_kib).unwrap_or_default();
    let before = resident();
    let kept = load::open_and_keep(client, IDLE).await?;
    tokio::time::sleep(Duration::from_secs(1)).await;
    let each = resident().saturating_sub(before) as f64 / kept.len() as f64;
    let memory_kib = Some((before, each));
    Ok(Sample {
        count: 0.0,
        elapsed: Duration::ZERO,
        cpu: Duration::ZERO,
        latencies_us: Vec::new(),
        errors: 0,
        memory_kib,
    })
}
