//! JSON Schema of whatever serde reads, without a trait of its own: a value is read from a source
//! that makes up what it is asked for, and notes down what that was.

mod access;
mod form;
mod probe;
mod study;

use std::panic::catch_unwind;

use serde::de::DeserializeOwned;
use serde_json::Value;

use self::form::anything;
use self::probe::Probe;
use self::study::Study;

/// The JSON Schema of what `T` is read from.
///
/// What serde is not told stays open, as `{}`, which is anything: types that say nothing of their
/// form, and those that contain themselves, where they do. So does an enum of more variants than
/// are looked at. A type that refuses what is made up is what it asked for, so an address is a
/// string. Fields have the names that serde writes; one that is read by another too, by an alias,
/// is not required.
pub(crate) fn of<T: DeserializeOwned>() -> Value {
    // What a type does with a value it does not like is its own affair, and no reason not to start.
    catch_unwind(studied::<T>).unwrap_or_else(|_| anything())
}

fn studied<T: DeserializeOwned>() -> Value {
    let mut study = Study::default();
    let mut schema = anything();
    // Each round learns of one variant more, or of one field that cannot be made up.
    for _ in 0..MAX_ROUNDS {
        let known = study.begin();
        let was_read = T::deserialize(Probe::new(&mut study, &mut schema)).is_ok();
        if study.learned() == known {
            if was_read {
                note_required::<T>(&mut study, &mut schema);
            }
            break;
        }
    }
    schema
}

const MAX_ROUNDS: usize = 1024;

