//! What the macro says of a method, as a type, and what it makes of it.
//!
//! What a user's types lack is missed in one place only. For arguments that is the `impl Method`:
//! all else asks for `M: Method`, which holds whether or not that is in order. For answers and errors
//! it is the contract's registration. So each mistake is one error.

use std::fmt;
use std::marker::PhantomData;
use std::sync::Arc;

use serde::de::{DeserializeSeed, Error, IgnoredAny, MapAccess, Visitor};
use serde::ser::SerializeStruct;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::call::{self, MethodError};
use crate::client::Target;
use crate::contract::{ContractBuilder, MethodInfo};
use crate::error::Portable;
use crate::{Call, Context};

/// A method, as both sides know it.
pub trait Method: 'static {
    /// What is known of it without its types.
    const INFO: &'static MethodInfo;
    /// The arguments' names as they travel, in the order of the arguments.
    const NAMES: &'static [&'static str];
    /// What callers pass.
    type Arguments: Arguments;
}

/// Calls a method; what the generated clients' methods do.
pub fn call<M: Method, T, E>(target: &Target, arguments: M::Arguments) -> Call<T, E> {
    call::call(target, M::INFO, &Named::<M>(arguments))
}

/// Adds a method that returns a `Result` to a contract.
pub fn fallible<M, T, E, S, F, Fut>(
    contract: ContractBuilder,
    implementation: &Arc<S>,
    method: F,
) -> ContractBuilder
where
    M: Method,
    T: Answer,
    E: MethodError,
    S: Send + Sync + 'static,
    F: Fn(Arc<S>, Context, M::Arguments) -> Fut + Clone + Send + Sync + 'static,
    Fut: Future<Output = Result<T, E>> + Send + 'static,
{
    let method = move |implementation, context, Named(arguments): Named<M>| {
        method(implementation, context, arguments)
    };
    contract.fallible(implementation, M::INFO, method)
}

/// Adds a method that always answers to a contract.
pub fn infallible<M, T, S, F, Fut>(
    contract: ContractBuilder,
    implementation: &Arc<S>,
    method: F,
) -> ContractBuilder
where
    M: Method,
    T: Answer,
    S: Send + Sync + 'static,
    F: Fn(Arc<S>, Context, M::Arguments) -> Fut + Clone + Send + Sync + 'static,
    Fut: Future<Output = T> + Send + 'static,
{
    let method = move |implementation, context, Named(arguments): Named<M>| {
        method(implementation, context, arguments)
    };
    contract.infallible(implementation, M::INFO, method)
}

/// What a method answers.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be an answer: it does not travel",
    label = "not `Serialize`, `Deserialize`, `Send` and `'static`, all four",
    note = "write `#[derive(serde::Serialize, serde::Deserialize)]` on it; \
            if it has parameters, on them too"
)]
pub trait Answer: Portable + Send + 'static {}

#[diagnostic::do_not_recommend]
impl<T: Portable + Send + 'static> Answer for T {}

/// What a method takes.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be an argument: it does not travel",
    label = "not `Serialize`, `Deserialize`, `Send` and `'static`, all four",
    note = "write `#[derive(serde::Serialize, serde::Deserialize)]` on it; \
            if it has parameters, on them too"
)]
pub trait Argument: Portable + Send + 'static {}

#[diagnostic::do_not_recommend]
impl<T: Portable + Send + 'static> Argument for T {}

/// The return type of a method, to be told from a `Result` whatever alias it stands behind.
#[derive(Debug)]
pub struct Returned<T>(PhantomData<T>);

impl<T, E> Returned<Result<T, E>> {
    /// Comes before the constant of the trait, which every type has.
    pub const IS_RESULT: bool = true;
}

/// Every other type.
pub trait ReturnedOther {
    /// Whether this is a `Result`.
    const IS_RESULT: bool = false;
}

impl<T> ReturnedOther for Returned<T> {}

/// Ends the compilation of a method whose error the macro could not see.
#[track_caller]
pub const fn always_answers(is_result: bool) {
    assert!(
        !is_result,
        "this is a `Result` behind an alias, whose error `#[micro::service]` cannot see: write `Result<T, E>`"
    );
}

/// A method's arguments as they travel: a map from their names.
pub(crate) struct Named<M: Method>(pub(crate) M::Arguments);

impl<M: Method> Serialize for Named<M> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut fields = serializer.serialize_struct("Arguments", M::NAMES.len())?;
        self.0.write(M::NAMES, &mut fields)?;
        fields.end()
    }
}

impl<'de, M: Method> Deserialize<'de> for Named<M> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_struct("Arguments", M::NAMES, NamedVisitor(PhantomData))
    }
}

