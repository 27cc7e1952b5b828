//! Spans for a subscriber of `tracing`, with the feature of that name; without it nothing is left of this. One span
//! per client connection, and in it one per decision, with an event at its end.
//!
//! All that is said of a decision comes from its audit record: no header, no query, no path, no text of a hook.

#[cfg(feature = "tracing")]
pub use on::Span;

#[cfg(not(feature = "tracing"))]
pub use off::Span;

#[cfg(feature = "tracing")]
mod on {
    use std::future::Future;

    use tracing::field::Empty;
    use tracing::instrument::{Instrument, Instrumented};

    use crate::audit::Record;
    use crate::id::DecisionId;
    use crate::shell::upstream::reach::OpenTimes;

    #[derive(Clone)]
    pub struct Span(tracing::Span);

    impl Span {
        pub fn connection(sandbox: &str) -> Self {
            Self(tracing::info_span!("connection", sandbox))
        }

        pub fn decision(id: &DecisionId) -> Self {
            Self(tracing::info_span!(
                "decision",
                decision_id = id.as_str(),
                layer = Empty,
                verdict = Empty,
                rule = Empty,
                host = Empty,
                port = Empty,
                status = Empty,
                error = Empty,
            ))
        }

        /// The one in which the caller runs.
        pub fn current() -> Self {
            Self(tracing::Span::current())
        }

        pub fn around<F: Future>(self, future: F) -> Instrumented<F> {
            future.instrument(self.0)
        }

        pub fn opened(&self, times: &OpenTimes) {
            tracing::debug!(
                parent: &self.0,
                ms_dns = times.dns.as_millis(),
                ms_connect = times.dial.map(|dial| dial.as_millis()),
                ms_tls = times.tls.map(|tls| tls.as_millis()),
                "an upstream connection was opened"
            );
        }

        /// What became of it.
        pub fn conclude(&self, record: &Record) {
            let span = &self.0;
            span.record("layer", record.layer.as_str());
            span.record("verdict", record.verdict.as_str());
            span.record("rule", record.rule.as_deref());
            span.record("host", record.host.as_deref());
            span.record("port", record.port);
            span.record("status", record.status);
            span.record("error", record.error);
            tracing::info!(
                parent: span,
                bytes_up = record.bytes_up,
                bytes_down = record.bytes_down,
                redactions = record.redactions,
                ms_total = record.ms_total,
                "decided and done"
            );
        }
    }
}

#[cfg(not(feature = "tracing"))]
mod off {
    use std::future::Future;

    use crate::audit::Record;
    use crate::id::DecisionId;
    use crate::shell::upstream::reach::OpenTimes;

    #[derive(Clone)]
    pub struct Span;

    impl Span {
        pub fn connection(_: &str) -> Self {
            Self
        }
        pub fn decision(_: &DecisionId) -> Self {
            Self
        }
        pub fn current() -> Self {
            Self
        }
        pub fn around<F: Future>(self, future: F) -> F {
            future
        }
        pub fn opened(&self, _: &OpenTimes) {}
        pub fn conclude(&self, _: &Record) {}
    }
}
