//! `netproxy` passes a response by, `credvault` takes the secrets out.

use std::sync::Arc;

use bytes::Bytes;
use credvault::{Scrubber, Vault};
use http::{HeaderName, HeaderValue};
use netproxy::hooks::{Decided, HeaderFate, Redact, ResponseFilter};

/// Scrubs every response, as any service may echo what it got from another; nothing to do without keys.
pub struct VaultRedact(pub Arc<Vault>);

impl Redact for VaultRedact {
    fn filter(&self, _: &Decided<'_>) -> Option<Box<dyn ResponseFilter>> {
        self.0.names().next()?;
        Some(Box::new(Filter { scrubber: self.0.scrubber(), vault: self.0.clone(), headers: 0 }))
    }
}

struct Filter {
    vault: Arc<Vault>,
    scrubber: Scrubber,
    /// Headers that were changed or left out.
    headers: u64,
}

impl ResponseFilter for Filter {
    fn header(&mut self, name: &HeaderName, value: &HeaderValue) -> HeaderFate {
        let fate = if self.vault.is_key_in_name(name.as_str()) {
            HeaderFate::Drop
        } else if let Some(clean) = self.vault.scrub_value(value.as_bytes()) {
            // A value that cannot be sent is replaced, never passed on as it was.
            let clean = HeaderValue::from_bytes(&clean);
            HeaderFate::Replace(clean.unwrap_or_else(|_| HeaderValue::from_static("[redacted]")))
        } else {
            return HeaderFate::Keep;
        };
        self.headers = self.headers.saturating_add(1);
        fate
    }

    fn body(&mut self, chunk: Bytes) -> Bytes {
        if self.scrubber.is_clean(&chunk) {
            return chunk;
        }
        let mut clean = Vec::with_capacity(chunk.len());
        self.scrubber.push(&chunk, &mut clean);
        clean.into()
    }

    fn finish(&mut self) -> Bytes {
        let mut rest = Vec::new();
        self.scrubber.finish(&mut rest);
        rest.into()
    }

    fn redactions(&self) -> u64 {
        self.headers.saturating_add(self.scrubber.redactions())
    }
}
