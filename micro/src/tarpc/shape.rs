//! The enums that tarpc makes of a contract, as they travel elsewhere: without the map of one entry
//! that names the variant, since the request names the method.

use bytes::Bytes;
use micro_rpc::{Codec, CodecError};
use serde::de::value::Error as ProbeError;
use serde::de::{DeserializeOwned, Deserializer, Error as _, Visitor};
use serde::{Serialize, forward_to_deserialize_any};

/// The name of an enum and those of its variants.
#[derive(Clone, Copy, Debug)]
pub(super) struct Shape {
    name: &'static str,
    variants: &'static [&'static str],
}

impl Shape {
    /// The shape of a type, if it is an enum.
    pub(super) fn of<T: DeserializeOwned>() -> Option<Self> {
        let mut shape = None;
        // Always an error: all there is to know was asked for when it comes.
        let _ = T::deserialize(Probe(&mut shape));
        shape
    }

    /// The contract, of `GreeterRequest` with the suffix `Request` it is `greeter`.
    pub(super) fn contract(&self, suffix: &str) -> String {
        kebab_case(self.name.strip_suffix(suffix).unwrap_or(self.name))
    }

    /// The methods, spelled as most are. An underscore before a digit, for one, leaves no trace in a
    /// variant.
    pub(super) fn methods(&self) -> impl Iterator<Item = String> {
        self.variants.iter().map(|variant| snake_case(variant))
    }

    /// The variant of a method.
    pub(super) fn variant(&self, method: &str) -> Option<&'static str> {
        let of_method = |variant: &&&str| camel_case(method).eq(variant.chars());
        self.variants.iter().find(of_method).copied()
    }
}

/// The method's name within that of a request, `Greeter.hello`.
pub(super) fn method(request: &str) -> &str {
    let method = request.rsplit_once('.').map_or(request, |(_, method)| method);
    method.strip_prefix("r#").unwrap_or(method)
}

/// Encodes a value of an enum as what its variant holds.
pub(super) fn encode<T: Serialize>(
    codec: Codec,
    variant: &'static str,
    value: &T,
) -> Result<Bytes, Misshapen> {
    let bytes = codec.encode(value)?;
    let (before, after) = around(codec, variant)?;
    let held = bytes.strip_prefix(&*before).and_then(|rest| rest.strip_suffix(after));
    held.map(|held| bytes.slice_ref(held)).ok_or(Misshapen::Variant(variant))
}

/// Decodes a value of an enum from what its variant holds.
pub(super) fn decode<T: DeserializeOwned>(
    codec: Codec,
    variant: &'static str,
    held: &[u8],
) -> Result<T, Misshapen> {
    let (before, after) = around(codec, variant)?;
    Ok(codec.decode(&[&*before, held, after].concat())?)
}

/// A value that is not of the shape tarpc's have.
#[derive(Debug, thiserror::Error)]
pub(super) enum Misshapen {
    #[error(transparent)]
    Codec(#[from] CodecError),
    #[error("the enum is not a map of `{0}` to its value")]
    Variant(&'static str),
}

/// What is before and after a variant's value.
fn around(codec: Codec, variant: &str) -> Result<(Vec<u8>, &'static [u8]), CodecError> {
    let name = codec.encode(variant)?;
    Ok(match codec {
        Codec::Json => ([&b"{"[..], &name, b":"].concat(), b"}"),
        // A map of one entry.
        _ => ([&b"\x81"[..], &name].concat(), b""),
    })
}

/// Learns what an enum asks a deserializer for.
struct Probe<'a>(&'a mut Option<Shape>);

impl<'de> Deserializer<'de> for Probe<'_> {
    type Error = ProbeError;

    fn deserialize_any<V: Visitor<'de>>(self, _: V) -> Result<V::Value, ProbeError> {
        Err(ProbeError::custom("no enum"))
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        name: &'static str,
        variants: &'static [&'static str],
        _: V,
    ) -> Result<V::Value, ProbeError> {
        *self.0 = Some(Shape { name, variants });
        Err(ProbeError::custom("learned enough"))
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf option
        unit unit_struct newtype_struct seq tuple tuple_struct map struct identifier ignored_any
    }
}

/// Turns `OrderBook` into `order-book` and `HTTPProxy` into `http-proxy`, as `#[micro::service]` does.
fn kebab_case(name: &str) -> String {
    let letters: Vec<char> = name.chars().collect();
    let begins_word = |at: usize| {
        let ends_acronym = letters[at - 1].is_uppercase()
            && letters.get(at + 1).is_some_and(|next| next.is_lowercase());
        ends_acronym || letters[at - 1].is_lowercase() || letters[at - 1].is_numeric()
    };
    let mut kebab = String::new();
    for (at, letter) in letters.iter().enumerate() {
        if at > 0 && letter.is_uppercase() && begins_word(at) {
            kebab.push('-');
        }
        kebab.extend(letter.to_lowercase());
    }
    kebab
}

/// Turns `GetUser` into `get_user`.
fn snake_case(variant: &str) -> String {
    let mut snake = String::new();
    for letter in variant.chars() {
        if letter.is_uppercase() && !snake.is_empty() {
            snake.push('_');
        }
        snake.extend(letter.to_lowercase());
    }
    snake
}

