//! The `micro/1` RPC engine: frames, codecs, multiplexed connections and the server's loop.
//!
//! A [`Channel`] calls one node and a [`Server`] answers with the handlers of a [`Router`]; which
//! node is called, and whether a failed call is repeated, is decided above this crate. What an
//! upper layer needs for that is in [`Error`]: did the request leave, and may it have run?
//!
//! ```
//! use micro_rpc::{Channel, ChannelConfig, Codec, MemoryNetwork, Request, Response, Router, Server};
//!
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! let echo = |request: Request| async move { Ok(Response::new(request.codec, request.body)) };
//! let network = MemoryNetwork::new();
//! let listener = network.listen("node")?;
//! let _server = Server::new(Router::new().route("echo", "say", echo))?.start(vec![listener]);
//!
//! let config = ChannelConfig { memory: Some(network), ..ChannelConfig::default() };
//! let channel = Channel::new("memory:node".parse()?, config);
//! let request = Request::new("echo", "say", Codec::Json, Codec::Json.encode("hello")?);
//! assert_eq!(channel.call(&request).await?.body, "\"hello\"");
//! # Ok(())
//! # }
//! # tokio::runtime::Runtime::new().unwrap().block_on(example()).unwrap();
//! ```
//!
//! The protocol is written down in `PROTOCOL.md` at the root of the repository.

#![cfg_attr(docsrs, feature(doc_cfg))]

mod address;
mod client;
mod code;
mod codec;
mod error;
#[cfg(any(fuzzing, test))]
#[doc(hidden)]
pub mod fuzz;
mod limits;
mod metadata;
mod name;
mod outbox;
mod pipe;
mod queued;
mod request;
mod server;
mod status;
mod tally;
mod trace;
mod transport;
#[cfg(feature = "http")]
pub mod web;
mod wire;

pub use address::{Address, InvalidAddress};
pub use client::{Channel, ChannelConfig};
pub use code::{Code, UnknownCode};
pub use codec::{Codec, CodecError};
pub use error::{Error, Execution, Phase};
pub use limits::{InvalidLimit, Limits};
pub use metadata::{InvalidMetadata, Metadata};
pub use name::Name;
pub use queued::QueuedAt;
pub use request::{Criticality, Peer, Request, Response, UnknownCriticality};
#[cfg(feature = "http")]
pub use server::{Asked, HttpBody, HttpService, Page};
pub use server::{
    DuplicateRoute, Handler, MethodStats, Router, Server, ServerConfig, ServerHandle, ServerStats,
    ShutdownReport,
};
pub use status::Status;
pub use tally::{Durations, Tally};
pub use trace::{InvalidTraceparent, TraceContext, TraceId};
pub use transport::{Listener, MemoryNetwork, MemoryStream};