struct NamedVisitor<M>(PhantomData<M>);

impl<'de, M: Method> Visitor<'de> for NamedVisitor<M> {
    type Value = Named<M>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the arguments of `{}` by name", M::INFO.name)
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Named<M>, A::Error> {
        M::Arguments::read(M::NAMES, map).map(Named)
    }
}

/// Tuples of arguments.
pub trait Arguments: Sized + Send + 'static {
    /// Writes each under its name.
    fn write<S: SerializeStruct>(
        &self,
        names: &'static [&'static str],
        fields: &mut S,
    ) -> Result<(), S::Error>;

    /// Reads each by its name. Other names are ignored, so that callers may be newer; an `Option`
    /// that is not there is `None`, so that they may be older.
    fn read<'de, A: MapAccess<'de>>(
        names: &'static [&'static str],
        map: A,
    ) -> Result<Self, A::Error>;
}

macro_rules! arguments {
    ($($name:ident $index:tt),*) => {
        #[allow(unused_mut, unused_variables, clippy::unused_unit)] // Without arguments.
        impl<$($name: Argument),*> Arguments for ($($name,)*) {
            fn write<S: SerializeStruct>(
                &self,
                names: &'static [&'static str],
                fields: &mut S,
            ) -> Result<(), S::Error> {
                $(fields.serialize_field(names[$index], &self.$index)?;)*
                Ok(())
            }

            fn read<'de, A: MapAccess<'de>>(
                names: &'static [&'static str],
                mut map: A,
            ) -> Result<Self, A::Error> {
                let mut slots = ($(None::<$name>,)*);
                while let Some(index) = map.next_key_seed(Index(names))? {
                    match index {
                        $(Some($index) => fill(&mut slots.$index, names[$index], &mut map)?,)*
                        _ => drop(map.next_value::<IgnoredAny>()?),
                    }
                }
                Ok(($(slots.$index.map_or_else(|| absent(names[$index]), Ok)?,)*))
            }
        }
    };
}

// As many as the macro lets through.
arguments!();
arguments!(T0 0);
arguments!(T0 0, T1 1);
arguments!(T0 0, T1 1, T2 2);
arguments!(T0 0, T1 1, T2 2, T3 3);
arguments!(T0 0, T1 1, T2 2, T3 3, T4 4);
arguments!(T0 0, T1 1, T2 2, T3 3, T4 4, T5 5);
arguments!(T0 0, T1 1, T2 2, T3 3, T4 4, T5 5, T6 6);
arguments!(T0 0, T1 1, T2 2, T3 3, T4 4, T5 5, T6 6, T7 7);
arguments!(T0 0, T1 1, T2 2, T3 3, T4 4, T5 5, T6 6, T7 7, T8 8);
arguments!(T0 0, T1 1, T2 2, T3 3, T4 4, T5 5, T6 6, T7 7, T8 8, T9 9);
arguments!(T0 0, T1 1, T2 2, T3 3, T4 4, T5 5, T6 6, T7 7, T8 8, T9 9, T10 10);
arguments!(T0 0, T1 1, T2 2, T3 3, T4 4, T5 5, T6 6, T7 7, T8 8, T9 9, T10 10, T11 11);

/// Reads a name, and where it stands among those that are known.
struct Index(&'static [&'static str]);

impl<'de> DeserializeSeed<'de> for Index {
    type Value = Option<usize>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_identifier(self)
    }
}

impl Visitor<'_> for Index {
    type Value = Option<usize>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the name of an argument")
    }

    fn visit_str<E: Error>(self, name: &str) -> Result<Self::Value, E> {
        Ok(self.0.iter().position(|known| *known == name))
    }
}

fn fill<'de, T: Deserialize<'de>, A: MapAccess<'de>>(
    slot: &mut Option<T>,
    name: &'static str,
    map: &mut A,
) -> Result<(), A::Error> {
    match slot.replace(map.next_value()?) {
        None => Ok(()),
        Some(_) => Err(A::Error::duplicate_field(name)),
    }
}

/// What an argument is that was not passed: nothing for an `Option`, an error for all others.
fn absent<'de, T: Deserialize<'de>, E: Error>(name: &'static str) -> Result<T, E> {
    T::deserialize(Absent(name, PhantomData))
}

struct Absent<E>(&'static str, PhantomData<E>);

impl<'de, E: Error> Deserializer<'de> for Absent<E> {
    type Error = E;

    fn deserialize_any<V: Visitor<'de>>(self, _: V) -> Result<V::Value, E> {
        Err(E::missing_field(self.0))
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, E> {
        visitor.visit_none()
    }

    serde::forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf unit
        unit_struct newtype_struct seq tuple tuple_struct map struct enum identifier ignored_any
    }
}
