//! `netproxy` passes a response by, `credvault` takes the secrets out.

use std::sync::Arc;

use bytes::Bytes;
use credvault::{Scrubber, Vault};
use http::{HeaderName, HeaderValue};
use netproxy::hooks::{Decided, HeaderFate, Redact, ResponseFilter};

use crate::inject::vault_host;

/// Scrubs every response, as any service may echo what it got from another; nothing to do without keys.
///
/// Each piece of a response is scrubbed of two sets: of what the vault knew when the filter was made, which holds the
/// key of this request, and of what it knows as the piece comes. The first alone would miss keys that are replaced
/// while a stream or a WebSocket lasts; the second alone would lose the request's own key once that has been replaced
/// often enough, or its time is over. Until the first rotation they are the same set, which is searched once.
pub struct VaultRedact(pub Arc<Vault>);

impl Redact for VaultRedact {
    fn filter(&self, _: &Decided<'_>) -> Option<Box<dyn ResponseFilter>> {
        self.0.names().next()?;
        Some(Box::new(Filter { scrubber: self.0.scrubber(), vault: self.0.clone(), headers: 0 }))
    }

    fn searches(&self, _: &Decided<'_>) -> bool {
        self.0.names().next().is_some()
    }

    /// Of a host that gets no key, it is only what another one has told it that is looked for.
    fn allows_parts(&self, decided: &Decided<'_>) -> bool {
        !self.0.sends_to(&vault_host(decided.request.authority.host()))
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
        self.vault.update(&mut self.scrubber);
        let fate = if self.scrubber.is_in_name(name.as_str()) {
            HeaderFate::Drop
        } else if let Some(clean) = self.scrubber.scrub_value(value.as_bytes()) {
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
        self.vault.update(&mut self.scrubber);
        if self.scrubber.is_clean(&chunk) {
            return chunk;
        }
        let mut clean = Vec::with_capacity(chunk.len());
        self.scrubber.push(&chunk, &mut clean);
        clean.into()
    }

    fn quiet(&mut self) -> Bytes {
        let mut held = Vec::new();
        self.scrubber.release(&mut held);
        held.into()
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

#[cfg(test)]
mod tests {
    use credvault::limits::OLD_VALUES_MAX;
    use credvault::{Binding, Secret};

    use super::*;

    fn key(number: usize) -> String {
        format!("key-{number:02}-Rr8Zk2Qm5Xv7")
    }

    /// Whatever comes back, header, body or trailer, and however late: without the key that the request carried, and
    /// without the one in use.
    #[test]
    fn the_requests_own_key_and_newer_ones_leave_all_of_a_long_response() {
        let mut builder = Vault::builder();
        let binding = Binding::bearer("api", "api.example").unwrap();
        builder.bind(binding, Secret::new(key(0).into()), &mut credvault::os_random).unwrap();
        let vault = Arc::new(builder.build());
        let own = vault.placeholder("api").unwrap().to_string();
        let mut filter = Filter { scrubber: vault.scrubber(), vault: Arc::clone(&vault), headers: 0 };
        let last = OLD_VALUES_MAX + 5;
        for number in 1..=last {
            let text = format!("{} {}", key(0), key(number - 1));
            let value = HeaderValue::from_str(&text).unwrap();
            let clean = HeaderFate::Replace(HeaderValue::from_str(&format!("{own} {own}")).unwrap());
            assert_eq!(filter.header(&HeaderName::from_static("x-echo"), &value), clean, "{text}");
            let name = HeaderName::from_bytes(key(number - 1).to_lowercase().as_bytes()).unwrap();
            assert_eq!(filter.header(&name, &HeaderValue::from_static("1")), HeaderFate::Drop);
            let mut said = filter.body(text.into()).to_vec();
            said.extend(filter.finish());
            assert_eq!(String::from_utf8(said).unwrap(), format!("{own} {own}"));
            vault.rotate("api", Secret::new(key(number).into()), None).unwrap();
        }
        assert_eq!(vault.scrub_value(key(0).as_bytes()), None, "the vault has forgotten it");
        assert_eq!(filter.redactions(), 4 * u64::try_from(last).unwrap());
    }
}
