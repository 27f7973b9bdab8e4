//! JSON Schema of whatever serde reads, without a trait of its own: a value is read from a source
//! that makes up what it is asked for, and notes down what that was.

mod access;
mod form;
mod probe;

use std::collections::{BTreeMap, BTreeSet};
use std::panic::catch_unwind;

use serde::de::DeserializeOwned;
use serde_json::Value;

use self::form::anything;
use self::probe::{Probe, Unreadable};

/// The JSON Schema of what `T` is read from.
///
/// What serde is not told stays open, as `{}`, which is anything: types that say nothing of their
/// form, and those that contain themselves, where they do. A type that refuses what is made up is
/// what it asked for, so an address is a string.
pub(crate) fn of<T: DeserializeOwned>() -> Value {
    // What a type does with a value it does not like is its own affair, and no reason not to start.
    catch_unwind(studied::<T>).unwrap_or_else(|_| anything())
}

fn studied<T: DeserializeOwned>() -> Value {
    let mut study = Study::default();
    let mut schema = anything();
    // Each round learns of one variant more, or of one field that cannot be made up.
    for _ in 0..MAX_ROUNDS {
        study.begin();
        let was_read = T::deserialize(Probe::new(&mut study, &mut schema)).is_ok();
        if !study.has_learned {
            if was_read {
                note_required::<T>(&mut study, &mut schema);
            }
            break;
        }
    }
    schema
}

const MAX_ROUNDS: usize = 256;
/// Types that nest deeper, or for ever, are anything from there on.
const MAX_DEPTH: usize = 24;

/// Leaves out one field after the other, of a value that can be read with all of them.
fn note_required<T: DeserializeOwned>(study: &mut Study, schema: &mut Value) {
    for field in study.fields.clone() {
        study.begin();
        study.left_out = Some(field);
        if T::deserialize(Probe::new(study, schema)).is_err() {
            study.required.insert(field);
        }
    }
    study.begin();
    study.left_out = None;
    // It writes down what was learned; that it can be read is known.
    let _ = T::deserialize(Probe::new(study, schema));
}
/// A type by its name and the names in it.
type Type = (&'static str, &'static [&'static str]);

/// What was learned so far, of all rounds.
#[derive(Default)]
struct Study {
    variants: BTreeMap<Type, Vec<Option<Value>>>,
    fields: BTreeSet<(Type, &'static str)>,
    /// Fields whose type refuses what is made up; they are not offered again.
    refused: BTreeSet<(Type, &'static str)>,
    required: BTreeSet<(Type, &'static str)>,
    left_out: Option<(Type, &'static str)>,
    /// The types being read, outside in.
    within: Vec<Type>,
    /// How deep what is being read lies, types without a name included.
    depth: usize,
    has_learned: bool,
    /// Whether it is known which field this round failed at.
    has_failed: bool,
}

impl Study {
    fn begin(&mut self) {
        self.within.clear();
        self.depth = 0;
        self.has_learned = false;
        self.has_failed = false;
    }

    /// Reads what lies within; the end of what has none.
    fn descend<T>(
        &mut self,
        schema: &mut Value,
        read: impl FnOnce(Probe<'_>) -> Result<T, Unreadable>,
    ) -> Result<T, Unreadable> {
        if self.depth >= MAX_DEPTH {
            return Err(Unreadable);
        }
        self.depth += 1;
        let read = read(Probe::new(self, schema));
        self.depth -= 1;
        read
    }

    /// Which fields of a struct are offered.
    fn offered(&self, of: Type) -> Vec<&'static str> {
        let is_offered = |name: &&'static str| {
            self.left_out != Some((of, *name)) && !self.refused.contains(&(of, *name))
        };
        of.1.iter().copied().filter(is_offered).collect()
    }

    /// Which variant is read this time: one that is unknown if there is any.
    fn variant(&mut self, of: Type) -> Option<usize> {
        let known = self.variants.entry(of).or_insert_with(|| vec![None; of.1.len()]);
        let unknown = known.iter().position(Option::is_none);
        self.has_learned |= unknown.is_some();
        // Of those that contain themselves the first is the best guess for one that does not.
        unknown.or((!known.is_empty()).then_some(0))
    }

    fn refuse(&mut self, of: Type, field: &'static str) {
        if !std::mem::replace(&mut self.has_failed, true) && self.left_out.is_none() {
            self.has_learned |= self.refused.insert((of, field));
        }
    }

    fn required_of(&self, of: Type) -> Vec<&'static str> {
        of.1.iter().copied().filter(|name| self.required.contains(&(of, *name))).collect()
    }
}

#[cfg(test)]
mod tests {
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
}
