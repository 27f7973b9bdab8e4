//! The sixteen bytes each side sends first.

use super::WireError;
use crate::Codec;
use crate::limits::{Limits, MIN_FRAME};

/// What each side says about itself before the first frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Preface {
    pub(crate) version: u8,
    /// Bit *n* is codec id *n*.
    pub(crate) codecs: u16,
    /// The longest frame the sender accepts.
    pub(crate) max_frame: u32,
    /// The most calls the sender runs at once on this connection.
    pub(crate) max_in_flight: u32,
}

impl Preface {
    pub(crate) const LEN: usize = 16;
    pub(crate) const VERSION: u8 = 1;
    /// "µrpc" in Latin-1: no text protocol begins with its first byte, nor does TLS.
    pub(crate) const MAGIC: [u8; 4] = [0xB5, b'r', b'p', b'c'];

    /// What this side says, given its limits.
    pub(crate) fn ours(limits: &Limits) -> Self {
        let number = |limit: usize| u32::try_from(limit).unwrap_or(u32::MAX);
        Self {
            version: Self::VERSION,
            codecs: Codec::BITMAP,
            max_frame: number(limits.max_frame),
            max_in_flight: number(limits.max_in_flight),
        }
    }

    pub(crate) fn encode(&self) -> [u8; Self::LEN] {
        let mut bytes = [0; Self::LEN];
        bytes[..4].copy_from_slice(&Self::MAGIC);
        bytes[4] = self.version;
        bytes[6..8].copy_from_slice(&self.codecs.to_be_bytes());
        bytes[8..12].copy_from_slice(&self.max_frame.to_be_bytes());
        bytes[12..].copy_from_slice(&self.max_in_flight.to_be_bytes());
        bytes
    }

    pub(crate) fn decode(bytes: &[u8; Self::LEN]) -> Result<Self, WireError> {
        let [m0, m1, m2, m3, version, _flags, c0, c1, f0, f1, f2, f3, n0, n1, n2, n3] = *bytes;
        if [m0, m1, m2, m3] != Self::MAGIC {
            return Err(WireError::Magic);
        }
        if version != Self::VERSION {
            return Err(WireError::Version(version));
        }
        let preface = Self {
            version,
            codecs: u16::from_be_bytes([c0, c1]),
            max_frame: u32::from_be_bytes([f0, f1, f2, f3]),
            max_in_flight: u32::from_be_bytes([n0, n1, n2, n3]),
        };
        let usable = preface.max_frame as usize >= MIN_FRAME && preface.max_in_flight > 0;
        if usable { Ok(preface) } else { Err(WireError::Offer) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Each way a preface can be wrong has its own error.
    #[test]
    fn refuses_what_it_cannot_speak() {
        let good = Preface::ours(&Limits::default()).encode();
        let with = |at: usize, byte: u8| {
            let mut bytes = good;
            bytes[at] = byte;
            Preface::decode(&bytes)
        };
        assert_eq!(with(1, b'x'), Err(WireError::Magic));
        assert_eq!(with(4, 2), Err(WireError::Version(2)));
        assert_eq!(with(9, 0), Err(WireError::Offer));
        assert_eq!(with(14, 0), Err(WireError::Offer));
        assert!(with(5, 0xff).is_ok(), "flags are for later versions to use");
    }
}
