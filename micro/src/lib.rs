//! An embedded RPC framework: a process adds this crate and becomes a microservice that registers
//! itself, finds others, balances over them and survives their failures, with nothing else
//! installed.
//!
//! A Rust trait is the contract, serde types are the messages, and `curl` is a client.
//!
//! ```no_run
//! #[micro::service]
//! pub trait Greeter {
//!     /// Greets someone by name.
//!     #[rpc(idempotent)]
//!     async fn hello(&self, name: String) -> String;
//! }
//!
//! struct English;
//!
//! impl Greeter for English {
//!     async fn hello(&self, name: String) -> String {
//!         format!("Hello, {name}!")
//!     }
//! }
//!
//! # async fn server() -> micro::Result<()> {
//! micro::Service::new().name("greeter").serve(GreeterServer::new(English)).run().await
//! # }
//!
//! # async fn client() -> Result<(), Box<dyn std::error::Error>> {
//! let client = micro::Client::connect().await?;
//! let greeter = GreeterClient::new(&client);
//! println!("{}", greeter.hello("Ann").await?);
//! # Ok(())
//! # }
//! ```
//!
//! [`Service`] serves contracts and keeps them registered, [`Group`] runs several, [`Client`] finds services and calls them
//! through the generated clients, [`Settings`] is where configuration comes from, [`test`](mod@test)
//! is for tests of what is built on them. What lies below is at [`registry`], [`selector`] and
//! [`rpc`].
//!
//! Contracts written for tarpc are served and called as they are, with `micro::tarpc`.

#![cfg_attr(docsrs, feature(doc_cfg))]

mod advertise;
mod balancing;
mod call;
mod client;
mod context;
mod contract;
pub mod duration;
pub mod dynamic;
mod error;
mod group;
mod health;
mod hooks;
pub mod layer;
mod limiting;
mod meter;
mod method;
mod metrics;
mod mock;
mod mount;
mod open;
#[cfg(feature = "http")]
mod pages;
mod registrar;
mod running;
mod schema;
mod send;
mod service;
mod settings;
mod signals;
mod slips;
mod spans;
mod stopwatch;
#[cfg(feature = "tarpc")]
pub mod tarpc;
#[cfg(feature = "telemetry")]
pub mod telemetry;
pub mod test;

pub use call::{Call, MethodError, Reply};
pub use client::{Client, ClientBuilder};
pub use context::Context;
pub use contract::Contract;
pub use error::{CallError, Error, Phase, Result, RpcError};
pub use group::{Group, RunningGroup};
pub use layer::BoxError;
pub use micro_macros::{RpcError, service};
pub use micro_registry as registry;
pub use micro_rpc as rpc;
pub use micro_rpc::Code;
pub use micro_selector as selector;
pub use micro_selector::{BudgetPolicy, Filter, RetryPolicy as Retry, ThrottlePolicy};
pub use open::schemes;
pub use registrar::Registered;
pub use running::RunningService;
pub use service::Service;
pub use settings::{Origin, Settings};
pub use signals::Signals;
pub use stopwatch::{Stopwatch, Times};

/// What the macros' expansions call; no part of the public API.
#[doc(hidden)]
pub mod __private {
    pub use crate::client::Target;
    pub use crate::contract::{ContractBuilder, MethodInfo, contract};
    pub use crate::error::Portable;
    pub use crate::method::{
        Answer, Argument, Arguments, Method, Returned, ReturnedOther, always_answers, call,
        fallible, infallible,
    };
    pub use crate::mock::Mocked;
}

/// The code in the README compiles.
#[cfg(doctest)]
#[doc = include_str!("../../README.md")]
struct Readme;

/// The code in the guide compiles.
#[cfg(doctest)]
mod guide {
    #[doc = include_str!("../../docs/src/how-to/balancing.md")]
    struct Balancing;
    #[doc = include_str!("../../docs/src/how-to/configuration.md")]
    struct Configuration;
    #[doc = include_str!("../../docs/src/how-to/errors.md")]
    struct Errors;
    #[doc = include_str!("../../docs/src/how-to/layers.md")]
    struct Layers;
    #[doc = include_str!("../../docs/src/how-to/observe.md")]
    struct Observe;
    #[doc = include_str!("../../docs/src/how-to/overload.md")]
    struct Overload;
    #[doc = include_str!("../../docs/src/how-to/testing.md")]
    struct Testing;
}

/// The examples of the macros compile.
#[cfg(doctest)]
mod macros {
    #[doc = include_str!("../../macros/docs/service.md")]
    struct Service;
    #[doc = include_str!("../../macros/docs/rpc_error.md")]
    struct RpcError;
}
