//! The coding `zstd` (RFC 8878), with windows of at most 8 MiB (RFC 9659 §3).

use zstd_safe::zstd_sys::ZSTD_ErrorCode;
use zstd_safe::{DCtx, DParameter, InBuffer, OutBuffer, is_error_kind};

use super::{Coding, CodingError, Progress};
use crate::limits::{ZSTD_STATE_BYTES_MAX, ZSTD_WINDOW_BYTES_MAX};

pub struct Zstd {
    machine: DCtx<'static>,
    /// Before the first frame, between two, or after the last.
    between: bool,
    /// The frame has given something, so its window is there.
    begun: bool,
    /// Nothing is left inside that could be given without more input.
    drained: bool,
    frames: u64,
}

impl Zstd {
    /// `None` if there is no memory.
    pub fn new() -> Option<Self> {
        let mut machine = DCtx::try_create()?;
        machine.set_parameter(DParameter::WindowLogMax(ZSTD_WINDOW_BYTES_MAX.ilog2())).ok()?;
        Some(Self { machine, between: true, begun: false, drained: true, frames: 0 })
    }

    pub fn is_at_end(&self) -> bool {
        self.between && self.frames > 0
    }

    /// What it uses, or may use in its next step with more input.
    pub fn bytes(&self, more: bool) -> usize {
        match self.begun || (self.is_at_end() && !more) {
            true => self.machine.sizeof(),
            false => ZSTD_WINDOW_BYTES_MAX.saturating_add(ZSTD_STATE_BYTES_MAX),
        }
    }

    pub fn step(&mut self, input: &[u8], out: &mut [u8]) -> Result<Progress, CodingError> {
        // At the end of a frame nothing is left inside, also where all room was filled; asked once more without input, it
        // would be in the middle of the next frame's head.
        if input.is_empty() && (self.drained || self.between) {
            return Ok(Progress::default());
        }
        let room = out.len();
        let (mut from, mut to) = (InBuffer::around(input), OutBuffer::around(out));
        let left = self.machine.decompress_stream(&mut to, &mut from).map_err(|code| {
            let too_large = ZSTD_ErrorCode::ZSTD_error_frameParameter_windowTooLarge;
            match is_error_kind(code, too_large) {
                true => CodingError::WindowTooLarge(Coding::Zstd),
                false if self.is_at_end() => CodingError::Trailing(Coding::Zstd),
                false => CodingError::Malformed(Coding::Zstd),
            }
        })?;
        let progress = Progress { read: from.pos(), written: to.pos() };
        self.drained = progress.written < room;
        self.between = left == 0;
        self.begun = !self.between && (self.begun || progress.written > 0);
        if self.between {
            self.frames = self.frames.saturating_add(1);
        }
        Ok(progress)
    }
}
