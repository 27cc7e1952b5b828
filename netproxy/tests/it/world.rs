//! One proxy with its upstreams, ready to be talked to.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use netproxy::audit::{Record, audit_json_line};
use netproxy::hooks::Authorize;
use netproxy::limits::Limits;
use netproxy::{Builder, Proxy};
use tokio::io::DuplexStream;

use crate::hooks::{Knowing, Names, Records, Rules, Scrubber, Vault};
use crate::upstream::{self, Upstream};

pub struct World {
    pub proxy: Proxy,
    pub tls: Upstream,
    pub plain: Upstream,
    pub records: Records,
}

/// What the TLS upstream has a certificate for.
pub const NAMES: &[&str] = &["ok.example", "opaque.example", "127.0.0.1"];

impl World {
    pub async fn start() -> Arc<Self> {
        Self::with(|names| names, false).await
    }

    pub async fn limited(limits: Limits) -> Arc<Self> {
        Self::build(|names| names, |builder| builder.limits(limits)).await
    }

    pub async fn redacting() -> Arc<Self> {
        Self::with(|names| names, true).await
    }

    pub async fn with(more_names: impl FnOnce(Names) -> Names, redact: bool) -> Arc<Self> {
        Self::build(more_names, |builder| if redact { builder.redact(Scrubber) } else { builder }).await
    }

    /// Answers are scrubbed by filters that are made while `knows`.
    pub async fn knowing(knows: Arc<AtomicBool>) -> Arc<Self> {
        Self::build(|names| names, |builder| builder.redact(Knowing(knows))).await
    }

    async fn build(
        more_names: impl FnOnce(Names) -> Names,
        more: impl FnOnce(Builder) -> Builder,
    ) -> Arc<Self> {
        Self::build_ruled(more_names, |ports| Rules { ports }, more).await
    }

    /// With rules of one's own, which are told the ports of the upstreams.
    pub async fn build_ruled<A: Authorize + 'static>(
        more_names: impl FnOnce(Names) -> Names,
        rules: impl FnOnce(Vec<u16>) -> A,
        more: impl FnOnce(Builder) -> Builder,
    ) -> Arc<Self> {
        let tls = upstream::start(NAMES, true).await;
        Self::build_over(tls, more_names, rules, more).await
    }

    /// With another TLS upstream.
    pub async fn build_over<A: Authorize + 'static>(
        tls: Upstream,
        more_names: impl FnOnce(Names) -> Names,
        rules: impl FnOnce(Vec<u16>) -> A,
        more: impl FnOnce(Builder) -> Builder,
    ) -> Arc<Self> {
        let plain = upstream::start(&["plain.example"], false).await;
        let records = Records::default();
        let names = Names::default()
            .with("ok.example", &[&["127.0.0.1"]])
            .with("opaque.example", &[&["127.0.0.1"]])
            .with("plain.example", &[&["127.0.0.1"]])
            .with("badcert.example", &[&["127.0.0.1"]]);
        let builder = Proxy::builder()
            .name("test")
            .authorize(rules(vec![tls.address.port(), plain.address.port(), 1]))
            .inject(Vault)
            .audit(records.clone())
            .resolve(more_names(names))
            .extra_roots_pem(&tls.root_pem);
        Arc::new(Self { proxy: more(builder).build().unwrap(), tls, plain, records })
    }

    /// A new client connection.
    pub fn connect(&self) -> DuplexStream {
        self.connect_to(&self.proxy)
    }

    /// Another proxy, which is told that it listens where the TLS upstream does.
    pub fn proxy_with_listener(&self) -> Proxy {
        let names = Names::default().with("ok.example", &[&["127.0.0.1"]]);
        let rules = Rules { ports: vec![self.tls.address.port()] };
        Proxy::builder().authorize(rules).resolve(names).own_listener(self.tls.address).build().unwrap()
    }

    pub fn connect_to(&self, proxy: &Proxy) -> DuplexStream {
        let (near, far) = tokio::io::duplex(64 * 1024);
        let proxy = proxy.clone();
        tokio::spawn(async move { proxy.serve(far).await });
        near
    }

    pub fn dns(&self) -> DuplexStream {
        let (near, far) = tokio::io::duplex(64 * 1024);
        let proxy = self.proxy.clone();
        tokio::spawn(async move { proxy.serve_dns(far).await });
        near
    }

    /// `host:port` of the TLS upstream under a name.
    pub fn at(&self, host: &str) -> String {
        format!("{host}:{}", self.tls.address.port())
    }

    /// The records as JSON, once there are `count`.
    pub async fn records(&self, count: usize) -> Vec<serde_json::Value> {
        loop {
            {
                let records = self.records.0.lock().unwrap();
                if records.len() >= count {
                    return records.iter().map(as_json).collect();
                }
            }
            tokio::task::yield_now().await;
        }
    }
}

/// As its line says it, which is as the schema says.
pub fn as_json(record: &Record) -> serde_json::Value {
    let line = serde_json::from_str::<serde_json::Value>(&audit_json_line(record)).unwrap();
    crate::audit::check_record(line.as_object().unwrap());
    line
}
