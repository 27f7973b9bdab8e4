//! JSON Schema of whatever serde reads, without a trait of its own: a value is read from a source
//! that makes up what it is asked for, and notes down what that was.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::panic::catch_unwind;

use serde::de::value::StrDeserializer;
use serde::de::{
    DeserializeOwned, DeserializeSeed, Deserializer, EnumAccess, IntoDeserializer, MapAccess,
    SeqAccess, VariantAccess, Visitor,
};
use serde_json::{Map, Value, json};

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

fn anything() -> Value {
    json!({})
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

/// The source of one value.
struct Probe<'a> {
    study: &'a mut Study,
    /// Where its schema is written.
    schema: &'a mut Value,
}

impl<'a> Probe<'a> {
    fn new(study: &'a mut Study, schema: &'a mut Value) -> Self {
        Self { study, schema }
    }

    fn note(&mut self, schema: Value) {
        *self.schema = schema;
    }

    /// Reads what is in a type of this name, unless that is being read already.
    fn enter<T>(
        self,
        of: Type,
        read: impl FnOnce(Probe<'_>) -> Result<T, Unreadable>,
    ) -> Result<T, Unreadable> {
        let again = self.study.within.contains(&of);
        self.study.within.push(of);
        // What contains itself is open there; the value that is needed is made up all the same.
        let mut open = anything();
        let schema = if again { &mut open } else { self.schema };
        let read = read(Probe::new(self.study, schema));
        self.study.within.pop();
        read
    }

    fn is_within_itself(&self) -> bool {
        let Some((last, others)) = self.study.within.split_last() else { return false };
        others.contains(last)
    }
}

/// Some type refuses what is made up for it.
#[derive(Debug)]
struct Unreadable;

impl fmt::Display for Unreadable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a type refuses what is made up for it")
    }
}

impl std::error::Error for Unreadable {}

impl serde::de::Error for Unreadable {
    fn custom<T: fmt::Display>(_: T) -> Self {
        Self
    }
}

macro_rules! scalars {
    ($($method:ident $visit:ident $value:expr, $schema:tt;)*) => {
        $(fn $method<V: Visitor<'de>>(mut self, visitor: V) -> Result<V::Value, Unreadable> {
            self.note(json!($schema));
            visitor.$visit($value)
        })*
    };
}

