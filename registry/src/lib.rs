//! What a registry is.
//!
//! A registry knows which instances of which service exist right now. This crate holds what all
//! registries share: the [model](Registration), the [`Registry`] trait with its contract, the
//! [updates](Update) a watch delivers, the [view](View) that applies and compares them, the
//! [validation](validate) of what is registered, the [stored form](encoding), what
//! [feeds](feed) watches, the registry on top of any engine of [leased keys](directory), and two
//! backends that need no engine: [`MemoryRegistry`] for tests and single processes,
//! [`StaticRegistry`] for a fixed list of nodes.
//!
//! It knows no socket and no engine; a backend is a crate that depends on this one alone.
//!
//! ```
//! use micro_registry::{MemoryRegistry, Node, Registration, Registry};
//! use std::time::Duration;
//!
//! # async fn example() -> Result<(), micro_registry::Error> {
//! let registry = MemoryRegistry::new();
//! let node = Node::new("greeter-1", "127.0.0.1:7000");
//! let registration = Registration::new("greeter", "1.0.0", node);
//!
//! registry.register(&registration, Duration::from_secs(30)).await?;
//! let services = registry.get("greeter").await?;
//! assert_eq!(services[0].nodes[0].address, "127.0.0.1:7000");
//! # Ok(())
//! # }
//! # tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(example()).unwrap();
//! ```

#![cfg_attr(docsrs, feature(doc_cfg))]

pub mod directory;
mod emptied;
pub mod encoding;
mod error;
pub mod feed;
mod fixed;
mod memory;
mod model;
mod registry;
mod skipped;
mod update;
mod url;
pub mod validate;
mod view;
mod watch;

pub use emptied::Emptied;
pub use error::{Error, ErrorKind};
pub use fixed::StaticRegistry;
pub use memory::MemoryRegistry;
pub use model::{
    Endpoint, Endpoints, Metadata, Node, NodeState, Registration, Service, ServiceSummary,
};
pub use registry::{DEFAULT_NAMESPACE, Registry};
pub use skipped::Skipped;
pub use update::{EmptyReason, RemoveReason, Update};
pub use url::RegistryUrl;
pub use view::View;
pub use watch::{Scope, Watch, WatchSender};
