//! `--trace`: the spans of `netproxy` on standard error. Only its own, as other crates' are not made to be secret-free.

use std::io;

use tracing_subscriber::Layer as _;
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::fmt::format::FmtSpan;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;

/// Prints from here on.
pub fn begin(level: LevelFilter) {
    let lines = tracing_subscriber::fmt::layer()
        .with_writer(io::stderr)
        .with_ansi(false)
        .with_span_events(FmtSpan::CLOSE)
        .with_filter(Targets::new().with_target("netproxy", level));
    // It fails only if this was called before.
    let _ = tracing_subscriber::registry().with(lines).try_init();
}
