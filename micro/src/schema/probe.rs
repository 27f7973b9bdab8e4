//! The source of values that are made up, and what a value is asked for.

use std::fmt;

use serde::de::{Deserializer, Visitor};
use serde_json::{Value, json};

use super::access::{Elements, Fields, Pairs, Variant};
use super::form::{anything, member, nullable, object, one_of, some};
use super::study::{Study, Type, VariantEnd};

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
        let Self { study, schema } = self;
        study.enter(of, |study, again| {
            // What contains itself is open there; the value that is needed is made up all the same.
            let mut open = anything();
            read(Probe::new(study, if again { &mut open } else { schema }))
        })
    }
}

/// Some type refuses what is made up for it.
#[derive(Debug)]
pub(super) enum Unreadable {
    Refused,
    /// This field was there already, by this name or another.
    Twice(&'static str),
}

impl fmt::Display for Unreadable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a type refuses what is made up for it")
    }
}

impl std::error::Error for Unreadable {}

impl serde::de::Error for Unreadable {
    fn custom<T: fmt::Display>(_: T) -> Self {
        Self::Refused
    }

    fn duplicate_field(field: &'static str) -> Self {
        Self::Twice(field)
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
        self.enter(Type::read_by::<V>(name, &[]), |Probe { study, schema }| {
            study.descend(schema, |probe| visitor.visit_newtype_struct(probe))
        })
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Unreadable> {
        if self.study.is_within_itself() {
            return visitor.visit_none();
        }
        let mut inner = some(self.schema.take());
        let read = self.study.descend(&mut inner, |probe| visitor.visit_some(probe));
        *self.schema = nullable(inner);
        read
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Unreadable> {
        let left = usize::from(!self.study.is_within_itself());
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
        let left = usize::from(!self.study.is_within_itself());
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
        let of = Type::read_by::<V>(name, fields);
        self.enter(of, |probe| probe.read_fields(of, visitor))
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        name: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Unreadable> {
        let of = Type::read_by::<V>(name, variants);
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
        let mut properties = match member(schema, "properties") {
            Value::Object(known) if !known.is_empty() => known,
            _ => of.members.iter().map(|field| ((*field).to_owned(), anything())).collect(),
        };
        let (names, mut last) = (study.offered(of).into_iter(), None);
        let fields =
            Fields { study: &mut *study, of, names, last: &mut last, properties: &mut properties };
        let read = visitor.visit_map(fields);
        if let (Err(Unreadable::Twice(field)), Some(last)) = (&read, last) {
            study.note_alias(of, last, field);
        }
        for alias in study.aliases_of(of) {
            properties.remove(alias);
        }
        *schema = object(properties, &study.required_of(of));
        // Whoever reads this as a field has it once.
        read.map_err(|_| Unreadable::Refused)
    }

    fn read_variant<'de, V: Visitor<'de>>(
        self,
        of: Type,
        visitor: V,
    ) -> Result<V::Value, Unreadable> {
        let Self { study, schema } = self;
        let (index, mut inside) = study.choose(of).ok_or(Unreadable::Refused)?;
        let known = study.learned();
        let name = of.members[index];
        let read = visitor.visit_enum(Variant { study: &mut *study, name, schema: &mut inside });
        let end = match &read {
            _ if study.learned() != known => VariantEnd::Learned,
            Ok(_) => VariantEnd::Read,
            Err(_) => VariantEnd::Refused,
        };
        // What some variants are missing from would refuse those.
        *schema = study.note_variant(of, index, inside, end).map_or_else(anything, one_of);
        read
    }
}
