//! Which node gets this attempt.
//!
//! A [`Selector`] keeps, for each service that is called, an immutable [snapshot](Snapshot) of its
//! nodes, fed by the registry's watch. A call reads that snapshot, lets a [`Strategy`] pick a node
//! it has not tried, and is repeated by [class of failure](Class) within a [policy](RetryPolicy)
//! and a [budget](Budget). Nothing of the registry stands on a call's path: no lock, no round trip.
//!
//! The selector does not know how a node is called. It is generic over `T`, what is kept per node
//! (a connection, say), made when a node appears and dropped when it leaves.

mod balance;
mod budget;
mod cache;
mod candidates;
mod retry;
mod selector;
mod snapshot;
mod strategy;
mod subscription;

pub use balance::{Balance, Policy};
pub use budget::Budget;
pub use candidates::{Candidates, Tried};
pub use retry::{Class, Classify, Decision, RetryPolicy};
pub use selector::{Selector, SelectorConfig};
pub use snapshot::{Member, NodeStats, Snapshot};
pub use strategy::{LeastLoaded, Random, RoundRobin, Strategy, StrategyKind, UnknownStrategy};
pub use subscription::{Attempt, Attempted, CallOptions, Failure, Subscription};
