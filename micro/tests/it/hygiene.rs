//! Contracts in odd surroundings: names that are taken, strict lints, no prelude, other macros.
#![deny(warnings, nonstandard_style)]

use micro::rpc::Codec;

use super::*;

/// A contract whose arguments are called like what the expansion is made of.
#[micro::service(mock)]
pub trait Names {
    #[allow(clippy::too_many_arguments)]
    async fn all(
        &self,
        self_: u8,
        context: u8,
        contract: u8,
        server: u8,
        arguments: u8,
        implementation: u8,
        target: u8,
        answer: u8,
        value0: u8,
        client: u8,
    ) -> u32;
    async fn raw(&self, r#type: u8, r#async: String, r#gen: Option<u8>) -> u8;
    async fn r#match(&self, r#as: u8) -> u8;
    async fn call(&self, call: u8) -> u8;
    async fn clone(&self) -> u8;
    async fn from(&self, from: String) -> String;
    async fn default(&self) -> u8;
    async fn target(&self, cx: &Context, cx_: u8) -> u8;
    #[allow(non_snake_case)]
    async fn Upper(&self, Case: u8) -> u8;
}

struct Plain;

impl Plain {
    /// Stands in the way of the trait's method of this name.
    #[allow(dead_code)]
    fn call(&self) {}
}

impl Names for Plain {
    async fn all(
        &self,
        self_: u8,
        context: u8,
        contract: u8,
        server: u8,
        arguments: u8,
        implementation: u8,
        target: u8,
        answer: u8,
        value0: u8,
        client: u8,
    ) -> u32 {
        let first = [self_, context, contract, server, arguments];
        let all = first.into_iter().chain([implementation, target, answer, value0, client]);
        all.fold(0, |sum, digit| sum * 2 + u32::from(digit))
    }
    async fn raw(&self, r#type: u8, r#async: String, r#gen: Option<u8>) -> u8 {
        r#type + r#async.len() as u8 + r#gen.unwrap_or(0)
    }
    async fn r#match(&self, r#as: u8) -> u8 {
        r#as
    }
    async fn call(&self, call: u8) -> u8 {
        call
    }
    async fn clone(&self) -> u8 {
        1
    }
    async fn from(&self, from: String) -> String {
        from
    }
    async fn default(&self) -> u8 {
        2
    }
    async fn target(&self, _: &Context, cx_: u8) -> u8 {
        cx_
    }
    #[allow(non_snake_case)]
    async fn Upper(&self, Case: u8) -> u8 {
        Case
    }
}