/// Turns `get_user` into `GetUser`, as tarpc does for its variants: of `getUser` it makes `Getuser`.
fn camel_case(method: &str) -> impl Iterator<Item = char> {
    method.split('_').flat_map(|word| {
        let mut letters = word.chars();
        let first = letters.next().into_iter().flat_map(char::to_uppercase);
        first.chain(letters.flat_map(char::to_lowercase))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, PartialEq, serde::Serialize, serde::Deserialize)]
    enum OrderBookRequest {
        Ping {},
        GetBook { id: u32, note: Option<String> },
        Sha256(Result<u8, String>),
        None,
    }

    const BOTH: [Codec; 2] = [Codec::MessagePack, Codec::Json];

    /// A type's shape is its own, behind pointers too; what is no enum has none.
    #[test]
    fn shapes() {
        let shape = Shape::of::<Box<OrderBookRequest>>().expect("it is an enum");
        assert_eq!(shape.contract("Request"), "order-book");
        assert_eq!(shape.contract("Response"), "order-book-request");
        assert_eq!(Vec::from_iter(shape.methods()), ["ping", "get_book", "sha256", "none"]);
        assert!(Shape::of::<String>().is_none() && Shape::of::<Option<u8>>().is_none());
    }

    /// A method's variant is that which tarpc gives it, and no other spelling of it.
    #[test]
    fn variants() {
        let shape = Shape::of::<OrderBookRequest>().expect("it is an enum");
        for (method, variant) in [
            ("ping", Some("Ping")),
            ("get_book", Some("GetBook")),
            ("sha_256", Some("Sha256")),
            ("getbook", None),
            ("getBook", None),
            ("", None),
        ] {
            assert_eq!(shape.variant(method), variant, "{method}");
        }
    }

    /// The method's name is what the trait says, raw or not.
    #[test]
    fn method_names() {
        assert_eq!(method("Greeter.hello"), "hello");
        assert_eq!(method("Greeter.r#type"), "type");
        assert_eq!(method("hello"), "hello");
    }

    /// What travels is what the variant holds, in both codecs, and it comes back.
    #[test]
    fn variants_travel_without_their_names() {
        let json = |value, variant| encode(Codec::Json, variant, &value).unwrap();
        let book = || OrderBookRequest::GetBook { id: 7, note: None };
        assert_eq!(&json(OrderBookRequest::Ping {}, "Ping")[..], b"{}");
        assert_eq!(&json(book(), "GetBook")[..], br#"{"id":7,"note":null}"#);
        assert_eq!(&json(OrderBookRequest::Sha256(Ok(7)), "Sha256")[..], br#"{"Ok":7}"#);
        for codec in BOTH {
            let held = encode(codec, "GetBook", &book()).unwrap();
            assert_eq!(held, codec.encode(&serde_json::json!({"id": 7, "note": null})).unwrap());
            assert_eq!(decode::<OrderBookRequest>(codec, "GetBook", &held).unwrap(), book());
        }
    }

    /// Names longer than MessagePack's short strings make no difference.
    #[test]
    fn long_names() {
        #[derive(Debug, PartialEq, serde::Serialize, serde::Deserialize)]
        enum Long {
            AVariantWhoseNameIsLongerThanThirtyOneBytes(u8),
        }
        let variant = Shape::of::<Long>().expect("it is an enum").variants[0];
        let long = Long::AVariantWhoseNameIsLongerThanThirtyOneBytes(7);
        for codec in BOTH {
            let held = encode(codec, variant, &long).unwrap();
            assert_eq!(codec.decode::<u8>(&held).unwrap(), 7);
            assert_eq!(decode::<Long>(codec, variant, &held).unwrap(), long);
        }
    }

    /// What does not fit is an error: another variant's value, bytes that go on, bytes that are
    /// crafted to end the map early.
    #[test]
    fn misfits() {
        for codec in BOTH {
            assert!(encode(codec, "Ping", &OrderBookRequest::Sha256(Ok(7))).is_err());
            assert!(encode(codec, "None", &OrderBookRequest::None).is_err());
            let mut held = encode(codec, "Ping", &OrderBookRequest::Ping {}).unwrap().to_vec();
            held.push(b'1');
            assert!(decode::<OrderBookRequest>(codec, "Ping", &held).is_err());
            assert!(decode::<OrderBookRequest>(codec, "Ping", b"").is_err());
        }
        let crafted = br#"{},"Sha256":{"Ok":7}"#;
        assert!(decode::<OrderBookRequest>(Codec::Json, "Ping", crafted).is_err());
    }

    /// Words, acronyms and digits are separated as in a contract of `#[micro::service]`.
    #[test]
    fn kebab() {
        for (name, expected) in [
            ("Greeter", "greeter"),
            ("OrderBook", "order-book"),
            ("HTTPProxy", "http-proxy"),
            ("V2Api", "v2-api"),
            ("Order_Book", "order_book"),
            ("IO", "io"),
        ] {
            assert_eq!(kebab_case(name), expected);
        }
    }
}
