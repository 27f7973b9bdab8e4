//! The macros of `micro`: a trait becomes a contract, an error type learns its code.
//!
//! Use them through the facade, as `#[micro::service]` and `#[derive(micro::RpcError)]`. What they
//! generate is short and calls functions of a hidden module of `micro`; the logic is there.

mod duration;
mod errors;
mod names;
mod options;
mod rpc_error;
mod service;

use proc_macro::TokenStream;

/// Makes a contract of a trait: what a server implements and a client calls.
///
/// ```ignore
/// /// Greets people.
/// #[micro::service]
/// pub trait Greeter {
///     /// Greets someone by name.
///     #[rpc(idempotent, timeout = "200ms")]
///     async fn hello(&self, name: String) -> Result<String, GreetError>;
///     async fn count(&self) -> u64;
///     async fn who(&self, cx: &micro::Context, loud: bool) -> String;
/// }
/// ```
///
/// Next to the trait this generates two types of the same visibility:
///
/// - `GreeterServer<T>` serves an implementation `T: Greeter`, with `new` and `from_arc`;
/// - `GreeterClient` calls a remote one, with `new` for the service named like the contract and
///   `named` for another. Each method returns a `micro::Call`, which is awaited, or refined first.
///
/// ```ignore
/// impl Greeter for English {
///     async fn hello(&self, name: String) -> Result<String, GreetError> {
///         Ok(format!("Hello, {name}!"))
///     }
///     // and the others
/// }
/// micro::Service::new().name("greeter").serve(GreeterServer::new(English)).run().await?;
///
/// GreeterClient::new(&client).hello("Ann").await?;
/// ```
///
/// # The trait
///
/// It becomes `Send + Sync + 'static`, and the futures of its methods `Send`: an implementation is
/// shared by all requests. It has only methods, each an `async fn` that takes `&self` and owned
/// arguments that serde can encode; an argument of type `String` accepts `impl Into<String>` in the
/// client. A first argument `&micro::Context` belongs to the server; callers do not pass it. The
/// names `new` and `named` are taken by the client's constructors.
///
/// A method can fail with an error of its own when its return type is written
/// `Result<T, E>`; the macro cannot see the error behind an alias. `E` is a [`derive@RpcError`].
///
/// # Options
///
/// | where | option | meaning |
/// |---|---|---|
/// | `#[micro::service(…)]` | `name = "greeter"` | the contract's name, `[a-z0-9._-]{1,128}`; by default the trait's, `OrderBook` as `order-book` |
/// | `#[rpc(…)]` on a method | `idempotent` | executing a call twice is as good as once, so it may be retried when it may have been executed |
/// | | `timeout = "200ms"` | how long a call may take unless the caller says otherwise; units `ns us ms s m h` |
/// | | `name = "hello"` | the method's name on the wire, `[A-Za-z0-9._-]{1,128}`; by default the function's |
///
/// `#[cfg]` of the trait and of its methods applies to everything made of them. Documentation is
/// repeated on the client's methods and told to whoever lists the service.
#[proc_macro_attribute]
pub fn service(options: TokenStream, item: TokenStream) -> TokenStream {
    service::expand(options.into(), item.into()).into()
}

/// Makes an enum or a struct an error that a method can answer with, by giving it a code.
///
/// ```ignore
/// #[derive(Debug, thiserror::Error, micro::RpcError, serde::Serialize, serde::Deserialize)]
/// pub enum GreetError {
///     #[error("{name} is banned")]
///     #[rpc(code = failed_precondition)]
///     Banned { name: String },
///     #[error("nobody is there")]
///     #[rpc(code = not_found)]
///     Nobody,
/// }
/// ```
///
/// `#[rpc(code = …)]` stands on a variant, or on the type for all variants without their own.
/// Without either the code is `unknown`. The codes are `cancelled`, `unknown`, `invalid_argument`,
/// `deadline_exceeded`, `not_found`, `already_exists`, `permission_denied`, `resource_exhausted`,
/// `failed_precondition`, `aborted`, `out_of_range`, `unimplemented`, `internal`, `unavailable`,
/// `data_loss` and `unauthenticated`.
#[proc_macro_derive(RpcError, attributes(rpc))]
pub fn rpc_error(item: TokenStream) -> TokenStream {
    rpc_error::expand(item.into()).into()
}