impl<'de> Deserializer<'de> for Probe<'_> {
    type Error = Unreadable;

    // Ones rather than zeros, which some types refuse.
    scalars! {
        deserialize_bool visit_bool true, { "type": "boolean" };
        deserialize_i8 visit_i8 1, { "type": "integer", "format": "int8" };
        deserialize_i16 visit_i16 1, { "type": "integer", "format": "int16" };
        deserialize_i32 visit_i32 1, { "type": "integer", "format": "int32" };
        deserialize_i64 visit_i64 1, { "type": "integer", "format": "int64" };
        deserialize_i128 visit_i128 1, { "type": "integer" };
        deserialize_u8 visit_u8 1, { "type": "integer", "format": "uint8", "minimum": 0 };
        deserialize_u16 visit_u16 1, { "type": "integer", "format": "uint16", "minimum": 0 };
        deserialize_u32 visit_u32 1, { "type": "integer", "format": "uint32", "minimum": 0 };
        deserialize_u64 visit_u64 1, { "type": "integer", "format": "uint64", "minimum": 0 };
        deserialize_u128 visit_u128 1, { "type": "integer", "minimum": 0 };
        deserialize_f32 visit_f32 1.0, { "type": "number", "format": "float" };
        deserialize_f64 visit_f64 1.0, { "type": "number", "format": "double" };
        deserialize_char visit_char '1', { "type": "string", "minLength": 1, "maxLength": 1 };
        deserialize_str visit_str "1", { "type": "string" };
        deserialize_string visit_str "1", { "type": "string" };
        deserialize_bytes visit_bytes b"1", { "type": "array", "items": { "type": "integer", "minimum": 0, "maximum": 255 } };
        deserialize_byte_buf visit_bytes b"1", { "type": "array", "items": { "type": "integer", "minimum": 0, "maximum": 255 } };
    }

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Unreadable> {
        visitor.visit_unit()
    }

    fn deserialize_ignored_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Unreadable> {
        visitor.visit_unit()
    }

    fn deserialize_identifier<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Unreadable> {
        visitor.visit_str("1")
    }

    fn deserialize_unit<V: Visitor<'de>>(mut self, visitor: V) -> Result<V::Value, Unreadable> {
        self.note(json!({ "type": "null" }));
        visitor.visit_unit()
    }

    fn deserialize_unit_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        visitor: V,
    ) -> Result<V::Value, Unreadable> {
        self.deserialize_unit(visitor)
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        visitor: V,
    ) -> Result<V::Value, Unreadable> {
        self.enter((name, &[]), |Probe { study, schema }| {
            study.descend(schema, |probe| visitor.visit_newtype_struct(probe))
        })
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Unreadable> {
        if self.is_within_itself() {
            return visitor.visit_none();
        }
        let mut inner = some(self.schema.take());
        let read = self.study.descend(&mut inner, |probe| visitor.visit_some(probe));
        *self.schema = nullable(inner);
        read
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Unreadable> {
        let left = usize::from(!self.is_within_itself());
        let mut items = member(self.schema, "items");
        let elements =
            Elements { study: self.study, schemas: std::slice::from_mut(&mut items), left };
        let read = visitor.visit_seq(elements);
        *self.schema = json!({ "type": "array", "items": items });
        read
    }

    fn deserialize_tuple<V: Visitor<'de>>(
        self,
        len: usize,
        visitor: V,
    ) -> Result<V::Value, Unreadable> {
        let mut items = vec![anything(); len];
        let read =
            visitor.visit_seq(Elements { study: self.study, schemas: &mut items, left: len });
        *self.schema = json!({
            "type": "array", "prefixItems": items, "minItems": len, "maxItems": len
        });
        read
    }

    fn deserialize_tuple_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        len: usize,
        visitor: V,
    ) -> Result<V::Value, Unreadable> {
        self.deserialize_tuple(len, visitor)
    }

    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Unreadable> {
        let left = usize::from(!self.is_within_itself());
        let mut values = member(self.schema, "additionalProperties");
        let read = visitor.visit_map(Pairs { study: self.study, values: &mut values, left });
        *self.schema = json!({ "type": "object", "additionalProperties": values });
        read
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Unreadable> {
        let of = (name, fields);
        self.enter(of, |probe| probe.read_fields(of, visitor))
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        name: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Unreadable> {
        let of = (name, variants);
        self.enter(of, |probe| probe.read_variant(of, visitor))
    }
}

impl Probe<'_> {
    fn read_fields<'de, V: Visitor<'de>>(
        self,
        of: Type,
        visitor: V,
    ) -> Result<V::Value, Unreadable> {
        let Self { study, schema } = self;
        study.fields.extend(of.1.iter().map(|field| (of, *field)));
        let mut properties = match member(schema, "properties") {
            Value::Object(known) if !known.is_empty() => known,
            _ => of.1.iter().map(|field| ((*field).to_owned(), anything())).collect(),
        };
        let names = study.offered(of).into_iter();
        let fields =
            Fields { study: &mut *study, of, names, next: None, properties: &mut properties };
        let read = visitor.visit_map(fields);
        *schema = object(properties, &study.required_of(of));
        read
    }

    fn read_variant<'de, V: Visitor<'de>>(
        self,
        of: Type,
        visitor: V,
    ) -> Result<V::Value, Unreadable> {
        let Self { study, schema } = self;
        let index = study.variant(of).ok_or(Unreadable)?;
        let known = study.variants.get_mut(&of).and_then(|known| known[index].replace(anything()));
        let mut inside = known.unwrap_or_else(anything);
        let chosen = Variant { study: &mut *study, name: of.1[index], schema: &mut inside };
        let read = visitor.visit_enum(chosen);
        if let Some(known) = study.variants.get_mut(&of) {
            known[index] = Some(inside);
            *schema = one_of(known.iter().flatten().cloned().collect());
        }
        read
    }
}

/// The elements of a list, each with its schema or all with one.
struct Elements<'a> {
    study: &'a mut Study,
    schemas: &'a mut [Value],
    left: usize,
}

impl<'de> SeqAccess<'de> for Elements<'_> {
    type Error = Unreadable;

    fn next_element_seed<T: DeserializeSeed<'de>>(
        &mut self,
        seed: T,
    ) -> Result<Option<T::Value>, Unreadable> {
        let Some(left) = self.left.checked_sub(1) else { return Ok(None) };
        let index = self.schemas.len().saturating_sub(self.left);
        self.left = left;
        let schema = self.schemas.get_mut(index).ok_or(Unreadable)?;
        self.study.descend(schema, |probe| seed.deserialize(probe)).map(Some)
    }
}

/// The pairs of a map.
struct Pairs<'a> {
    study: &'a mut Study,
    values: &'a mut Value,
    left: usize,
}

impl<'de> MapAccess<'de> for Pairs<'_> {
    type Error = Unreadable;

    fn next_key_seed<K: DeserializeSeed<'de>>(
        &mut self,
        seed: K,
    ) -> Result<Option<K::Value>, Unreadable> {
        let Some(left) = self.left.checked_sub(1) else { return Ok(None) };
        self.left = left;
        // In JSON every key is a string, so nothing is noted of it.
        self.study.descend(&mut anything(), |probe| seed.deserialize(probe)).map(Some)
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(
        &mut self,
        seed: V,
    ) -> Result<V::Value, Unreadable> {
        self.study.descend(self.values, |probe| seed.deserialize(probe))
    }
}

