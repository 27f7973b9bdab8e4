//! HTTP/JSON in front of every service of a registry: whoever can send a request can call a method,
//! and see in a browser what there is.
//!
//! ```no_run
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! let client = micro::Client::connect().await?;
//! let gateway = micro_gateway::serve(micro_gateway::Config::default(), client).await?;
//! println!("http://{}", gateway.address());
//! micro::Signals::listen()?.next().await;
//! gateway.shutdown().await;
//! # Ok(())
//! # }
//! ```
//!
//! What it answers:
//!
//! | request | answer |
//! |---|---|
//! | `POST /{service}/{method}`, `POST /{service}/{contract}/{method}` | the method, in JSON |
//! | `GET` of the same, arguments in the query | the method, if it is idempotent |
//! | `GET /openapi.json`, `/docs` | what can be called now, for programs and for people |
//! | `GET /services`, `/events`, `/` | who is there, as a list, as it changes, and as a page |
//! | `GET /describe?service=NAME` | what the versions of a service say about themselves |
//! | `GET /metrics` | figures of its calls, in OpenMetrics |
//! | `GET /health/live`, `/health/ready` | whether it runs, and whether it knows the registry |
//!
//! Status codes, errors and the headers of a call are those of a service's own port, as
//! `PROTOCOL.md` says in §8. A header `micro-version` says which versions a call may go to.

#![cfg_attr(docsrs, feature(doc_cfg))]

mod access;
mod answer;
mod body;
mod call;
mod catalogue;
mod config;
mod connection;
mod cors;
mod events;
mod figures;
mod follow;
mod interface;
mod look;
mod openapi;
mod page;
mod serve;
mod target;

pub use access::{Access, Asked, Called, Rule};
pub use config::{Config, Invalid};
pub use openapi::openapi;
pub use serve::{Error, Gateway, serve};

/// The code in the guide compiles.
#[cfg(doctest)]
#[doc = include_str!("../../docs/src/how-to/gateway.md")]
struct Guide;
