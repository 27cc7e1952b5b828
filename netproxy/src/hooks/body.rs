//! A request's body where [`super::Inject`] has to do with it: in hand as a whole, or changed on its way.

use bytes::Bytes;

/// A body that cannot go on. The text must not hold a secret: clients see it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{reason}")]
pub struct BodyRefused {
    /// One sentence for the client.
    pub reason: String,
}

/// Changes a request's body as it passes. What comes out is as long as what went in: a `Content-Length` stays true.
pub trait BodyFilter: Send {
    /// Takes the next bytes and gives what may be sent now; may be empty.
    ///
    /// # Errors
    /// [`BodyRefused`] breaks the request off; the upstream never gets a whole one.
    fn push(&mut self, chunk: Bytes) -> Result<Bytes, BodyRefused>;

    /// The body ended: gives what was held back.
    ///
    /// # Errors
    /// [`BodyRefused`], as above.
    fn finish(&mut self) -> Result<Bytes, BodyRefused>;

    /// How many bytes are held back now. They count towards [`crate::limits::Limits::held_bytes_max`].
    fn held_bytes(&self) -> usize;
}
