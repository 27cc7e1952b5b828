//! Who takes secrets out of responses.

use bytes::Bytes;
use http::{HeaderName, HeaderValue};

use super::Decided;

/// Removes secrets from responses.
pub trait Redact: Send + Sync {
    /// The filter for the response of this request; `None` if nothing can come back that must not.
    /// With a filter, the upstream is asked for codings that can be decoded, the response is passed on decoded, and
    /// one that cannot be searched is handled as [`Allow::on_opaque`](super::Allow::on_opaque) says.
    fn filter(&self, decided: &Decided<'_>) -> Option<Box<dyn ResponseFilter>>;
    /// Whether there will be a filter. Asked before the credential is put in, as a signature may cover what the upstream
    /// is asked for; the filter is made after it.
    fn searches(&self, decided: &Decided<'_>) -> bool {
        self.filter(decided).is_some()
    }
    /// Whether parts of what is searched may be asked for (`Range`, RFC 9110 §14). A value that lies across two of them is
    /// found in neither, so only of a host that is never sent what must not come back. Elsewhere `Range` is left out, the
    /// upstream answers with all of it, and `Accept-Ranges` becomes `none`. Not asked where [`Allow::on_opaque`](super::Allow::on_opaque) lets everything pass.
    /// Default: no.
    fn allows_parts(&self, decided: &Decided<'_>) -> bool {
        let _ = decided;
        false
    }
}

/// What becomes of a header of a response.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HeaderFate {
    /// It passes.
    Keep,
    /// It gets this value.
    Replace(HeaderValue),
    /// It is left out, with every value of its name: the name itself must not pass.
    Drop,
}

/// One response passing by. Implementations hold back no more than could be the start of a secret, so that
/// an event stream is not delayed.
///
/// The messages of a WebSocket pass by the filter of its handshake: each is a body that ends, and the next one begins.
/// (Pings, pongs and the close, which may come in the middle of a message, pass by a second filter of the same request.)
/// A session may last for hours: a filter that knows secrets which are renewed has to keep those of its own request and
/// learn the newer ones.
pub trait ResponseFilter: Send {
    /// Judges a header. The name is in lower case, however the upstream wrote it.
    fn header(&mut self, name: &HeaderName, value: &HeaderValue) -> HeaderFate;
    /// Takes the next chunk and gives what may be sent now; may be empty.
    fn body(&mut self, chunk: Bytes) -> Bytes;
    /// The upstream is quiet: gives as much of what was held back as may be sent if nothing follows for long; may be empty.
    /// Whoever waits for the client's next message waits for ever if the end of its own is held back. A filter gives only what
    /// tells nothing of a secret. Default: nothing.
    fn quiet(&mut self) -> Bytes {
        Bytes::new()
    }
    /// The body ended: gives what was held back. Another may begin, see above.
    fn finish(&mut self) -> Bytes;
    /// How many values were removed so far, from all of it.
    fn redactions(&self) -> u64;
}

/// Filters nothing.
#[derive(Debug, Clone, Copy, Default)]
pub struct RedactNothing;

impl Redact for RedactNothing {
    fn filter(&self, _: &Decided<'_>) -> Option<Box<dyn ResponseFilter>> {
        None
    }
}
