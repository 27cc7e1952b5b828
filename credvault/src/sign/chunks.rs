//! Bodies that S3 clients sign piece by piece (`STREAMING-AWS4-HMAC-SHA256-PAYLOAD`): each chunk's signature
//! covers the one before it, so after the head was signed anew, every chunk is.
//!
//! ```text
//! 10000;chunk-signature=<64 hex>\r\n  <65536 bytes>\r\n  …  0;chunk-signature=<64 hex>\r\n\r\n
//! ```
//!
//! The length of the stream does not change. Must never pass a chunk on that it could not parse.

use zeroize::Zeroizing;

use super::sigv4::SigV4;
use crate::limits::{AWS_CHUNK_BYTES_MAX, AWS_CHUNK_HEAD_BYTES_MAX};

const SIGNATURE: &[u8] = b";chunk-signature=";

/// Why a stream of signed chunks cannot go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ChunkError {
    /// Not this form.
    #[error("the body is not a stream of signed chunks, as its head says: use the SDK's own signing")]
    Form,
    /// A chunk that would have to be kept in memory whole.
    #[error("a signed chunk is larger than {AWS_CHUNK_BYTES_MAX} bytes: let the SDK send smaller ones")]
    TooLarge,
    /// Ended without its last chunk.
    #[error("the stream of signed chunks ended without its last, empty chunk")]
    Truncated,
}

/// Signs the chunks of one body anew. A chunk is kept until it is whole, as its signature comes first.
pub struct ChunkResigner {
    key: Zeroizing<[u8; 32]>,
    time: String,
    scope: [String; 3],
    previous: String,
    held: Vec<u8>,
    done: bool,
}

impl ChunkResigner {
    /// After a head that was signed as `sig` says, with `seed` as its signature.
    #[must_use]
    pub fn new(sig: &SigV4<'_>, secret: &[u8], seed: &str) -> Self {
        let scope = [sig.scope.day, sig.scope.region, sig.scope.service].map(str::to_owned);
        let (time, previous) = (sig.time.to_owned(), seed.to_owned());
        Self { key: sig.key(secret), time, scope, previous, held: Vec::new(), done: false }
    }

    /// Takes the next bytes and appends complete chunks to `out`.
    ///
    /// # Errors
    /// [`ChunkError`]: end the request.
    pub fn push(&mut self, bytes: &[u8], out: &mut Vec<u8>) -> Result<(), ChunkError> {
        let mut held = std::mem::take(&mut self.held);
        held.extend_from_slice(bytes);
        let mut rest = &held[..];
        while let Some((size, head)) = self.head(rest)? {
            // Data, and the line end after it.
            let end = head.saturating_add(size);
            let Some(data) = rest.get(head..end) else { break };
            let Some(line_end) = rest.get(end..end.saturating_add(2)) else { break };
            if line_end != b"\r\n" {
                return Err(ChunkError::Form);
            }
            let digits = rest.iter().take_while(|byte| byte.is_ascii_hexdigit()).count();
            self.chunk(rest.get(..digits).unwrap_or_default(), data, out);
            rest = rest.get(end.saturating_add(2)..).unwrap_or_default();
        }
        // What stays is not copied for every piece that comes.
        let used = held.len().saturating_sub(rest.len());
        held.drain(..used);
        self.held = held;
        Ok(())
    }

    /// How much of a chunk that is not whole yet is kept, in bytes.
    #[must_use]
    pub fn held_bytes(&self) -> usize {
        self.held.len()
    }

    /// Ends the body.
    ///
    /// # Errors
    /// [`ChunkError::Truncated`].
    pub fn finish(&self) -> Result<(), ChunkError> {
        if self.done && self.held.is_empty() { Ok(()) } else { Err(ChunkError::Truncated) }
    }

    /// The size keeps its digits, so that the stream keeps its length.
    fn chunk(&mut self, digits: &[u8], data: &[u8], out: &mut Vec<u8>) {
        let [day, region, service] = &self.scope;
        let sig = SigV4 {
            scope: super::AwsScope { day, region, service },
            time: &self.time,
            signed_headers: "",
            style: super::CanonicalStyle::S3,
        };
        let signature = sig.chunk_signature(&self.key[..], &self.previous, data);
        out.extend_from_slice(digits);
        out.extend_from_slice(format!(";chunk-signature={signature}\r\n").as_bytes());
        out.extend_from_slice(data);
        out.extend_from_slice(b"\r\n");
        self.previous = signature;
        self.done = data.is_empty();
    }

