//! The coding `br` (RFC 7932).

use brotli_decompressor::{
    BrotliDecoderParameter, BrotliDecompressStream, BrotliResult, BrotliState, StandardAlloc,
};

use super::{Coding, CodingError, Progress};
use crate::limits::{BROTLI_STATE_BYTES_MAX, BROTLI_WINDOW_BYTES_MAX};

pub struct Brotli {
    state: Box<BrotliState<StandardAlloc, StandardAlloc, StandardAlloc>>,
    /// Known from the first byte on.
    window_bytes: Option<usize>,
    ended: bool,
}

/// RFC 7932 §9.1: the window, in bits. `None` is the one value that stands for a "large window", which is not
/// part of the RFC.
fn window_bits(first: u8) -> Option<u32> {
    match (first & 1, first >> 1 & 7, first >> 4 & 7) {
        (0, _, _) => Some(16),
        (_, 0, 0) => Some(17),
        (_, 0, 1) => None,
        (_, 0, low) => Some(u32::from(low).saturating_add(8)),
        (_, high, _) => Some(u32::from(high).saturating_add(17)),
    }
}

impl Brotli {
    pub fn new() -> Self {
        let alloc = StandardAlloc::default;
        let mut state = Box::new(BrotliState::new_strict(alloc(), alloc(), alloc()));
        // The window is taken whole: untouched pages cost nothing, and growing would hold two at a time.
        state.set_parameter(BrotliDecoderParameter::BROTLI_DECODER_PARAM_DISABLE_RING_BUFFER_REALLOCATION, 1);
        Self { state, window_bytes: None, ended: false }
    }

    pub fn is_at_end(&self) -> bool {
        self.ended
    }

    pub fn bytes(&self) -> usize {
        self.window_bytes.unwrap_or(BROTLI_WINDOW_BYTES_MAX).saturating_add(BROTLI_STATE_BYTES_MAX)
    }

    pub fn step(&mut self, input: &[u8], out: &mut [u8]) -> Result<Progress, CodingError> {
        if self.ended {
            let more = (!input.is_empty()).then_some(CodingError::Trailing(Coding::Brotli));
            return more.map_or(Ok(Progress::default()), Err);
        }
        if let (None, Some(first)) = (self.window_bytes, input.first()) {
            let bits = window_bits(*first).ok_or(CodingError::WindowTooLarge(Coding::Brotli))?;
            self.window_bytes = Some(1usize << bits);
        }
        let (mut in_left, mut read) = (input.len(), 0);
        let (mut out_left, mut written) = (out.len(), 0);
        let result = BrotliDecompressStream(
            &mut in_left,
            &mut read,
            input,
            &mut out_left,
            &mut written,
            out,
            &mut 0,
            &mut self.state,
        );
        match result {
            BrotliResult::ResultFailure => return Err(CodingError::Malformed(Coding::Brotli)),
            BrotliResult::ResultSuccess => self.ended = true,
            BrotliResult::NeedsMoreInput | BrotliResult::NeedsMoreOutput => {}
        }
        Ok(Progress { read, written })
    }
}
