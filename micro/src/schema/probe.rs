//! The source of values that are made up, and what a value is asked for.

use std::fmt;

use serde::de::{Deserializer, Visitor};
use serde_json::{Value, json};

use super::access::{Elements, Fields, Pairs, Variant};
use super::form::{anything, member, nullable, object, one_of, some};
use super::{Study, Type};

/// The source of one value.
pub(super) struct Probe<'a> {
    pub(super) study: &'a mut Study,
    /// Where its schema is written.
    pub(super) schema: &'a mut Value,
}

impl<'a> Probe<'a> {
    pub(super) fn new(study: &'a mut Study, schema: &'a mut Value) -> Self {
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
pub(super) struct Unreadable;

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
    pub(super) fn read_fields<'de, V: Visitor<'de>>(
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
