//! Contracts of plain `#[tarpc::service]`: their generated clients over our registry, selector and
//! connections, their implementations served by [`Service`](crate::Service).
//!
//! The contract stays as it is, and its crate needs nothing of this one. [`stub`] is what the
//! generated client is made of, [`host`] what a service serves.
//!
//! ```
//! /// Greets people.
//! #[tarpc::service]
//! pub trait Greeter {
//!     /// Greets someone by name.
//!     async fn hello(name: String) -> String;
//! }
//!
//! #[derive(Clone)]
//! struct English;
//!
//! impl Greeter for English {
//!     async fn hello(self, _: tarpc::context::Context, name: String) -> String {
//!         format!("Hello, {name}!")
//!     }
//! }
//!
//! # use micro::registry::MemoryRegistry;
//! # #[tokio::main]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let (registry, settings) = (MemoryRegistry::new(), micro::Settings::none());
//! use tarpc::server::Serve;
//!
//! let service = micro::Service::new()
//! #   .settings(settings.clone())
//! #   .registry(registry.clone())
//!     .serve(micro::tarpc::host(|cx, request| Serve::serve(English.serve(), cx, request)))
//!     .start()
//!     .await?;
//!
//! # let client = micro::Client::connect().settings(settings).registry(registry);
//! # let client = client.wait_for_ready(true).await?;
//! # #[cfg(any())]
//! let client = micro::Client::connect().await?;
//! let greeter = GreeterClient::from(micro::tarpc::stub(&client, "greeter"));
//! let greeting = greeter.hello(tarpc::context::current(), "Ann".to_owned()).await?;
//! assert_eq!(greeting, "Hello, Ann!");
//! # service.shutdown().await;
//! # Ok(())
//! # }
//! ```
//!
//! # What becomes what
//!
//! | tarpc | here |
//! |---|---|
//! | `trait Greeter` | contract `greeter`; `OrderBook` is `order-book`, as with `#[micro::service]` |
//! | `async fn hello(name: String)` | method `hello`, whose arguments are the map `{"name": …}` |
//! | `-> String` | the answer, a string |
//! | `-> Result<T, E>` | an answer as well, the map `{"Ok": …}` or `{"Err": …}` |
//! | the context's deadline | the call's deadline, unless the call being served ends earlier; the client's own timeout is not used |
//! | the context's trace | the call's trace; if it has none, that of the call being served, or a new one |
//! | a dropped future | the call is cancelled, on the server too |
//!
//! So tarpc's peers and those of `#[micro::service]` understand each other if their traits have the
//! same shape, and `curl` understands both. Only methods that return a `Result` do not mix: for
//! tarpc that is one more value, for `#[micro::service]` its error is an error of the call.
//!
//! A tarpc contract cannot say that a method is idempotent, so a call that may have been executed
//! is never repeated. One that was certainly not, because its node could not be reached or refused
//! it, is tried on another node.
//!
//! While an implementation runs, [`Context::current`](crate::Context::current) has what tarpc's
//! context does not: peer, metadata, criticality.
//!
//! # Errors
//!
//! What a call can fail with, as an `RpcError` of tarpc's. [`Error`](crate::Error), which says what
//! failed, on which node and why, is the source of `Send` and `Channel` and the text of `Server`.
//!
//! | `RpcError` | when |
//! |---|---|
//! | `Send` | the arguments could not be encoded, or what must travel with them does not fit |
//! | `Channel(Ready)` | no node was found or could be reached: nothing was executed |
//! | `Channel(Write)` | the request could not be sent |
//! | `Channel(Read)` | the connection was lost before the answer, or the answer was not understood |
//! | `DeadlineExceeded` | the deadline passed |
//! | `Server` | a node answered with an error, whose code is its kind |
//! | `Shutdown` | never: connections come and go while the client lives |

mod error;
mod host;
mod shape;
mod stub;

pub use host::host;
pub use stub::{Stub, stub};
