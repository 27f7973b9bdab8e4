//! Bytes that were read, cut into frames.

use bytes::{Buf, Bytes, BytesMut};

use super::{Head, WireError};
use crate::limits::HARD_MAX_FRAME;

/// Bytes that were read, and the frames in them.
///
/// It holds at most one incomplete frame of the accepted size, and sets memory aside only as bytes
/// arrive: a peer that announces much and sends little costs little.
#[derive(Debug)]
pub(crate) struct Inbox {
    buffer: BytesMut,
    /// Bytes of the buffer that were taken already. They are cut off once before each read, and not
    /// with every frame, which costs more than looking beyond them.
    taken: usize,
    /// Bytes of an oversized frame that are still to be thrown away.
    skip: usize,
    max_frame: usize,
    chunk: usize,
}

/// What was found in the inbox.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Incoming {
    /// A frame and its payload.
    Frame(Head, Bytes),
    /// A frame above the limit; its payload is thrown away as it comes.
    Oversized(Head),
}

/// Payloads up to this size are copied, so that a small one cannot pin a large buffer.
const COPY: usize = 2048;
/// Bytes a first read asks for; full reads double it.
const MIN_CHUNK: usize = 1024;
const MAX_CHUNK: usize = 128 * 1024;

impl Inbox {
    pub(crate) fn new(max_frame: usize) -> Self {
        Self { buffer: BytesMut::new(), taken: 0, skip: 0, max_frame, chunk: MIN_CHUNK }
    }

    /// Returns the buffer to read into, with room for more.
    pub(crate) fn space(&mut self) -> &mut BytesMut {
        self.cut();
        // A large frame doubles the buffer until it fits.
        self.buffer.reserve(self.chunk.max(self.missing().min(self.buffer.len())));
        &mut self.buffer
    }

    /// Notes how many bytes a read brought.
    pub(crate) fn filled(&mut self, count: usize) {
        if count >= self.chunk {
            self.chunk = (self.chunk * 2).min(MAX_CHUNK);
        }
    }

    /// Takes exactly `N` bytes, once they are there.
    pub(crate) fn take<const N: usize>(&mut self) -> Option<[u8; N]> {
        let bytes = *self.rest().first_chunk::<N>()?;
        self.taken += N;
        Some(bytes)
    }

    /// Returns the first byte, once it is there.
    pub(crate) fn first(&self) -> Option<u8> {
        self.rest().first().copied()
    }

    /// Gives up all bytes, for another protocol to read.
    #[cfg(feature = "http")]
    pub(crate) fn into_bytes(mut self) -> Bytes {
        self.cut();
        self.buffer.freeze()
    }

    /// Throws everything away.
    pub(crate) fn clear(&mut self) {
        self.buffer.clear();
        self.taken = 0;
    }

    /// Whether the peer owes the rest of a frame.
    pub(crate) fn is_mid_frame(&self) -> bool {
        !self.rest().is_empty() || self.skip > 0
    }

    /// Returns the next complete frame.
    ///
    /// # Errors
    ///
    /// When what follows cannot be a frame; nothing after it can be understood either.
    pub(crate) fn next(&mut self) -> Result<Option<Incoming>, WireError> {
        let skipped = self.skip.min(self.rest().len());
        self.taken += skipped;
        self.skip -= skipped;
        let Some(length) = self.length()? else { return Ok(None) };
        let Some(head) = self.rest().first_chunk().map(Head::parse) else { return Ok(None) };
        if length > self.max_frame {
            self.taken += Head::LEN;
            self.skip = length - Head::REST;
            return Ok(Some(Incoming::Oversized(head)));
        }
        if self.rest().len() < 4 + length {
            return Ok(None);
        }
        self.taken += Head::LEN;
        Ok(Some(Incoming::Frame(head, self.payload(length - Head::REST))))
    }

    /// Reads the length of the frame that begins the buffer, which decides whether it is one.
    fn length(&self) -> Result<Option<usize>, WireError> {
        let Some(bytes) = self.rest().first_chunk() else { return Ok(None) };
        let length = u32::from_be_bytes(*bytes);
        match length as usize {
            short if short < Head::REST => Err(WireError::TooShort(length)),
            long if long > HARD_MAX_FRAME => Err(WireError::TooLong(length)),
            length => Ok(Some(length)),
        }
    }

