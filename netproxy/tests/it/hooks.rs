//! Hooks for tests: a small policy, a fake vault, a resolver that panics on names it must not see.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use http::{HeaderName, HeaderValue};
use netproxy::HostName;
use netproxy::hooks::*;

pub const SECRET: &str = "sk-real-0123456789";
pub const PLACEHOLDER: &str = "placeholder-xyz";

/// Allows `ok.example` (and `plain.example`) on the given ports, `GET` anywhere and `POST` on /upload and
/// /v1; `opaque.example` without looking inside; loopback for names that end in `.example`.
pub struct Rules {
    pub ports: Vec<u16>,
}

impl Authorize for Rules {
    fn connect(&self, facts: &ConnectFacts<'_>) -> Verdict {
        let host = facts.authority.host().to_string();
        if !self.ports.contains(&facts.authority.port()) {
            return Deny::unmatched(format!("no rule allows {}", facts.authority)).into();
        }
        match host.as_str() {
            "ok.example" | "turns.example" | "rebind.example" | "mixed.example" | "badcert.example"
            | "127.0.0.1" => Allow::by("ok").into(),
            "down.example" => Allow::by("ok").into(),
            "opaque.example" => Allow::by("opaque").with_tls(TlsMode::Opaque).into(),
            "denied.example" => Deny::by("no-denied", "denied.example is blocked").into(),
            _ => Deny::unmatched(format!("no rule allows {}", facts.authority)).into(),
        }
    }

    fn request(&self, facts: &RequestFacts<'_>) -> Verdict {
        if !self.ports.contains(&facts.authority.port()) || facts.path.starts_with("/private") {
            return Deny::unmatched("no rule allows this path or port").into();
        }
        if facts.websocket && !facts.path.starts_with("/ws") {
            return Deny::by("no-websocket", "no WebSocket here").into();
        }
        if facts.method == "DELETE" {
            return Deny::by("no-delete", "DELETE is blocked").with_hint("ask first").into();
        }
        match facts.authority.host().to_string().as_str() {
            "denied.example" => Deny::by("no-denied", "denied.example is blocked").into(),
            "unknown.example" => Deny::unmatched("no rule allows it").into(),
            _ => Allow::by("ok").with_credential("api-key").into(),
        }
    }

    fn dns_name(&self, name: &HostName) -> Verdict {
        match name.as_str() {
            "ok.example" | "mixed.example" | "gone.example" | "private.example" => Allow::by("ok").into(),
            _ => Deny::unmatched("no rule allows this name").into(),
        }
    }

    fn address(&self, facts: &AddressFacts<'_>) -> bool {
        !facts.special || (facts.address.is_loopback() && facts.host.to_string() != "rebind.example")
    }
}

/// Allows everything; of the special addresses, loopback only.
pub struct Any;

impl Authorize for Any {
    fn connect(&self, _: &ConnectFacts<'_>) -> Verdict {
        Allow::by("any").into()
    }
    fn request(&self, _: &RequestFacts<'_>) -> Verdict {
        Allow::by("any").into()
    }
    fn dns_name(&self, _: &HostName) -> Verdict {
        Allow::by("any").into()
    }
    fn address(&self, facts: &AddressFacts<'_>) -> bool {
        !facts.special || facts.address.is_loopback()
    }
}

/// Replaces the placeholder by the secret, as a vault would.
pub struct Vault;

impl Inject for Vault {
    fn inject<'a>(
        &'a self,
        decided: &'a Decided<'a>,
        head: &'a mut RequestHead,
    ) -> BoxFuture<'a, Result<Injected, InjectError>> {
        Box::pin(async move {
            if decided.request.path == "/locked" {
                return Err(InjectError::Locked { name: "api-key".to_owned() });
            }
            if decided.request.path == "/tampered" {
                // A hook that is wrong must not be able to break the framing or the host.
                for (name, value) in
                    [("host", "evil.example"), ("transfer-encoding", "chunked"), ("content-length", "7")]
                {
                    head.headers.insert(name, HeaderValue::from_static(value));
                }
                head.query = Some("added=1".to_owned());
            }
            if let Some(value) = head.headers.get_mut("authorization") {
                let text = value.to_str().unwrap().replace(PLACEHOLDER, SECRET);
                *value = HeaderValue::from_str(&text).unwrap();
                return Ok(Injected::credential("api-key"));
            }
            Ok(Injected::default())
        })
    }
}

