//! What lies within lists, maps, structs and enums.

use serde::de::value::StrDeserializer;
use serde::de::{
    DeserializeSeed, Deserializer, EnumAccess, IntoDeserializer, MapAccess, SeqAccess,
    VariantAccess, Visitor,
};
use serde_json::{Map, Value, json};

use super::form::{anything, member, object};
use super::probe::{Probe, Unreadable};
use super::study::{Study, Type};

/// The elements of a list, each with its schema or all with one.
pub(super) struct Elements<'a> {
    pub(super) study: &'a mut Study,
    pub(super) schemas: &'a mut [Value],
    pub(super) left: usize,
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
        let schema = self.schemas.get_mut(index).ok_or(Unreadable::Refused)?;
        self.study.descend(schema, |probe| seed.deserialize(probe)).map(Some)
    }
}

/// The pairs of a map.
pub(super) struct Pairs<'a> {
    pub(super) study: &'a mut Study,
    pub(super) values: &'a mut Value,
    pub(super) left: usize,
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
pub(super) struct Fields<'a> {
    pub(super) study: &'a mut Study,
    pub(super) of: Type,
    pub(super) names: std::vec::IntoIter<&'static str>,
    /// The name that was offered last.
    pub(super) last: &'a mut Option<&'static str>,
    pub(super) properties: &'a mut Map<String, Value>,
}

impl<'de> MapAccess<'de> for Fields<'_> {
    type Error = Unreadable;

    fn next_key_seed<K: DeserializeSeed<'de>>(
        &mut self,
        seed: K,
    ) -> Result<Option<K::Value>, Unreadable> {
        let Some(name) = self.names.next() else { return Ok(None) };
        *self.last = Some(name);
        let name: StrDeserializer<'_, Unreadable> = name.into_deserializer();
        seed.deserialize(name).map(Some)
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(
        &mut self,
        seed: V,
    ) -> Result<V::Value, Unreadable> {
        let name = self.last.ok_or(Unreadable::Refused)?;
        let schema = self.properties.entry(name).or_insert_with(anything);
        let known = self.study.learned();
        let read = self.study.descend(schema, |probe| seed.deserialize(probe));
        // The next round reads what it learned of in another way.
        if read.is_err() && self.study.learned() == known {
            self.study.refuse((self.of, name));
        }
        read
    }
}

/// One variant of an enum.
pub(super) struct Variant<'a> {
    pub(super) study: &'a mut Study,
    pub(super) name: &'static str,
    pub(super) schema: &'a mut Value,
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
        let of = Type::read_by::<V>(self.name, fields);
        self.read(|probe| probe.read_fields(of, visitor))
    }
}
