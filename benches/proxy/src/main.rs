//! Measures an egress proxy against its peers on two cores.
//!
//! Load and origin run on core 0, the proxy alone on core 1. Every proxy is started once; rounds are
//! interleaved over the proxies, and the median of the rounds is reported. CPU is that of the proxy's processes:
//! on two busy cores it is the only figure that means the same twice.
//!
//! ```text
//! cargo build --release --example inject-proxy
//! cargo run --release --manifest-path benches/proxy/Cargo.toml -- --inject-proxy target/release/examples/inject-proxy
//! ```

mod cpu;
mod load;
mod origin;
mod report;
mod scenario;
mod soak;
mod subject;
mod tls;

use std::path::PathBuf;
use std::time::Duration;

use clap::Parser;

use crate::scenario::Scenario;
use crate::subject::{Subject, World};

/// An error that ends the run, with what was being done.
pub type Error = Box<dyn std::error::Error + Send + Sync>;
/// What can go wrong ends the run.
pub type Result<T> = std::result::Result<T, Error>;

#[derive(Parser)]
#[command(about = "Measures an egress proxy against its peers")]
struct Arguments {
    /// The `inject-proxy` program, built with --release.
    #[arg(long)]
    inject_proxy: PathBuf,
    /// Python of an environment that has mitmproxy; without it that peer is left out.
    #[arg(long)]
    mitmdump: Option<PathBuf>,
    /// Only these: direct (no proxy), relay, ours, hudsucker, squid, tinyproxy, mitmproxy.
    #[arg(long, value_delimiter = ',')]
    only: Vec<String>,
    /// Only these scenarios; see the table's first column.
    #[arg(long, value_delimiter = ',')]
    scenarios: Vec<String>,
    /// Rounds of each scenario.
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Length of a timed round, in seconds.
    #[arg(long, default_value_t = 3.0)]
    seconds: f64,
    /// Instead of measuring: load of all kinds on ours for so many minutes, and whether its memory stays flat.
    #[arg(long, value_name = "MINUTES")]
    soak: Option<f64>,
    /// Rest between two turns of --soak, in seconds.
    #[arg(long, default_value_t = 0.0, requires = "soak")]
    rest: f64,
    /// One JSON object per line instead of tables.
    #[arg(long)]
    json: bool,
}

fn main() -> Result<()> {
    let arguments = Arguments::parse();
    cpu::pin_this_thread(0)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(run(&arguments))
}

async fn run(arguments: &Arguments) -> Result<()> {
    let world = World::start().await?;
    if let Some(minutes) = arguments.soak {
        let kind = subject::KINDS.iter().find(|kind| kind.name == "ours").ok_or("there is no such proxy")?;
        let ours = Subject::start(kind, &world, &arguments.inject_proxy, None).await?;
        let (length, rest) =
            (Duration::from_secs_f64(minutes * 60.0), Duration::from_secs_f64(arguments.rest));
        return soak::run(&ours, &world, length, rest).await;
    }
    let mut subjects = Vec::new();
    for kind in subject::KINDS {
        if !arguments.only.is_empty() && !arguments.only.iter().any(|name| name == kind.name) {
            continue;
        }
        match Subject::start(kind, &world, arguments.inject_proxy.as_path(), arguments.mitmdump.as_deref())
            .await
        {
            Ok(subject) => subjects.push(subject),
            Err(error) => eprintln!("SKIPPED {}: {error}", kind.name),
        }
    }
    for scenario in scenario::ALL {
        if !arguments.scenarios.is_empty() && !arguments.scenarios.iter().any(|name| name == scenario.name())
        {
            continue;
        }
        let table = measure(*scenario, &subjects, &world, arguments).await?;
        report::print(*scenario, &table, arguments.json);
    }
    Ok(())
}

/// Interleaved rounds of one scenario over all proxies that can do it.
async fn measure(
    scenario: Scenario,
    subjects: &[Subject],
    world: &World,
    arguments: &Arguments,
) -> Result<Vec<report::Row>> {
    let mut rows: Vec<report::Row> = subjects
        .iter()
        .filter(|subject| scenario.suits(subject))
        .map(|subject| report::Row { name: subject.kind.name, rounds: Vec::new() })
        .collect();
    let length = Duration::from_secs_f64(arguments.seconds);
    for _ in 0..if scenario.is_once() { 1 } else { arguments.rounds } {
        for row in &mut rows {
            let Some(subject) = subjects.iter().find(|subject| subject.kind.name == row.name) else {
                continue;
            };
            row.rounds.push(scenario.round(subject, world, length).await?);
        }
    }
    Ok(rows)
}