    /// Size of the next chunk and length of its head line; `None` if that line is not whole yet.
    fn head(&self, rest: &[u8]) -> Result<Option<(usize, usize)>, ChunkError> {
        if rest.is_empty() {
            return Ok(None);
        }
        if self.done {
            return Err(ChunkError::Form);
        }
        // No longer line is looked for, so that it does not matter how the stream comes in pieces.
        let first =
            rest.get(..rest.len().min(AWS_CHUNK_HEAD_BYTES_MAX.saturating_add(2))).unwrap_or_default();
        let Some(end) = first.windows(2).position(|pair| pair == b"\r\n") else {
            let is_longer = first.len() > AWS_CHUNK_HEAD_BYTES_MAX.saturating_add(1);
            return if is_longer { Err(ChunkError::Form) } else { Ok(None) };
        };
        let line = rest.get(..end).unwrap_or_default();
        let digits = line.iter().take_while(|byte| byte.is_ascii_hexdigit()).count();
        let (size, extension) = line.split_at_checked(digits).ok_or(ChunkError::Form)?;
        let signature = extension.strip_prefix(SIGNATURE).ok_or(ChunkError::Form)?;
        if signature.len() != 64 || !signature.iter().all(u8::is_ascii_hexdigit) || digits == 0 {
            return Err(ChunkError::Form);
        }
        let size = str::from_utf8(size).ok().and_then(|size| usize::from_str_radix(size, 16).ok());
        match size {
            Some(size) if size <= AWS_CHUNK_BYTES_MAX => Ok(Some((size, end.saturating_add(2)))),
            _ => Err(ChunkError::TooLarge),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // "Signature Calculations for the Authorization Header: Transferring Payload in Multiple Chunks", S3
    // API Reference: 65 KiB of `a` in chunks of 64 KiB and 1 KiB.
    const SECRET: &[u8] = b"wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY";
    const SEED: &str = "4f232c4386841ef735655705268965c44a0e4690baa4adea153f7db9fa80a0a9";
    const SIGNATURES: [&str; 3] = [
        "ad80c730a21e5b8d04586a2213dd63b9a0e99e0e2307b0ade35a65485a288648",
        "0055627c9e194cb4542bae2aa5492e3c1575bbb81b612b7d234b86a503ef5497",
        "b6c6ea8a5354eaf15b3cb7646744f4275b71ea724fed81ceb9323e279d449df9",
    ];

    fn resigner() -> ChunkResigner {
        let credential = "AKIAIOSFODNN7EXAMPLE/20130524/us-east-1/s3/aws4_request";
        let sig = SigV4::new(Some(credential), Some("host"), "20130524T000000Z").unwrap();
        ChunkResigner::new(&sig, SECRET, SEED)
    }

    fn body(signatures: [&str; 3]) -> Vec<u8> {
        let mut out = Vec::new();
        for (size, signature) in [65536, 1024, 0].into_iter().zip(signatures) {
            out.extend_from_slice(format!("{size:x};chunk-signature={signature}\r\n").as_bytes());
            out.extend(std::iter::repeat_n(b'a', size));
            out.extend_from_slice(b"\r\n");
        }
        out
    }

    #[test]
    fn the_published_example_in_every_chunking() {
        let sent = body([&"0".repeat(64); 3]);
        for step in [7, 64, 4096, sent.len()] {
            let (mut resigner, mut out) = (resigner(), Vec::new());
            assert_eq!(resigner.finish(), Err(ChunkError::Truncated));
            for piece in sent.chunks(step) {
                resigner.push(piece, &mut out).unwrap();
            }
            assert!(out == body(SIGNATURES), "in pieces of {step}");
            assert_eq!(resigner.finish(), Ok(()));
        }
    }

    #[test]
    fn the_length_of_the_stream_stays_whatever_its_digits() {
        let zeros = "0".repeat(64);
        let sent =
            format!("00A;chunk-signature={zeros}\r\n0123456789\r\n000;chunk-signature={zeros}\r\n\r\n");
        let (mut resigner, mut out) = (resigner(), Vec::new());
        resigner.push(&sent.as_bytes()[..90], &mut out).unwrap();
        assert_eq!((resigner.held_bytes(), out.len()), (90, 0));
        resigner.push(&sent.as_bytes()[90..], &mut out).unwrap();
        assert_eq!((out.len(), resigner.held_bytes()), (sent.len(), 0));
        assert!(out.starts_with(b"00A;") && resigner.finish().is_ok());
    }

    #[test]
    fn what_is_no_signed_chunk_is_refused() {
        let zeros = "0".repeat(64);
        for (bad, error) in [
            ("5\r\nhello\r\n".to_owned(), ChunkError::Form),
            (format!("+5;chunk-signature={zeros}\r\nhello\r\n"), ChunkError::Form),
            (format!("5;chunk-signature={zeros}\r\nhelloXX"), ChunkError::Form),
            (format!("5;chunk-signature={zeros}00\r\nhello\r\n"), ChunkError::Form),
            (format!("ffffffffffffffffffff;chunk-signature={zeros}\r\n"), ChunkError::TooLarge),
            (format!("1000001;chunk-signature={zeros}\r\n"), ChunkError::TooLarge),
            (format!("0;chunk-signature={zeros}\r\n\r\nmore"), ChunkError::Form),
            ("5".repeat(AWS_CHUNK_HEAD_BYTES_MAX + 2), ChunkError::Form),
        ] {
            assert_eq!(resigner().push(bad.as_bytes(), &mut Vec::new()), Err(error), "{bad}");
        }
    }

    #[test]
    fn a_head_line_has_its_limit_however_it_comes() {
        let head_of = |length: usize| {
            let digits = "0".repeat(length - SIGNATURE.len() - 64);
            format!("{digits};chunk-signature={}\r\n\r\n", "0".repeat(64))
        };
        for (length, expected) in
            [(AWS_CHUNK_HEAD_BYTES_MAX, Ok(())), (AWS_CHUNK_HEAD_BYTES_MAX + 1, Err(ChunkError::Form))]
        {
            let sent = head_of(length);
            for step in [1, sent.len()] {
                let (mut resigner, mut out) = (resigner(), Vec::new());
                let mut pieces = sent.as_bytes().chunks(step);
                let result = pieces.try_for_each(|piece| resigner.push(piece, &mut out));
                assert_eq!(result, expected, "{length} in pieces of {step}");
            }
        }
    }
}
