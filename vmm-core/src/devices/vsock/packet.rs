//! The header of a vsock packet (virtio 1.2 §5.10.6), little-endian on the wire.
//!
//! Decoding is total: any 44 bytes are a [`Header`]; whether they make sense is asked later, by
//! [`Header::op`], the multiplexer (addresses) and the connection (order and credit).

/// Bytes of a header on the wire.
pub const HEADER_BYTES: usize = 44;

/// The context id of the host (`VMADDR_CID_HOST`).
pub const HOST_CID: u64 = 2;

/// `VIRTIO_VSOCK_TYPE_STREAM`, the only type offered here.
pub const TYPE_STREAM: u16 = 1;

/// Shutdown flag: the sender will not receive any more.
pub const SHUTDOWN_RECEIVE: u32 = 1;
/// Shutdown flag: the sender will not send any more.
pub const SHUTDOWN_SEND: u32 = 2;
/// Both directions: the sender has closed.
pub const SHUTDOWN_BOTH: u32 = SHUTDOWN_RECEIVE | SHUTDOWN_SEND;

/// What a packet asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u16)]
pub enum Op {
    /// Open a connection.
    Request = 1,
    /// Accept it.
    Response = 2,
    /// Refuse or abort it.
    Reset = 3,
    /// End one or both directions.
    Shutdown = 4,
    /// Carry payload.
    Data = 5,
    /// Tell the receive window.
    CreditUpdate = 6,
    /// Ask for the receive window.
    CreditRequest = 7,
}

impl Op {
    fn from_wire(op: u16) -> Option<Self> {
        Some(match op {
            1 => Self::Request,
            2 => Self::Response,
            3 => Self::Reset,
            4 => Self::Shutdown,
            5 => Self::Data,
            6 => Self::CreditUpdate,
            7 => Self::CreditRequest,
            _ => return None,
        })
    }
}

/// One header, fields in the order of the wire.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Header {
    /// Context id of the sender.
    pub src_cid: u64,
    /// Context id of the receiver.
    pub dst_cid: u64,
    /// Port of the sender.
    pub src_port: u32,
    /// Port of the receiver.
    pub dst_port: u32,
    /// Bytes of payload that follow.
    pub len: u32,
    /// Socket type.
    pub kind: u16,
    /// Operation as it is on the wire; see [`Header::op`].
    pub raw_op: u16,
    /// Flags of [`Op::Shutdown`].
    pub flags: u32,
    /// Bytes the sender can hold for this connection.
    pub buf_alloc: u32,
    /// Bytes the sender has taken out of that buffer since the connection began, modulo 2³².
    pub fwd_cnt: u32,
}

impl Header {
    /// The operation, or `None` for a number that virtio 1.2 does not define.
    #[must_use]
    pub fn op(&self) -> Option<Op> {
        Op::from_wire(self.raw_op)
    }

    /// Reads a header from its 44 bytes.
    #[must_use]
    pub fn decode(bytes: &[u8; HEADER_BYTES]) -> Self {
        let mut wire = Wire(bytes);
        Self {
            src_cid: u64::from_le_bytes(wire.take()),
            dst_cid: u64::from_le_bytes(wire.take()),
            src_port: u32::from_le_bytes(wire.take()),
            dst_port: u32::from_le_bytes(wire.take()),
            len: u32::from_le_bytes(wire.take()),
            kind: u16::from_le_bytes(wire.take()),
            raw_op: u16::from_le_bytes(wire.take()),
            flags: u32::from_le_bytes(wire.take()),
            buf_alloc: u32::from_le_bytes(wire.take()),
            fwd_cnt: u32::from_le_bytes(wire.take()),
        }
    }

    /// Writes the header as its 44 bytes.
    #[must_use]
    pub fn encode(&self) -> [u8; HEADER_BYTES] {
        let fields: [&[u8]; 10] = [
            &self.src_cid.to_le_bytes(),
            &self.dst_cid.to_le_bytes(),
            &self.src_port.to_le_bytes(),
            &self.dst_port.to_le_bytes(),
            &self.len.to_le_bytes(),
            &self.kind.to_le_bytes(),
            &self.raw_op.to_le_bytes(),
            &self.flags.to_le_bytes(),
            &self.buf_alloc.to_le_bytes(),
            &self.fwd_cnt.to_le_bytes(),
        ];
        let mut bytes = [0; HEADER_BYTES];
        for (to, from) in bytes.iter_mut().zip(fields.into_iter().flatten()) {
            *to = *from;
        }
        bytes
    }
}

/// Takes fixed-size fields from the front. The fields of [`Header::decode`] add up to 44 bytes, so the
/// zeros given past the end are never seen.
struct Wire<'a>(&'a [u8]);

impl Wire<'_> {
    fn take<const N: usize>(&mut self) -> [u8; N] {
        let (field, rest) = self.0.split_first_chunk().map_or(([0; N], [].as_slice()), |(f, r)| (*f, r));
        self.0 = rest;
        field
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn fields_are_where_virtio_1_2_puts_them() {
        let header = Header {
            src_cid: 3,
            dst_cid: 2,
            src_port: 0x0102_0304,
            dst_port: 1024,
            len: 5,
            kind: TYPE_STREAM,
            raw_op: Op::Data as u16,
            flags: 0,
            buf_alloc: 0x0004_0000,
            fwd_cnt: 9,
        };
        let bytes = header.encode();
        assert_eq!(bytes[0..8], [3, 0, 0, 0, 0, 0, 0, 0]);
        assert_eq!(bytes[16..20], [4, 3, 2, 1]);
        assert_eq!(bytes[28..32], [1, 0, 5, 0]);
        assert_eq!(bytes[36..44], [0, 0, 4, 0, 9, 0, 0, 0]);
    }

    proptest! {
        #[test]
        fn any_44_bytes_decode_and_encode_back(bytes in prop::array::uniform32(any::<u8>()), tail in prop::array::uniform12(any::<u8>())) {
            let mut all = [0; HEADER_BYTES];
            all[..32].copy_from_slice(&bytes);
            all[32..].copy_from_slice(&tail);
            prop_assert_eq!(Header::decode(&all).encode(), all);
        }
    }
}
