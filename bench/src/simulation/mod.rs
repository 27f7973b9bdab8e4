//! Calls, clients and nodes in simulated time, driven by the very code that serves real calls.
//!
//! A discrete-event simulation: [`world`] has the clients and their calls, [`server`] the nodes,
//! [`policy`] what is compared: our [`Picker`](micro::selector::Picker) with its node health,
//! retries, budget and throttle, three textbook policies, and an oracle that knows the state of
//! every node. [`goals`] has the scenarios. Everything random comes from a seed, so a run can be
//! repeated; the demand of each call is the same for all policies of a seed.

pub mod goals;
pub mod policy;
pub mod server;
pub mod tiers;
pub mod world;

/// Simulated nanoseconds since the start.
pub type Nanos = u64;

/// A millisecond.
pub const MS: Nanos = 1_000_000;
/// A second.
pub const S: Nanos = 1_000 * MS;