/// Leaves out one field after the other, of a value that can be read with all of them.
fn note_required<T: DeserializeOwned>(study: &mut Study, schema: &mut Value) {
    for field in study.fields_of_one_name() {
        study.begin();
        study.leave_out(Some(field));
        if T::deserialize(Probe::new(study, schema)).is_err() {
            study.require(field);
        }
    }
    study.begin();
    study.leave_out(None);
    // It writes down what was learned; that it can be read is known.
    let _ = T::deserialize(Probe::new(study, schema));
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use serde::{Deserialize, Deserializer};
    use serde_json::json;

    use super::*;

    #[derive(Deserialize)]
    #[allow(dead_code, reason = "only their form counts")]
    struct Order {
        thing: String,
        count: Option<u32>,
        #[serde(default)]
        tags: Vec<String>,
        speed: Speed,
        to: BTreeMap<String, (f64, bool)>,
        from: std::net::IpAddr,
        last: char,
    }

    #[derive(Deserialize)]
    #[serde(rename_all = "snake_case")]
    #[allow(dead_code, reason = "only their form counts")]
    enum Speed {
        Slow,
        Fast { cost: u8 },
        Other(Option<Box<Speed>>),
        Exact(i64, Unit),
    }

    #[derive(Deserialize)]
    struct Unit;

    #[derive(Deserialize)]
    #[allow(dead_code, reason = "only their form counts")]
    struct Tree {
        name: String,
        children: Vec<Tree>,
        parent: Option<Box<Tree>>,
    }

    #[derive(Deserialize)]
    #[serde(untagged)]
    #[allow(dead_code, reason = "only their form counts")]
    enum Loose {
        Number(u8),
        Text(String),
    }

    #[derive(Deserialize)]
    #[allow(dead_code, reason = "only their form counts")]
    struct Nest(Vec<Nest>);

    #[derive(Deserialize)]
    #[allow(dead_code, reason = "only their form counts")]
    enum Term {
        Minus(Box<Term>),
        Number(i64),
    }

    /// What says nothing of its name, and never ends.
    struct Endless;

    impl<'de> Deserialize<'de> for Endless {
        fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
            Vec::<Self>::deserialize(deserializer).map(|_| Self)
        }
    }

    /// What panics where others fail.
    struct Rude;

    impl<'de> Deserialize<'de> for Rude {
        fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
            assert_eq!(String::deserialize(deserializer)?, "please");
            Ok(Self)
        }
    }

    /// Scalars, options and lists are what they are read from.
    #[test]
    fn plain_types() {
        assert_eq!(of::<String>(), json!({ "type": "string" }));
        assert_eq!(of::<Option<bool>>(), json!({ "type": ["boolean", "null"] }));
        assert_eq!(of::<()>(), json!({ "type": "null" }));
        assert_eq!(of::<Value>(), json!({}));
        assert_eq!(
            of::<Vec<std::num::NonZeroU16>>(),
            json!({ "type": "array", "items": { "type": "integer", "format": "uint16", "minimum": 0 } })
        );
        assert_eq!(
            of::<Option<Plain>>(),
            json!({ "anyOf": [{ "type": "string", "enum": ["A", "B"] }, { "type": "null" }] })
        );
    }

    #[derive(Deserialize)]
    #[allow(dead_code, reason = "only their form counts")]
    enum Plain {
        A,
        B,
    }

    /// Structs have all their fields, one that refuses what is made up included, with every variant
    /// of what is in them.
    #[test]
    fn structs_and_enums() {
        let schema = of::<Order>();
        assert_eq!(
            schema,
            json!({
                "type": "object",
                "properties": {
                    "thing": { "type": "string" },
                    "count": { "type": ["integer", "null"], "format": "uint32", "minimum": 0 },
                    "tags": { "type": "array", "items": { "type": "string" } },
                    "speed": { "oneOf": [
                        { "const": "slow" },
                        {
                            "type": "object",
                            "properties": { "fast": {
                                "type": "object",
                                "properties": {
                                    "cost": { "type": "integer", "format": "uint8", "minimum": 0 }
                                },
                            } },
                            "required": ["fast"],
                        },
                        {
                            "type": "object",
                            "properties": { "other": {} },
                            "required": ["other"],
                        },
                        {
                            "type": "object",
                            "properties": { "exact": {
                                "type": "array",
                                "prefixItems": [
                                    { "type": "integer", "format": "int64" },
                                    { "type": "null" },
                                ],
                                "minItems": 2,
                                "maxItems": 2,
                            } },
                            "required": ["exact"],
                        },
                    ] },
                    "to": { "type": "object", "additionalProperties": {
                        "type": "array",
                        "prefixItems": [{ "type": "number", "format": "double" }, { "type": "boolean" }],
                        "minItems": 2,
                        "maxItems": 2,
                    } },
                    "from": { "type": "string" },
                    "last": { "type": "string", "minLength": 1, "maxLength": 1 },
                },
            }),
            "{schema:#}"
        );
    }

    /// What must be there is told, where everything can be made up.
    #[test]
    fn required_fields() {
        #[derive(Deserialize)]
        #[allow(dead_code, reason = "only their form counts")]
        struct Outer {
            inner: Inner,
            name: Option<String>,
        }
        #[derive(Deserialize)]
        #[allow(dead_code, reason = "only their form counts")]
        struct Inner {
            id: u64,
            #[serde(default)]
            note: String,
        }
        let schema = of::<Outer>();
        assert_eq!(schema["required"], json!(["inner"]));
        assert_eq!(schema["properties"]["inner"]["required"], json!(["id"]));
    }

    /// What contains itself is open where it does, and what says nothing of its form is open.
    #[test]
    fn what_is_open() {
        let tree = of::<Tree>();
        assert_eq!(tree["properties"]["name"], json!({ "type": "string" }), "{tree:#}");
        assert_eq!(tree["properties"]["children"], json!({ "type": "array", "items": {} }));
        assert_eq!(tree["properties"]["parent"], json!({}));
        assert_eq!(of::<Loose>(), json!({}));
        assert_eq!(of::<Nest>(), json!({ "type": "array", "items": {} }));
        let term = of::<Term>();
        let number = json!({ "type": "integer", "format": "int64" });
        assert_eq!(term["oneOf"][1]["properties"]["Number"], number, "{term:#}");
        assert!(of::<Endless>().is_object());
        assert_eq!(of::<Rude>(), json!({}));
    }

    #[derive(Deserialize)]
    #[allow(dead_code, reason = "only their form counts")]
    enum Outcome<T> {
        Good(T),
        Bad { why: T },
    }

    #[derive(Deserialize)]
    #[allow(dead_code, reason = "only their form counts")]
    struct Both<T, U> {
        one: T,
        other: U,
    }

    /// A generic type is what it is made of, each time it is used.
    #[test]
    fn generic_types() {
        let outcome = |of: Value| {
            json!({ "oneOf": [
                { "type": "object", "properties": { "Good": of }, "required": ["Good"] },
                {
                    "type": "object",
                    "properties": { "Bad": { "type": "object", "properties": { "why": of } } },
                    "required": ["Bad"],
                },
            ] })
        };
        let schema = of::<Both<Outcome<u8>, Outcome<String>>>();
        assert_eq!(schema["properties"]["one"], outcome(of::<u8>()), "{schema:#}");
        assert_eq!(schema["properties"]["other"], outcome(of::<String>()), "{schema:#}");
        let schema = of::<Both<Both<u8, u8>, Both<Option<u8>, u8>>>();
        assert_eq!(schema["properties"]["one"]["required"], json!(["one", "other"]));
        assert_eq!(schema["properties"]["other"]["required"], json!(["other"]));
    }

    #[derive(Deserialize)]
    #[allow(dead_code, reason = "only their form counts")]
    enum Way {
        Foot,
        Ship(Both<Plain, std::net::IpAddr>),
        Rail { class: Plain },
    }

    /// An enum has all its variants, with all that is in them, wherever they lie, and a variant
    /// that cannot be made up hides no other.
    #[test]
    fn enums_are_whole() {
        let plain = json!({ "type": "string", "enum": ["A", "B"] });
        let schema = of::<Both<Way, u8>>();
        let ways = &schema["properties"]["one"]["oneOf"];
        assert_eq!(ways[0]["const"], "Foot", "{schema:#}");
        let ship = &ways[1]["properties"]["Ship"]["properties"];
        assert_eq!((&ship["one"], &ship["other"]["type"]), (&plain, &json!("string")));
        assert_eq!(ways[2]["properties"]["Rail"]["properties"]["class"], plain, "{schema:#}");
        assert_eq!(schema["required"], json!(["one", "other"]));
        let schema = of::<Result<std::net::IpAddr, Plain>>();
        assert_eq!(schema["oneOf"][1]["properties"]["Err"], plain, "{schema:#}");
        let term = of::<Both<Term, u8>>();
        assert_eq!(term["required"], json!(["one", "other"]), "{term:#}");
    }

    /// An enum of so many unit variants, which are numbers.
    struct Many<const N: usize>;

    impl<'de, const N: usize> Deserialize<'de> for Many<N> {
        fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
            static NAMES: std::sync::LazyLock<Vec<&'static str>> = std::sync::LazyLock::new(|| {
                (0..2_000).map(|number| &*format!("v{number}").leak()).collect()
            });
            deserializer.deserialize_enum("Many", &NAMES[..N], Reader::<N>)
        }
    }

    struct Reader<const N: usize>;

    impl<'de, const N: usize> serde::de::Visitor<'de> for Reader<N> {
        type Value = Many<N>;

        fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            f.write_str("a variant")
        }

        fn visit_enum<A: serde::de::EnumAccess<'de>>(self, data: A) -> Result<Many<N>, A::Error> {
            let (_, variant) = data.variant::<String>()?;
            serde::de::VariantAccess::unit_variant(variant)?;
            Ok(Many)
        }
    }

    /// An enum of many variants has all of them, or is open: it refuses none.
    #[test]
    fn enums_of_many_variants() {
        let many = of::<Both<Many<300>, u8>>();
        assert_eq!(many["properties"]["one"]["enum"].as_array().unwrap().len(), 300);
        assert_eq!(many["required"], json!(["one", "other"]));
        let more = of::<Both<Many<2_000>, u8>>();
        assert_eq!(more["properties"]["one"], json!({}));
        assert_eq!(more["properties"]["other"], of::<u8>());
    }

    #[derive(Deserialize)]
    #[allow(dead_code, reason = "only their form counts")]
    struct Renamed {
        #[serde(alias = "alter", alias = "years")]
        age: u8,
        #[serde(alias = "Zip", alias = "zzz")]
        town: Option<Plain>,
        name: String,
    }

    /// A field that is read by other names too has the one that serde writes, and is not required,
    /// as it may come by another.
    #[test]
    fn fields_with_aliases() {
        let expected = json!({
            "type": "object",
            "properties": {
                "age": of::<u8>(),
                "town": of::<Option<Plain>>(),
                "name": { "type": "string" },
            },
            "required": ["name"],
        });
        assert_eq!(of::<Renamed>(), expected);
        let within = of::<Both<Vec<Renamed>, Renamed>>();
        assert_eq!(within["properties"]["one"]["items"], expected);
        assert_eq!(within["properties"]["other"], expected);
        assert_eq!(within["required"], json!(["one", "other"]));
    }
}