    fn payload(&mut self, length: usize) -> Bytes {
        if length > COPY {
            self.cut();
            return self.buffer.split_to(length).freeze();
        }
        let payload = Bytes::copy_from_slice(&self.rest()[..length]);
        self.taken += length;
        payload
    }

    /// What was read and not taken.
    fn rest(&self) -> &[u8] {
        &self.buffer[self.taken..]
    }

    fn cut(&mut self) {
        self.buffer.advance(std::mem::take(&mut self.taken));
    }

    /// Bytes the frame at the start of the buffer still lacks, if it is one that is kept.
    fn missing(&self) -> usize {
        match self.length() {
            Ok(Some(length)) if length <= self.max_frame => {
                (4 + length).saturating_sub(self.rest().len())
            }
            _ => 0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::kind;
    use proptest::prelude::*;

    const MAX: usize = 4096;

    fn frame(kind: u8, id: u64, payload: &[u8]) -> Vec<u8> {
        let mut out = BytesMut::new();
        out.extend_from_slice(&Head::new(kind, id, payload.len()).to_bytes());
        out.extend_from_slice(payload);
        out.to_vec()
    }

    fn drain(inbox: &mut Inbox) -> Result<Vec<Incoming>, WireError> {
        std::iter::from_fn(|| inbox.next().transpose()).collect()
    }

    proptest! {
        /// However the bytes are cut into reads, the same frames come out.
        #[test]
        fn cutting_does_not_matter(
            payloads in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..MAX), 0..4),
            cut in 1..5000_usize,
        ) {
            let bytes: Vec<u8> =
                payloads.iter().flat_map(|p| frame(kind::REQUEST, 7, p)).collect();
            let mut inbox = Inbox::new(2 * MAX);
            let mut found = Vec::new();
            for part in bytes.chunks(cut) {
                inbox.space().extend_from_slice(part);
                found.extend(drain(&mut inbox).unwrap());
            }
            let expected: Vec<_> = payloads.iter().map(|payload| {
                let head = Head::new(kind::REQUEST, 7, payload.len());
                Incoming::Frame(head, Bytes::copy_from_slice(payload))
            }).collect();
            prop_assert_eq!(found, expected);
            prop_assert!(!inbox.is_mid_frame());
        }

        /// Random bytes give frames, an error or nothing, and never a panic.
        #[test]
        fn random_bytes_do_no_harm(bytes in prop::collection::vec(any::<u8>(), 0..500)) {
            let mut inbox = Inbox::new(MAX);
            inbox.space().extend_from_slice(&bytes);
            let _ = drain(&mut inbox);
        }
    }

    /// An oversized frame is told once, thrown away as it comes, and does not hurt the next one.
    #[test]
    fn skips_oversized_frames() {
        let mut inbox = Inbox::new(MAX);
        let long = frame(kind::REQUEST, 1, &vec![0; 10 * MAX]);
        for part in long.chunks(1000) {
            inbox.space().extend_from_slice(part);
            let found = drain(&mut inbox).unwrap();
            assert!(
                found.is_empty() || matches!(&found[..], [Incoming::Oversized(h)] if h.id == 1)
            );
            assert!(inbox.rest().len() < 1000);
        }
        inbox.space().extend_from_slice(&frame(kind::PING, 0, b""));
        assert!(
            matches!(inbox.next(), Ok(Some(Incoming::Frame(head, _))) if head.kind == kind::PING)
        );
    }

    /// A length that cannot be is an error before anything is set aside for it.
    #[test]
    fn refuses_absurd_lengths() {
        for (length, error) in [
            (0, WireError::TooShort(0)),
            (9, WireError::TooShort(9)),
            (u32::MAX, WireError::TooLong(u32::MAX)),
        ] {
            let mut inbox = Inbox::new(MAX);
            inbox.space().extend_from_slice(&u32::to_be_bytes(length));
            assert_eq!(inbox.next(), Err(error));
            assert!(inbox.buffer.capacity() < 2 * MIN_CHUNK);
        }
    }
}
