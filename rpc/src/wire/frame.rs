//! The head every frame begins with.

use bytes::BytesMut;

/// Frame types.
pub(crate) mod kind {
    pub(crate) const REQUEST: u8 = 1;
    pub(crate) const RESPONSE: u8 = 2;
    pub(crate) const CANCEL: u8 = 3;
    pub(crate) const PING: u8 = 4;
    pub(crate) const PONG: u8 = 5;
    pub(crate) const GO_AWAY: u8 = 6;
}

/// The type and flags that turn a frame nobody has read yet into one to skip.
pub(crate) const PAD: [u8; 2] = [0, OPTIONAL];
/// Flag: a receiver that does not know the type skips the frame.
const OPTIONAL: u8 = 1;

/// The call id of a go-away that only announces one: all calls are accepted still.
pub(crate) const STOP_SOON: u64 = u64::MAX;

/// The first fourteen bytes of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Head {
    /// Bytes after the length field itself, so at least [`Head::REST`].
    pub(crate) length: u32,
    pub(crate) kind: u8,
    pub(crate) flags: u8,
    pub(crate) id: u64,
}

impl Head {
    pub(crate) const LEN: usize = 4 + Self::REST;
    /// Bytes of the head that its length counts: type, flags, id.
    pub(crate) const REST: usize = 10;

    pub(crate) fn new(kind: u8, id: u64, payload: usize) -> Self {
        // Both encoders check against a limit below 64 MiB before they get here.
        Self { length: (Self::REST + payload) as u32, kind, flags: 0, id }
    }

    pub(crate) fn to_bytes(self) -> [u8; Self::LEN] {
        let [l0, l1, l2, l3] = self.length.to_be_bytes();
        let [i0, i1, i2, i3, i4, i5, i6, i7] = self.id.to_be_bytes();
        [l0, l1, l2, l3, self.kind, self.flags, i0, i1, i2, i3, i4, i5, i6, i7]
    }

    pub(crate) fn parse(bytes: &[u8; Self::LEN]) -> Self {
        let [l0, l1, l2, l3, kind, flags, i0, i1, i2, i3, i4, i5, i6, i7] = *bytes;
        Self {
            length: u32::from_be_bytes([l0, l1, l2, l3]),
            kind,
            flags,
            id: u64::from_be_bytes([i0, i1, i2, i3, i4, i5, i6, i7]),
        }
    }

    pub(crate) fn is_optional(&self) -> bool {
        self.flags & OPTIONAL != 0
    }
}

/// Appends a frame that is only a head: cancel, ping, pong or go-away.
pub(crate) fn put_control(out: &mut BytesMut, kind: u8, id: u64) {
    out.extend_from_slice(&Head::new(kind, id, 0).to_bytes());
}