/// Takes every body whole before it is sent, in one piece, and tells that it will.
#[derive(Default)]
pub struct Holds(pub Arc<AtomicBool>);

impl Inject for Holds {
    fn reads_body(&self, _: &Decided<'_>, _: &RequestHead) -> bool {
        self.0.store(true, Ordering::Relaxed);
        true
    }

    fn inject<'a>(
        &'a self,
        decided: &'a Decided<'a>,
        head: &'a mut RequestHead,
    ) -> BoxFuture<'a, Result<Injected, InjectError>> {
        InjectNothing.inject(decided, head)
    }
}

/// Replaces the secret by the placeholder; holds back what could be its start.
pub struct Scrubber;

struct Scrub {
    held: Vec<u8>,
    count: u64,
}

impl Redact for Scrubber {
    fn filter(&self, _: &Decided<'_>) -> Option<Box<dyn ResponseFilter>> {
        Some(Box::new(Scrub { held: Vec::new(), count: 0 }))
    }
}

/// Knows the secret while it is told to: a filter keeps to what was so when it was made.
pub struct Knowing(pub Arc<AtomicBool>);

impl Redact for Knowing {
    fn filter(&self, decided: &Decided<'_>) -> Option<Box<dyn ResponseFilter>> {
        self.0.load(Ordering::SeqCst).then(|| Scrubber.filter(decided))?
    }
}

impl ResponseFilter for Scrub {
    fn header(&mut self, name: &HeaderName, value: &HeaderValue) -> HeaderFate {
        if name.as_str().contains(SECRET) {
            self.count += 1;
            return HeaderFate::Drop;
        }
        match value.to_str() {
            Ok(text) if text.contains(SECRET) => {
                self.count += 1;
                HeaderFate::Replace(HeaderValue::from_str(&text.replace(SECRET, PLACEHOLDER)).unwrap())
            }
            _ => HeaderFate::Keep,
        }
    }

    fn body(&mut self, chunk: Bytes) -> Bytes {
        // One character for each byte: not all is text.
        let text: String = self.held.drain(..).chain(chunk).map(char::from).collect();
        self.count += text.matches(SECRET).count() as u64;
        let text = text.replace(SECRET, PLACEHOLDER);
        let keep = (1..SECRET.len()).rev().find(|n| text.ends_with(&SECRET[..*n])).unwrap_or(0);
        let mut passes: Vec<u8> = text.chars().map(|byte| u8::try_from(byte).unwrap()).collect();
        self.held = passes.split_off(passes.len() - keep);
        Bytes::from(passes)
    }

    fn finish(&mut self) -> Bytes {
        Bytes::from(std::mem::take(&mut self.held))
    }

    fn redactions(&self) -> u64 {
        self.count
    }
}

/// Keeps the records, until it is full; counts how often it was asked whether it is.
#[derive(Clone, Default)]
pub struct Records(pub Arc<Mutex<Vec<Record>>>, pub Arc<AtomicBool>, pub Arc<AtomicUsize>);

impl Audit for Records {
    fn ready(&self) -> Result<(), AuditUnavailable> {
        self.2.fetch_add(1, Ordering::SeqCst);
        if self.1.load(Ordering::SeqCst) { Err(AuditUnavailable) } else { Ok(()) }
    }
    fn record(&self, record: Record) {
        self.0.lock().unwrap().push(record);
    }
}

/// Knows some names; each answer after the first may differ. Panics on any other name, which proves that
/// a denied name is never resolved.
#[derive(Default)]
pub struct Names {
    answers: Mutex<HashMap<String, Vec<Vec<IpAddr>>>>,
}

impl Names {
    pub fn with(self, name: &str, answers: &[&[&str]]) -> Self {
        let parsed = answers.iter().map(|a| a.iter().map(|ip| ip.parse().unwrap()).collect()).collect();
        self.answers.lock().unwrap().insert(name.to_owned(), parsed);
        self
    }
}

impl Resolve for Names {
    fn resolve<'a>(&'a self, name: &'a HostName) -> BoxFuture<'a, Result<Vec<IpAddr>, ResolveError>> {
        let mut answers = self.answers.lock().unwrap();
        let Some(left) = answers.get_mut(name.as_str()) else {
            panic!("{name} must not be resolved");
        };
        let answer = if left.len() > 1 { left.remove(0) } else { left[0].clone() };
        let answer = if answer.is_empty() { Err(ResolveError::NotFound) } else { Ok(answer) };
        Box::pin(std::future::ready(answer))
    }
}
