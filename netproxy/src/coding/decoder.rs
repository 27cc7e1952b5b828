//! One encoded body, coding after coding.

use bytes::{Buf, Bytes};

use super::brotli::Brotli;
use super::gzip::Gzip;
use super::inflate::Deflate;
use super::zstd::Zstd;
use super::{Coding, CodingError, Lease, Progress, Room};
use crate::limits::{
    CODING_BARREN_BYTES_MAX, CODING_MIDDLE_FREE_BYTES, CODING_MIDDLE_RATIO_MAX, CODING_PIECE_BYTES,
    CODING_RATIO_FREE_BYTES, CODING_RATIO_MAX, CODING_STEPS_MAX, CODINGS_MAX,
};

enum Machine {
    Gzip(Box<Gzip>),
    Deflate(Box<Deflate>),
    Brotli(Brotli),
    Zstd(Zstd),
}

/// One coding, the memory it may use, and what went through it.
struct Stage {
    coding: Coding,
    machine: Machine,
    lease: Lease,
    read: u64,
    written: u64,
    /// Bytes read since the last byte written.
    barren: u64,
}

impl Stage {
    fn new(coding: Coding, mut lease: Lease) -> Result<Self, CodingError> {
        if !lease.resize(coding.bytes_max()) {
            return Err(CodingError::NoRoom);
        }
        let machine = match coding {
            Coding::Gzip => Machine::Gzip(Box::new(Gzip::new())),
            Coding::Deflate => Machine::Deflate(Box::new(Deflate::new())),
            Coding::Brotli => Machine::Brotli(Brotli::new()),
            Coding::Zstd => Machine::Zstd(Zstd::new().ok_or(CodingError::NoRoom)?),
        };
        Ok(Self { coding, machine, lease, read: 0, written: 0, barren: 0 })
    }

    fn bytes(&self, more: bool) -> usize {
        match &self.machine {
            Machine::Gzip(_) | Machine::Deflate(_) => self.coding.bytes_max(),
            Machine::Brotli(brotli) => brotli.bytes(),
            Machine::Zstd(zstd) => zstd.bytes(more),
        }
    }

    fn is_at_end(&self) -> bool {
        match &self.machine {
            Machine::Gzip(gzip) => gzip.is_at_end(),
            Machine::Deflate(deflate) => deflate.is_at_end(),
            Machine::Brotli(brotli) => brotli.is_at_end(),
            Machine::Zstd(zstd) => zstd.is_at_end(),
        }
    }

    fn step(&mut self, input: &[u8], out: &mut [u8]) -> Result<Progress, CodingError> {
        if !self.lease.resize(self.bytes(!input.is_empty())) {
            return Err(CodingError::NoRoom);
        }
        match &mut self.machine {
            Machine::Gzip(gzip) => gzip.step(input, out),
            Machine::Deflate(deflate) => deflate.step(input, out),
            Machine::Brotli(brotli) => brotli.step(input, out),
            Machine::Zstd(zstd) => zstd.step(input, out),
        }
    }

    fn count(&mut self, Progress { read, written }: Progress) -> Result<(), CodingError> {
        let (read, written) = (read as u64, written as u64);
        self.read = self.read.saturating_add(read);
        self.written = self.written.saturating_add(written);
        self.barren = if written > 0 { 0 } else { self.barren.saturating_add(read) };
        if self.barren > CODING_BARREN_BYTES_MAX { Err(CodingError::Barren) } else { Ok(()) }
    }

    /// Goes on until something was written; 0 if that needs more input.
    fn drive(&mut self, input: &mut Bytes, out: &mut [u8]) -> Result<usize, CodingError> {
        loop {
            let progress = self.step(input, out)?;
            self.count(progress)?;
            input.advance(progress.read.min(input.len()));
            match progress {
                Progress { written: 1.., .. } => return Ok(progress.written),
                Progress { read: 1.., .. } => {}
                _ if input.is_empty() => return Ok(0),
                _ => return Err(CodingError::Malformed(self.coding)),
            }
        }
    }
}

/// Fails where `written` bytes are too many for what they were made of.
fn check_growth(read: u64, written: u64, (ratio, free): (u64, u64)) -> Result<(), CodingError> {
    if written > read.saturating_mul(ratio).max(free) { Err(CodingError::TooDense) } else { Ok(()) }
}

