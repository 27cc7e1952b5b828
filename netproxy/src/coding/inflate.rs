//! RFC 1951 (DEFLATE), and the coding `deflate` around it (RFC 1950).

use flate2::{Decompress, FlushDecompress, Status};

use super::{Coding, CodingError, Progress};

/// One step of RFC 1951 or 1950; also says whether it ended.
pub fn inflate(
    machine: &mut Decompress,
    input: &[u8],
    out: &mut [u8],
    coding: Coding,
) -> Result<(Progress, bool), CodingError> {
    let before = (machine.total_in(), machine.total_out());
    let status = machine.decompress(input, out, FlushDecompress::None);
    let status = status.map_err(|_| CodingError::Malformed(coding))?;
    let grown = |now: u64, before: u64| usize::try_from(now.saturating_sub(before)).unwrap_or(0);
    let progress =
        Progress { read: grown(machine.total_in(), before.0), written: grown(machine.total_out(), before.1) };
    Ok((progress, status == Status::StreamEnd))
}

/// The coding `deflate`.
pub struct Deflate {
    /// The first two bytes tell which of the two formats it is, and are decoded afterwards.
    start: Vec<u8>,
    start_used: usize,
    machine: Option<Decompress>,
    ended: bool,
}

/// RFC 1950 §2.2: the method is 8 with a window of up to 32 KiB, no dictionary, and the check bits are right.
fn is_zlib(first: u8, second: u8) -> bool {
    first & 0x0f == 8
        && first >> 4 <= 7
        && second & 0x20 == 0
        && u16::from_be_bytes([first, second]).is_multiple_of(31)
}

impl Deflate {
    pub fn new() -> Self {
        Self { start: Vec::new(), start_used: 0, machine: None, ended: false }
    }

    pub fn is_at_end(&self) -> bool {
        self.ended
    }

    pub fn step(&mut self, input: &[u8], out: &mut [u8]) -> Result<Progress, CodingError> {
        if self.ended {
            let more = (!input.is_empty()).then_some(CodingError::Trailing(Coding::Deflate));
            return more.map_or(Ok(Progress::default()), Err);
        }
        let Some(machine) = &mut self.machine else {
            let Some(byte) = input.first() else { return Ok(Progress::default()) };
            self.start.push(*byte);
            if let [first, second] = *self.start.as_slice() {
                self.machine = Some(Decompress::new(is_zlib(first, second)));
            }
            return Ok(Progress { read: 1, written: 0 });
        };
        let start = self.start.get(self.start_used..).unwrap_or_default();
        if start.is_empty() {
            let (progress, ended) = inflate(machine, input, out, Coding::Deflate)?;
            self.ended = ended;
            return Ok(progress);
        }
        let (progress, ended) = inflate(machine, start, out, Coding::Deflate)?;
        self.start_used = self.start_used.saturating_add(progress.read);
        self.ended = ended;
        if progress.written == 0 && !ended && self.start_used >= self.start.len() && !input.is_empty() {
            // Nothing of the caller's was read yet: go on, or it would look as if more input were needed.
            let (progress, ended) = inflate(machine, input, out, Coding::Deflate)?;
            self.ended = ended;
            return Ok(progress);
        }
        Ok(Progress { read: 0, written: progress.written })
    }
}
