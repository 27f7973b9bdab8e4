//! What was learned of the types, round after round.

use std::any::type_name;
use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::form::anything;
use super::probe::{Probe, Unreadable};

/// What was learned so far, of all rounds.
#[derive(Default)]
pub(super) struct Study {
    /// How much that is: a round that adds nothing is the last.
    learned: usize,
    variants: BTreeMap<Type, Vec<Variant>>,
    fields: BTreeSet<Field>,
    /// Fields whose type refuses what is made up; they are not offered again.
    refused: BTreeSet<Field>,
    /// Fields that are read by other names too, by the one that serde writes.
    renamed: BTreeSet<Field>,
    /// The other names, which are not offered.
    aliases: BTreeSet<Field>,
    required: BTreeSet<Field>,
    left_out: Option<Field>,
    /// The types being read, outside in.
    within: Vec<Type>,
    /// How deep what is being read lies, types without a name included.
    depth: usize,
}

/// A type by its name, the names in it, and who reads it: of a generic one that differs with what
/// it is made of.
#[derive(Clone, Copy)]
pub(super) struct Type {
    pub(super) name: &'static str,
    pub(super) members: &'static [&'static str],
    reader: &'static str,
}

pub(super) type Field = (Type, &'static str);

/// What is known of one variant of an enum.
#[derive(Clone, Default)]
struct Variant {
    schema: Option<Value>,
    /// Whether it was read without learning anything more of what is in it.
    is_settled: bool,
    is_refused: bool,
}

/// Types that nest deeper, or for ever, are anything from there on.
const MAX_DEPTH: usize = 24;

impl Type {
    pub(super) fn read_by<V>(name: &'static str, members: &'static [&'static str]) -> Self {
        Self { name, members, reader: type_name::<V>() }
    }
}

impl Ord for Type {
    fn cmp(&self, other: &Self) -> Ordering {
        // Mostly it is the very same one, whose names may be hundreds.
        if std::ptr::eq(self.members, other.members) && std::ptr::eq(self.reader, other.reader) {
            return self.name.cmp(other.name);
        }
        let parts = |of: &Self| (of.reader, of.name, of.members);
        parts(self).cmp(&parts(other))
    }
}

impl PartialOrd for Type {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Type {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Type {}

impl Study {
    /// Begins a round; how much is known before it.
    pub(super) fn begin(&mut self) -> usize {
        self.within.clear();
        self.depth = 0;
        self.learned
    }

    pub(super) fn learned(&self) -> usize {
        self.learned
    }

    /// Reads what is in a type; whether that is being read already is told.
    pub(super) fn enter<T>(&mut self, of: Type, read: impl FnOnce(&mut Self, bool) -> T) -> T {
        let again = self.within.contains(&of);
        self.within.push(of);
        let read = read(self, again);
        self.within.pop();
        read
    }

    pub(super) fn is_within_itself(&self) -> bool {
        let Some((last, others)) = self.within.split_last() else { return false };
        others.contains(last)
    }

    /// Reads what lies within; the end of what has none.
    pub(super) fn descend<T>(
        &mut self,
        schema: &mut Value,
        read: impl FnOnce(Probe<'_>) -> Result<T, Unreadable>,
    ) -> Result<T, Unreadable> {
        if self.depth >= MAX_DEPTH {
            return Err(Unreadable::Refused);
        }
        self.depth += 1;
        let read = read(Probe::new(self, schema));
        self.depth -= 1;
        read
    }
}

/// Fields of structs.
impl Study {
    /// Which fields of a struct are offered. Of names for one field the first is taken, so those
    /// that serde writes come first.
    pub(super) fn offered(&mut self, of: Type) -> Vec<&'static str> {
        self.fields.extend(of.members.iter().map(|name| (of, *name)));
        let is_offered = |name: &&'static str| {
            let field = (of, *name);
            self.left_out != Some(field)
                && !self.refused.contains(&field)
                && !self.aliases.contains(&field)
        };
        let mut offered: Vec<_> = of.members.iter().copied().filter(is_offered).collect();
        offered.sort_by_key(|name| !self.renamed.contains(&(of, *name)));
        offered
    }

    /// The names by which a struct's fields are read besides those that serde writes.
    pub(super) fn aliases_of(&self, of: Type) -> Vec<&'static str> {
        let names = of.members.iter().copied();
        names.filter(|name| self.aliases.contains(&(of, *name))).collect()
    }

    /// What a field's type refuses is not offered again.
    pub(super) fn refuse(&mut self, field: Field) {
        if self.left_out.is_none() {
            self.learned += usize::from(self.refused.insert(field));
        }
    }

    /// The last name that was offered is another one of a field that was there.
    pub(super) fn note_alias(&mut self, of: Type, last: &'static str, field: &'static str) {
        self.learned += usize::from(self.renamed.insert((of, field)));
        if last != field {
            self.learned += usize::from(self.aliases.insert((of, last)));
        }
    }

    /// The fields that are read by no other name.
    pub(super) fn fields_of_one_name(&self) -> Vec<Field> {
        let is_one =
            |field: &&Field| !self.renamed.contains(field) && !self.aliases.contains(field);
        self.fields.iter().filter(is_one).copied().collect()
    }

    pub(super) fn leave_out(&mut self, field: Option<Field>) {
        self.left_out = field;
    }

    pub(super) fn require(&mut self, field: Field) {
        self.required.insert(field);
    }

    pub(super) fn required_of(&self, of: Type) -> Vec<&'static str> {
        let names = of.members.iter().copied();
        names.filter(|name| self.required.contains(&(of, *name))).collect()
    }
}

/// Variants of enums.
impl Study {
    /// Which variant is read this time, and what is known of it: one in which there is something to
    /// learn if there is any, else one that can be made up.
    pub(super) fn choose(&mut self, of: Type) -> Option<(usize, Value)> {
        let known = self.variants.entry(of).or_default();
        known.resize_with(of.members.len(), Variant::default);
        let unsettled = known.iter().position(|variant| !variant.is_settled);
        self.learned += usize::from(unsettled.is_some());
        let readable = || known.iter().position(|variant| !variant.is_refused);
        let index = unsettled.or_else(readable).unwrap_or_default();
        let chosen = known.get_mut(index)?;
        // What contains itself is another one within.
        chosen.is_settled = true;
        Some((index, chosen.schema.take().unwrap_or_else(anything)))
    }

    /// Notes what a variant is; all of them, once each is known.
    pub(super) fn note_variant(
        &mut self,
        of: Type,
        index: usize,
        schema: Value,
        end: VariantEnd,
    ) -> Option<Vec<Value>> {
        let known = self.variants.get_mut(&of)?;
        let variant = known.get_mut(index)?;
        variant.schema = Some(schema);
        variant.is_settled = end != VariantEnd::Learned;
        if end == VariantEnd::Refused && self.left_out.is_none() {
            self.learned += usize::from(!std::mem::replace(&mut variant.is_refused, true));
        }
        known.iter().map(|variant| variant.schema.clone()).collect()
    }
}

/// How the reading of a variant ended.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum VariantEnd {
    Read,
    /// Something is known now of what is in it, and there may be more.
    Learned,
    Refused,
}