/// Arguments and methods may have any name; a raw one travels as it is pronounced.
#[tokio::test(start_paused = true)]
async fn names_are_free() {
    let town = Town::default();
    let _service = town.serve(NamesServer::new(Plain)).await;
    let names = NamesClient::named(&town.client().await, "shop");
    assert_eq!(names.all(1, 0, 0, 0, 0, 0, 0, 0, 0, 1).await.unwrap(), 513);
    assert_eq!(names.raw(1, "ab", Some(3)).await.unwrap(), 6);
    let body = r#"{"type":1,"async":"ab"}"#;
    let answer = town.call("names", "raw", Codec::Json, body).await.unwrap();
    assert_eq!(&answer.body[..], b"3");
    assert_eq!(names.r#match(1).await.unwrap(), 1);
    assert_eq!(names.call(2).await.unwrap(), 2);
    assert_eq!(names.clone().await.unwrap(), 1);
    assert_eq!(names.from("a").await.unwrap(), "a");
    assert_eq!(names.default().await.unwrap(), 2);
    assert_eq!(names.target(3).await.unwrap(), 3);
    assert_eq!(names.Upper(4).await.unwrap(), 4);
    let endpoints = micro::Contract::from(NamesServer::new(Plain)).endpoints();
    assert!(endpoints.iter().any(|endpoint| endpoint.name == "match"));
    let mock = MockNames::new().on_match(|r#as| r#as + 1);
    assert_eq!(Names::r#match(&mock, 1).await, 2);
    assert_eq!(mock.calls_of_match(), [1]);
}

/// A module in which the prelude's names, and more, mean something else.
mod shadowed {
    use serde::{Deserialize, Serialize};

    macro_rules! empty {
        ($($name:ident)*) => {
            $(
                /// Not what one expects.
                #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
                #[allow(dead_code)]
                pub(super) struct $name;
            )*
        };
    }

    empty!(String Vec Option Box Arc Send Sync Clone From Into Future Context Infallible T);

    /// The standard library's, by another module.
    pub(super) type Result<T, E> = ::core::result::Result<T, E>;

    #[allow(dead_code, non_camel_case_types)]
    type u64 = ();
    #[allow(dead_code)]
    mod core {}
    #[allow(dead_code)]
    mod std {}

    #[micro::service(mock)]
    pub(super) trait Shadowed {
        async fn string(&self, value: String, more: Vec) -> Option;
        async fn result(&self, ok: bool, t: T) -> Result<String, super::ShopError>;
        async fn context(&self, cx: &micro::Context, value: Context) -> Arc;
    }

    pub(super) struct Odd;

    impl Shadowed for Odd {
        async fn string(&self, _: String, _: Vec) -> Option {
            Option
        }
        async fn result(&self, ok: bool, _: T) -> Result<String, super::ShopError> {
            if ok { Ok(String) } else { Err(super::ShopError::Closed) }
        }
        async fn context(&self, _: &micro::Context, _: Context) -> Arc {
            Arc
        }
    }
}

/// The expansion takes no name from its surroundings.
#[tokio::test(start_paused = true)]
async fn names_can_be_shadowed() {
    use shadowed::*;
    let town = Town::default();
    let _service = town.serve(ShadowedServer::new(Odd)).await;
    let client = ShadowedClient::named(&town.client().await, "shop");
    client.string(shadowed::String, shadowed::Vec).await.unwrap();
    client.result(true, T).await.unwrap();
    assert!(matches!(client.result(false, T).await, Err(micro::CallError::App(_))));
    client.context(shadowed::Context).await.unwrap();
    let mock = MockShadowed::new().on_string(|_, _| shadowed::Option);
    mock.string(shadowed::String, shadowed::Vec).await;
    assert_eq!(mock.calls_of_string().len(), 1);
}

/// The expansion needs no prelude and gives no lint anything to say.
#[tokio::test(start_paused = true)]
async fn no_prelude_and_strict_lints() {
    use super::strict::*;
    let town = Town::default();
    let _service = town.serve(StrictServer::new(Severe)).await;
    let client = StrictClient::named(&town.client().await, "shop");
    assert_eq!(client.documented("a").await.unwrap(), "a");
    assert_eq!(client.fallible(false).await.unwrap(), 1);
    let Err(micro::CallError::App(StrictError)) = client.fallible(true).await else { panic!() };
    let mock = MockStrict::default().on_documented(|name| name);
    assert_eq!(mock.documented("a".to_owned()).await, "a");
}

macro_rules! contract {
    ($(#[$attribute:meta])* $visibility:vis $name:ident, $server:ident, $client:ident, $method:ident, $argument:ident: $in:ty => $out:ty, $error:ty) => {
        $(#[$attribute])*
        #[micro::service(mock)]
        $visibility trait $name {
            async fn $method(&self, $argument: $in) -> $out;
            async fn fallible(&self, own: $in) -> Result<$out, $error>;
            async fn of_the_macro(&self, cx: &Context, fixed: u8) -> u8;
        }

        impl $name for Plain {
            async fn $method(&self, $argument: $in) -> $out {
                $argument.into()
            }
            async fn fallible(&self, own: $in) -> Result<$out, $error> {
                Ok(own.into())
            }
            async fn of_the_macro(&self, _: &Context, fixed: u8) -> u8 {
                fixed
            }
        }

        async fn call_it(town: &Town) -> $out {
            let _service = town.serve($server::new(Plain)).await;
            let client = $client::named(&town.client().await, "shop");
            client.fallible("a").await.unwrap();
            assert_eq!(client.of_the_macro(1).await.unwrap(), 1);
            client.$method("b").await.unwrap()
        }
    };
}

contract!(
    /// A contract that a macro wrote.
    pub(crate) Written, WrittenServer, WrittenClient, hello, name: String => Box<str>, ShopError
);

/// A macro may write a contract; its types are seen through the groups it puts them in.
#[tokio::test(start_paused = true)]
async fn macros_may_write_contracts() {
    assert_eq!(&*call_it(&Town::default()).await, "b");
}

/// A contract may stand in a function, and use what stands there.
#[tokio::test(start_paused = true)]
#[deny(warnings)]
async fn contracts_in_functions() {
    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct Local(u8);

    #[derive(Debug, thiserror::Error, micro::RpcError, Serialize, Deserialize)]
    #[error("local")]
    struct LocalError;

    #[micro::service(mock)]
    trait Inner {
        async fn local(&self, value: Local) -> Result<Local, LocalError>;
    }

    let town = Town::default();
    let mock = MockInner::new().on_local(|Local(value)| Ok(Local(value + 1)));
    let _service = town.serve(InnerServer::new(mock.clone())).await;
    let client = InnerClient::named(&town.client().await, "shop");
    assert_eq!(client.local(Local(1)).await.unwrap(), Local(2));
    assert_eq!(mock.calls_of_local(), [Local(1)]);
}
