//! Which node gets this attempt.
//!
//! A [`Selector`] keeps, for each service that is called, an immutable [snapshot](Snapshot) of its
//! nodes, fed by the registry's watch. A call reads that snapshot, lets a [`Strategy`] pick a node
//! it has not tried, and is repeated by [class of failure](Class) within a [policy](RetryPolicy)
//! and a [budget](Budget). Nothing of the registry stands on a call's path: no lock, no round trip.
//!
//! The selector does not know how a node is called. It is generic over `T`, what is kept per node
//! (a connection, say), made when a node appears and dropped when it leaves.
//!
//! ```
//! use std::{sync::Arc, time::Duration};
//! use micro_registry::{MemoryRegistry, Node, Registration, Registry};
//! use micro_selector::{Attempt, CallOptions, Class, Classify, Selector, SelectorConfig};
//! use tokio::time::Instant;
//!
//! /// Asks the node for its address, which this selector keeps.
//! struct Ask;
//!
//! impl Attempt<String> for Ask {
//!     type Response = String;
//!     type Error = Broken;
//!     async fn make(&mut self, address: &String, _: u32, _: Instant) -> Result<String, Broken> {
//!         if address.starts_with("10.0.0.1") { Err(Broken) } else { Ok(address.clone()) }
//!     }
//! }
//!
//! #[derive(Debug)]
//! struct Broken;
//!
//! impl Classify for Broken {
//!     fn class(&self) -> Class {
//!         Class::NotSent
//!     }
//! }
//!
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! let registry = MemoryRegistry::new();
//! for (id, address) in [("a", "10.0.0.1:7000"), ("b", "10.0.0.2:7000")] {
//!     let registration = Registration::new("greeter", "1.0.0", Node::new(id, address));
//!     registry.register(&registration, Duration::from_secs(30)).await?;
//! }
//! let keep = |node: &Registration| Ok(node.node.address.clone());
//! let selector = Selector::new(Arc::new(registry), SelectorConfig::default(), keep);
//! let greeter = selector.subscribe("greeter")?;
//! let answer = greeter.call(&CallOptions::default(), &mut Ask).await.expect("b answers");
//! assert_eq!(answer.response, "10.0.0.2:7000");
//! # Ok(())
//! # }
//! # tokio::runtime::Runtime::new().unwrap().block_on(example()).unwrap();
//! ```

#![cfg_attr(docsrs, feature(doc_cfg))]

mod atomic;
mod attempts;
mod budget;
mod cache;
mod candidates;
mod cost;
mod discovery;
mod ejection;
mod failure;
mod filter;
mod hash;
#[cfg(test)]
mod interleave;
mod invalid;
pub mod layer;
mod methods;
mod moment;
mod node;
mod peers;
mod picker;
mod retry;
mod selector;
mod snapshot;
mod stats;
mod strategy;
mod subscription;
mod throttle;

pub use budget::{Budget, BudgetPolicy};
pub use cache::{Cache, Change};
pub use candidates::{Candidates, Tried};
pub use ejection::EjectionPolicy;
pub use failure::{Attempted, Failure};
pub use filter::Filter;
pub use hash::of as hash;
pub use invalid::Invalid;
pub use node::{Member, NodeStats};
pub use picker::{Avoid, Picked, Picker};
pub use retry::{Class, Classify, Decision, RetryPolicy};
pub use selector::{Selector, SelectorConfig};
pub use snapshot::Snapshot;
pub use stats::Stats;
pub use strategy::{
    ConsistentHash, Ewma, LeastLoaded, Random, RoundRobin, Strategy, StrategyKind, UnknownStrategy,
    Weighted,
};
pub use subscription::{Answered, Attempt, CallOptions, Subscription};
pub use throttle::{Throttle, ThrottlePolicy};
