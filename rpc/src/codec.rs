//! How bodies become bytes.

use std::cell::RefCell;

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

/// Scratch space up to this size is kept by each thread.
const KEEP: usize = 64 * 1024;

thread_local! {
    /// Where values are encoded. As long as their length is not known, a buffer of their own would be
    /// asked for several times.
    static SCRATCH: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// Values nest at most this deep: where both decoders stop by themselves, so that hostile nesting
/// cannot exhaust the stack.
const MAX_DEPTH: usize = 127;

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
        SCRATCH.with(|scratch| match scratch.try_borrow_mut() {
            Ok(mut scratch) => self.encode_in(&mut scratch, value),
            // A value whose `Serialize` encodes another one.
            Err(_) => self.encode_in(&mut Vec::new(), value),
        })
    }

    fn encode_in<T>(self, scratch: &mut Vec<u8>, value: &T) -> Result<Bytes, CodecError>
    where
        T: Serialize + ?Sized,
    {
        scratch.clear();
        match self {
            Self::MessagePack => rmp_serde::encode::write_named(scratch, value).map_err(error)?,
            Self::Json => serde_json::to_writer(&mut *scratch, value).map_err(error)?,
        }
        match scratch.capacity() {
            ..=KEEP => Ok(Bytes::copy_from_slice(scratch)),
            // So long that one more copy costs more than it spares, and memory.
            _ => Ok(Bytes::from(std::mem::take(scratch))),
        }
    }

    /// Decodes one value, which must be all there is.
    ///
    /// # Errors
    ///
    /// When the bytes are malformed, do not fit the type, go on after the value, or nest deeper
    /// than 127 levels, be it in a field that the type ignores.
    pub fn decode<T: DeserializeOwned>(self, bytes: &[u8]) -> Result<T, CodecError> {
        match self {
            Self::MessagePack => decode_message_pack(bytes),
            Self::Json => decode_json(bytes),
        }
    }

    /// Decodes one value, which must be a map, as arguments are.
    ///
    /// The decoders also take a list of values for a struct, by position: whoever called with one
    /// would be broken by a new field in the middle.
    ///
    /// # Errors
    ///
    /// Those of [`Codec::decode`], and when it is no map.
    pub fn decode_map<T: DeserializeOwned>(self, bytes: &[u8]) -> Result<T, CodecError> {
        if self.is_map(bytes) {
            self.decode(bytes)
        } else {
            Err(CodecError("it is not a map".into()))
        }
    }

    /// Returns whether these bytes begin a map.
    #[must_use]
    pub fn is_map(self, bytes: &[u8]) -> bool {
        match self {
            Self::MessagePack => matches!(bytes.first(), Some(0x80..=0x8f | 0xde | 0xdf)),
            Self::Json => bytes.trim_ascii_start().starts_with(b"{"),
        }
    }
}

fn decode_message_pack<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, CodecError> {
    let mut decoder = rmp_serde::Deserializer::from_read_ref(bytes);
    // It stops one level before.
    decoder.set_max_depth(MAX_DEPTH + 1);
    let value = T::deserialize(&mut decoder).map_err(error)?;
    // The decoder does not say how far it read. Asking it for one more value fails at the marker
    // only when there is no byte left.
    match <() as serde::Deserialize>::deserialize(&mut decoder) {
        Err(rmp_serde::decode::Error::InvalidMarkerRead(_)) => Ok(value),
        _ => Err(CodecError("bytes follow the value".into())),
    }
}

fn decode_json<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, CodecError> {
    // Nearly every value opens fewer brackets than it may nest, and counting them is quick.
    let opened = bytes.iter().filter(|byte| matches!(byte, b'[' | b'{')).count();
    if opened > MAX_DEPTH && depth_of_json(bytes) > MAX_DEPTH {
        return Err(CodecError("it nests too deep".into()));
    }
    serde_json::from_slice(bytes).map_err(error)
}

/// How deep JSON nests. The decoder counts only what it builds: what a type ignores it skips, in
/// constant space, however deep that is.
fn depth_of_json(bytes: &[u8]) -> usize {
    let (mut depth, mut deepest, mut in_string) = (0_usize, 0, false);
    let mut rest = bytes.iter();
    while let Some(byte) = rest.next() {
        match byte {
            b'"' => in_string = !in_string,
            b'\\' if in_string => drop(rest.next()),
            b'[' | b'{' if !in_string => depth += 1,
            b']' | b'}' if !in_string => depth = depth.saturating_sub(1),
            _ => {}
        }
        deepest = deepest.max(depth);
    }
    deepest
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

    /// Values nest as deep in one codec as in the other, and no deeper in a field that is ignored.
    #[test]
    fn bounds_nesting_everywhere() {
        for (lists, allowed) in [(MAX_DEPTH - 1, true), (MAX_DEPTH, false), (10_000, false)] {
            let json = format!(r#"{{"x":7,"new":{}{}}}"#, "[".repeat(lists), "]".repeat(lists));
            let mut packed = b"\x82\xa1x\x07\xa3new".to_vec();
            packed.extend(vec![0x91; lists - 1]);
            packed.push(0x90);
            for (codec, bytes) in [(Codec::Json, json.as_bytes()), (Codec::MessagePack, &packed)] {
                assert_eq!(codec.decode::<Point>(bytes).is_ok(), allowed, "{codec:?} {lists}");
                let kept = codec.decode::<serde_json::Value>(bytes).is_ok();
                assert_eq!(kept, allowed, "{codec:?} {lists}");
            }
        }
    }

    /// Brackets that do not nest are no depth: in text, after quotes in text, or beside each other.
    #[test]
    fn brackets_that_do_not_nest() {
        let many = "[".repeat(500);
        for text in [
            format!(r#"["{many}"]"#),
            format!(r#"["\"{many}", "\\", "{many}"]"#),
            format!("[{}[]]", "[],".repeat(500)),
        ] {
            Codec::Json.decode::<serde_json::Value>(text.as_bytes()).expect(&text);
        }
    }

    /// Arguments go by name: a list of them is an error, and anything else that is no map.
    #[test]
    fn maps_only() {
        let point = Point { x: 7, label: None };
        for codec in BOTH {
            assert_eq!(codec.decode_map::<Point>(&codec.encode(&point).unwrap()).unwrap(), point);
            let list = codec.encode(&(7, "a")).unwrap();
            assert!(codec.decode::<Point>(&list).is_ok(), "or else there is nothing to show");
            assert!(codec.decode_map::<Point>(&list).is_err());
            assert!(codec.decode_map::<()>(&codec.encode(&()).unwrap()).is_err());
            assert!(codec.decode_map::<Point>(b"").is_err());
        }
        assert!(Codec::Json.decode_map::<Point>(b" \n{\"x\":7}").is_ok());
        let long = [&b"\xde\0\x01\xa1x\x07"[..], b"\xdf\0\0\0\x01\xa1x\x07"];
        assert!(long.iter().all(|bytes| Codec::MessagePack.decode_map::<Point>(bytes).is_ok()));
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