/// The fields of a struct.
struct Fields<'a> {
    study: &'a mut Study,
    of: Type,
    names: std::vec::IntoIter<&'static str>,
    next: Option<&'static str>,
    properties: &'a mut Map<String, Value>,
}

impl<'de> MapAccess<'de> for Fields<'_> {
    type Error = Unreadable;

    fn next_key_seed<K: DeserializeSeed<'de>>(
        &mut self,
        seed: K,
    ) -> Result<Option<K::Value>, Unreadable> {
        self.next = self.names.next();
        let Some(name) = self.next else { return Ok(None) };
        let name: StrDeserializer<'_, Unreadable> = name.into_deserializer();
        seed.deserialize(name).map(Some)
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(
        &mut self,
        seed: V,
    ) -> Result<V::Value, Unreadable> {
        let name = self.next.ok_or(Unreadable)?;
        let schema = self.properties.entry(name).or_insert_with(anything);
        let read = self.study.descend(schema, |probe| seed.deserialize(probe));
        if read.is_err() {
            self.study.refuse(self.of, name);
        }
        read
    }
}

/// One variant of an enum.
struct Variant<'a> {
    study: &'a mut Study,
    name: &'static str,
    schema: &'a mut Value,
}

impl<'de, 'a> EnumAccess<'de> for Variant<'a> {
    type Error = Unreadable;
    type Variant = Self;

    fn variant_seed<V: DeserializeSeed<'de>>(
        self,
        seed: V,
    ) -> Result<(V::Value, Self), Unreadable> {
        let name: StrDeserializer<'_, Unreadable> = self.name.into_deserializer();
        Ok((seed.deserialize(name)?, self))
    }
}

impl Variant<'_> {
    /// Reads what a variant holds.
    fn read<T>(
        self,
        read: impl FnOnce(Probe<'_>) -> Result<T, Unreadable>,
    ) -> Result<T, Unreadable> {
        let mut inside = match self.schema.get_mut("properties") {
            Some(known) => member(known, self.name),
            None => anything(),
        };
        let read = self.study.descend(&mut inside, read);
        let properties = [(self.name.to_owned(), inside)].into_iter().collect();
        *self.schema = object(properties, &[self.name]);
        read
    }
}

impl<'de> VariantAccess<'de> for Variant<'_> {
    type Error = Unreadable;

    fn unit_variant(self) -> Result<(), Unreadable> {
        *self.schema = json!({ "const": self.name });
        Ok(())
    }

    fn newtype_variant_seed<T: DeserializeSeed<'de>>(
        self,
        seed: T,
    ) -> Result<T::Value, Unreadable> {
        self.read(|probe| seed.deserialize(probe))
    }

    fn tuple_variant<V: Visitor<'de>>(
        self,
        len: usize,
        visitor: V,
    ) -> Result<V::Value, Unreadable> {
        self.read(|probe| probe.deserialize_tuple(len, visitor))
    }

    fn struct_variant<V: Visitor<'de>>(
        self,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Unreadable> {
        let of = (self.name, fields);
        self.read(|probe| probe.read_fields(of, visitor))
    }
}

/// Takes what an earlier round wrote there.
fn member(schema: &mut Value, key: &str) -> Value {
    schema.get_mut(key).map_or_else(anything, Value::take)
}

fn object(properties: Map<String, Value>, required: &[&str]) -> Value {
    let mut object = json!({ "type": "object", "properties": properties });
    if !required.is_empty() {
        object["required"] = json!(required);
    }
    object
}

fn nullable(mut schema: Value) -> Value {
    match schema.get("type") {
        Some(Value::String(kind)) if schema.get("enum").is_none() => {
            schema["type"] = json!([kind, "null"]);
            schema
        }
        // What is anything may be nothing.
        None if schema == anything() => schema,
        _ => json!({ "anyOf": [schema, { "type": "null" }] }),
    }
}

/// What `nullable` made one that is not.
fn some(mut schema: Value) -> Value {
    if let Some(first) = schema.get_mut("anyOf").and_then(|several| several.get_mut(0)) {
        return first.take();
    }
    if let Some(kind) = schema.get("type").and_then(|kinds| kinds.get(0)).cloned() {
        schema["type"] = kind;
    }
    if schema.is_null() { anything() } else { schema }
}

fn one_of(variants: Vec<Value>) -> Value {
    let names: Option<Vec<_>> = variants.iter().map(|variant| variant.get("const")).collect();
    match (names, &*variants) {
        (Some(names), _) => json!({ "type": "string", "enum": names }),
        (None, [only]) => only.clone(),
        (None, _) => json!({ "oneOf": variants }),
    }
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;

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
