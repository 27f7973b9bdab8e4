//! How bodies become bytes.

use bytes::Bytes;
use serde::Serialize;
use serde::de::DeserializeOwned;

/// How a body is encoded. The sender names the codec with each body.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Codec {
    /// MessagePack with field names: evolves like JSON, and transcodes to it without the types.
    #[default]
    MessagePack = 1,
    /// JSON, for people and browsers.
    Json = 2,
}

/// Both decoders stop at this depth, so hostile nesting cannot exhaust the stack.
const MAX_DEPTH: usize = 128;

impl Codec {
    /// Every codec this version knows, as the preface offers them: bit *n* is codec id *n*.
    pub(crate) const BITMAP: u16 = 1 << Self::MessagePack as u16 | 1 << Self::Json as u16;

    /// Returns the id on the wire.
    #[must_use]
    pub fn id(self) -> u8 {
        self as u8
    }

    /// Returns the codec with this id on the wire, if there is one.
    #[must_use]
    pub fn from_id(id: u8) -> Option<Self> {
        [Self::MessagePack, Self::Json].into_iter().find(|codec| codec.id() == id)
    }

    /// Encodes a value.
    ///
    /// # Errors
    ///
    /// When the value's own `Serialize` fails or the codec cannot express it, such as JSON a map
    /// whose keys are not strings.
    pub fn encode<T: Serialize + ?Sized>(self, value: &T) -> Result<Bytes, CodecError> {
        match self {
            Self::MessagePack => rmp_serde::to_vec_named(value).map(Bytes::from).map_err(error),
            Self::Json => serde_json::to_vec(value).map(Bytes::from).map_err(error),
        }
    }

    /// Decodes one value, which must be all there is.
    ///
    /// # Errors
    ///
    /// When the bytes are malformed, do not fit the type, go on after the value, or nest deeper
    /// than 128 levels.
    pub fn decode<T: DeserializeOwned>(self, bytes: &[u8]) -> Result<T, CodecError> {
        match self {
            Self::MessagePack => decode_message_pack(bytes),
            Self::Json => serde_json::from_slice(bytes).map_err(error),
        }
    }
}

fn decode_message_pack<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, CodecError> {
    let mut decoder = rmp_serde::Deserializer::from_read_ref(bytes);
    decoder.set_max_depth(MAX_DEPTH);
    let value = T::deserialize(&mut decoder).map_err(error)?;
    // The decoder does not say how far it read. Asking it for one more value fails at the marker
    // only when there is no byte left.
    match <() as serde::Deserialize>::deserialize(&mut decoder) {
        Err(rmp_serde::decode::Error::InvalidMarkerRead(_)) => Ok(value),
        _ => Err(CodecError("bytes follow the value".into())),
    }
}

/// A value that could not be encoded, or bytes that could not be decoded.
#[derive(Debug, thiserror::Error)]
#[error(transparent)]
pub struct CodecError(Box<dyn std::error::Error + Send + Sync>);

fn error(source: impl std::error::Error + Send + Sync + 'static) -> CodecError {
    CodecError(Box::new(source))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde::Deserialize;

    const BOTH: [Codec; 2] = [Codec::MessagePack, Codec::Json];

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct Point {
        x: u32,
        #[serde(default)]
        label: Option<String>,
    }

    #[derive(Debug, Serialize, Deserialize)]
    struct Nested(Vec<Nested>);

    /// What was encoded decodes, and fields go by name so that one can be added.
    #[test]
    fn round_trips_by_name() {
        for codec in BOTH {
            let point = Point { x: 7, label: Some("a".into()) };
            assert_eq!(codec.decode::<Point>(&codec.encode(&point).unwrap()).unwrap(), point);
            let older = codec.encode(&serde_json::json!({ "x": 7 })).unwrap();
            assert_eq!(codec.decode::<Point>(&older).unwrap(), Point { x: 7, label: None });
        }
    }

    /// Bytes after the value are an error, whatever they are.
    #[test]
    fn refuses_trailing_bytes() {
        for codec in BOTH {
            for tail in [&b"\xc0"[..], b"\x91", b"\xd9", b"1", b"\xc1", b"\xcd\x01", b"\xa5x"] {
                let mut bytes = codec.encode(&vec![1, 2]).unwrap().to_vec();
                bytes.extend_from_slice(tail);
                assert!(codec.decode::<Vec<u8>>(&bytes).is_err(), "{codec:?} {tail:?}");
            }
        }
    }

    /// Deep nesting is an error, not a stack overflow.
    #[test]
    fn bounds_nesting() {
        let deep = [(Codec::MessagePack, vec![0x91; 100_000]), (Codec::Json, vec![b'['; 100_000])];
        for (codec, bytes) in deep {
            assert!(codec.decode::<Nested>(&bytes).is_err());
            assert!(codec.decode::<serde_json::Value>(&bytes).is_err());
        }
    }

    /// Ids are the wire's, and the preface offers exactly these codecs.
    #[test]
    fn ids() {
        for id in 0..=255 {
            let offered = u32::from(id) < 16 && Codec::BITMAP & (1 << id) != 0;
            assert_eq!(Codec::from_id(id).is_some(), offered);
        }
    }
}
