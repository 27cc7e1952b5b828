//! The coding `gzip` (RFC 1952): headers, members one after another, and their checksums.

use flate2::{Crc, Decompress};

use super::inflate::inflate;
use super::{Coding, CodingError, Progress};

/// Flags of the header (RFC 1952 §2.3.1).
const HEADER_CRC: u8 = 0x02;
const EXTRA: u8 = 0x04;
const NAME: u8 = 0x08;
const COMMENT: u8 = 0x10;
const RESERVED: u8 = 0xe0;

/// What the next byte belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum At {
    /// The ten bytes that each header has; so many were read.
    Fixed(u8),
    ExtraLength(u8),
    Extra(u16),
    Name,
    Comment,
    HeaderCrc(u8),
    Body,
    /// Checksum and length; so many bytes were read.
    Trailer(u8),
}

pub struct Gzip {
    at: At,
    flags: u8,
    /// Numbers of several bytes while they are read, the last byte highest.
    number: [u8; 8],
    header_crc: Crc,
    body_crc: Crc,
    machine: Decompress,
    /// Whole members so far.
    members: u64,
}

impl Gzip {
    pub fn new() -> Self {
        Self {
            at: At::Fixed(0),
            flags: 0,
            number: [0; 8],
            header_crc: Crc::new(),
            body_crc: Crc::new(),
            machine: Decompress::new(false),
            members: 0,
        }
    }

    /// Between members, and not before the first one.
    pub fn is_at_end(&self) -> bool {
        self.at == At::Fixed(0) && self.members > 0
    }

    pub fn step(&mut self, input: &[u8], out: &mut [u8]) -> Result<Progress, CodingError> {
        let mut read = 0usize;
        loop {
            let rest = input.get(read..).unwrap_or_default();
            if self.at == At::Body {
                let (progress, ended) = inflate(&mut self.machine, rest, out, Coding::Gzip)?;
                self.body_crc.update(out.get(..progress.written).unwrap_or_default());
                if ended {
                    self.at = At::Trailer(0);
                }
                let progress = Progress { read: read.saturating_add(progress.read), ..progress };
                if !ended || progress.written > 0 {
                    return Ok(progress);
                }
                read = progress.read;
                continue;
            }
            let Some(byte) = rest.first() else { return Ok(Progress { read, written: 0 }) };
            read = read.saturating_add(1);
            self.at = if let At::Trailer(count) = self.at {
                self.trailer(count, *byte)?
            } else {
                self.header(*byte)?
            };
        }
    }

    fn header(&mut self, byte: u8) -> Result<At, CodingError> {
        if !matches!(self.at, At::HeaderCrc(_)) {
            self.header_crc.update(&[byte]);
        }
        let next = match self.at {
            At::Fixed(count) => return self.fixed(count, byte),
            At::ExtraLength(0) => {
                self.keep(0, byte);
                return Ok(At::ExtraLength(1));
            }
            At::ExtraLength(_) => match u16::from_le_bytes([self.number[0], byte]) {
                0 => self.after(EXTRA),
                length => return Ok(At::Extra(length)),
            },
            At::Extra(left @ 2..) => return Ok(At::Extra(left.saturating_sub(1))),
            At::Extra(_) => self.after(EXTRA),
            At::Name if byte == 0 => self.after(NAME),
            At::Comment if byte == 0 => self.after(COMMENT),
            At::HeaderCrc(0) => {
                self.keep(0, byte);
                return Ok(At::HeaderCrc(1));
            }
            At::HeaderCrc(_) => {
                let given = u32::from(u16::from_le_bytes([self.number[0], byte]));
                if given != self.header_crc.sum() & 0xffff {
                    return Err(CodingError::Malformed(Coding::Gzip));
                }
                self.after(HEADER_CRC)
            }
            same => return Ok(same),
        };
        if next == At::Body {
            self.machine.reset(false);
            self.body_crc.reset();
        }
        Ok(next)
    }

    fn fixed(&mut self, count: u8, byte: u8) -> Result<At, CodingError> {
        let wrong = match count {
            0 => byte != 0x1f,
            1 => byte != 0x8b,
            2 => byte != 8,
            3 => byte & RESERVED != 0,
            _ => false,
        };
        if wrong {
            let trailing = count == 0 && self.members > 0;
            return Err(match trailing {
                true => CodingError::Trailing(Coding::Gzip),
                false => CodingError::Malformed(Coding::Gzip),
            });
        }
        if count == 3 {
            self.flags = byte;
        }
        if count < 9 {
            return Ok(At::Fixed(count.saturating_add(1)));
        }
        let next = self.after(0);
        if next == At::Body {
            self.machine.reset(false);
            self.body_crc.reset();
        }
        Ok(next)
    }

    /// The part that follows the one of this flag; 0 is the fixed part.
    fn after(&self, flag: u8) -> At {
        // Not in the order of the flags: RFC 1952 §2.3.
        let order = [
            (EXTRA, At::ExtraLength(0)),
            (NAME, At::Name),
            (COMMENT, At::Comment),
            (HEADER_CRC, At::HeaderCrc(0)),
        ];
        let passed = order.iter().position(|(one, _)| *one == flag).map_or(0, |at| at.saturating_add(1));
        let next = order.iter().skip(passed).find(|(one, _)| self.flags & one != 0);
        next.map_or(At::Body, |(_, at)| *at)
    }

    /// RFC 1952 §2.3.1: CRC-32 and length modulo 2³², both little-endian.
    fn trailer(&mut self, count: u8, byte: u8) -> Result<At, CodingError> {
        self.keep(count, byte);
        if count < 7 {
            return Ok(At::Trailer(count.saturating_add(1)));
        }
        let expected = u64::from(self.body_crc.amount()) << 32 | u64::from(self.body_crc.sum());
        if u64::from_le_bytes(self.number) != expected {
            return Err(CodingError::Malformed(Coding::Gzip));
        }
        self.members = self.members.saturating_add(1);
        self.header_crc.reset();
        Ok(At::Fixed(0))
    }

    fn keep(&mut self, at: u8, byte: u8) {
        if let Some(place) = self.number.get_mut(usize::from(at)) {
            *place = byte;
        }
    }
}