/// Decodes one body: [`Decoder::push`] a chunk, [`Decoder::pull`] until there is none, and so on;
/// [`Decoder::finish`] at the end. After an error nothing more may be asked.
pub struct Decoder {
    /// The coding that was applied last, which is undone first.
    outer: Stage,
    /// The one below it, with what the outer one gave and it has not taken.
    inner: Option<(Stage, Bytes)>,
    input: Bytes,
    /// Nothing comes before the next chunk.
    drained: bool,
}

impl Decoder {
    /// For a body with these codings, in the order in which they were applied. `lease` holds memory that was taken
    /// before they were known.
    ///
    /// # Errors
    /// [`CodingError::NoRoom`] if there is not enough memory.
    pub fn new(codings: &[Coding], lease: Option<Lease>, room: &Room) -> Result<Option<Self>, CodingError> {
        debug_assert!(codings.len() <= CODINGS_MAX);
        let nothing = || room.take(0).ok_or(CodingError::NoRoom);
        let (outer, inner) = match codings {
            [] => return Ok(None),
            [one] => (*one, None),
            [inner, .., outer] => (*outer, Some(*inner)),
        };
        let outer = Stage::new(outer, lease.map_or_else(nothing, Ok)?)?;
        let inner = inner.map(|inner| Ok((Stage::new(inner, nothing()?)?, Bytes::new()))).transpose()?;
        Ok(Some(Self { outer, inner, input: Bytes::new(), drained: true }))
    }

    /// Takes the next chunk. What is left of the one before is lost, so pull first.
    pub fn push(&mut self, chunk: Bytes) {
        debug_assert!(self.input.is_empty());
        self.drained = false;
        self.input = chunk;
    }

    /// The next piece, at most [`CODING_PIECE_BYTES`]; `None` if it needs another chunk. An empty one is no end: so much
    /// was done that others should have their turn first.
    ///
    /// # Errors
    /// [`CodingError`]: the body is not to be passed on any further.
    pub fn pull(&mut self) -> Result<Option<Bytes>, CodingError> {
        if self.drained {
            return Ok(None);
        }
        // Small chunks are events of a stream: no large buffer for each.
        let size = self.input.len().saturating_mul(4).clamp(CODING_PIECE_BYTES / 16, CODING_PIECE_BYTES);
        let (mut out, mut filled) = (vec![0; size], 0usize);
        for _ in 0..CODING_STEPS_MAX {
            let Some(space) = out.get_mut(filled..).filter(|space| !space.is_empty()) else { break };
            let Some(written) = self.write(space)? else {
                self.drained = true;
                break;
            };
            filled = filled.saturating_add(written);
        }
        let last = self.inner.as_ref().map_or(&self.outer, |(inner, _)| inner);
        check_growth(self.outer.read, last.written, (CODING_RATIO_MAX, CODING_RATIO_FREE_BYTES))?;
        out.truncate(filled);
        Ok((filled > 0 || !self.drained).then(|| Bytes::from(out)))
    }

    /// The body ended, and everything was pulled.
    ///
    /// # Errors
    /// [`CodingError::Truncated`] if it should not have ended here. A body without any byte is taken as empty.
    pub fn finish(&mut self) -> Result<(), CodingError> {
        let stages = [Some(&self.outer), self.inner.as_ref().map(|(stage, _)| stage)];
        let open = stages.into_iter().flatten().find(|stage| !stage.is_at_end());
        match open {
            Some(stage) if self.outer.read > 0 => Err(CodingError::Truncated(stage.coding)),
            _ => Ok(()),
        }
    }

    /// One step: how much it has written, or `None` if it needs another chunk.
    fn write(&mut self, out: &mut [u8]) -> Result<Option<usize>, CodingError> {
        let Some((inner, middle)) = &mut self.inner else {
            let written = self.outer.drive(&mut self.input, out)?;
            return Ok(Some(written).filter(|written| *written > 0));
        };
        let written = inner.drive(middle, out)?;
        if written > 0 {
            return Ok(Some(written));
        }
        let mut decoded = vec![0; CODING_PIECE_BYTES];
        let given = self.outer.drive(&mut self.input, &mut decoded)?;
        let free = inner.written.saturating_mul(2).max(CODING_MIDDLE_FREE_BYTES);
        check_growth(self.outer.read, self.outer.written, (CODING_MIDDLE_RATIO_MAX, free))?;
        decoded.truncate(given);
        *middle = decoded.into();
        Ok((given > 0).then_some(0))
    }
}
