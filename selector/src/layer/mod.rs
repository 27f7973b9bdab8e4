//! Tower layers, for any service and any request: balance, retry, ejection, throttle, limit, deadline,
//! load shed.
//!
//! None of them needs the rest of this project. Where there is a registry, its nodes are balanced
//! over with [`Balance::new`]; where there is none, [`Balance::discover`] takes whatever names them.
//!
//! # What to put where
//!
//! ```text
//!  calls, outside in                            why there
//!
//!  DeadlineLayer::new     the caller's          ends everything behind it, waits between attempts
//!    ┆                                          included
//!  LoadShedLayer          at most n calls       a call holds its place through all its attempts
//!    ┆
//!  RetryLayer             attempts              each attempt passes what is behind it
//!    ┆
//!  ThrottleLayer          of all nodes          counts attempts; what it ends is not repeated
//!    ┆
//!  Balance                picks, ejects         right behind retries, or with anything between that
//!    ┆                                          stays in the call's task: no `Buffer`
//!  DeadlineLayer::within  of one node           a node that hangs fails the attempt, which counts
//!    ┆                                          against it, and is tried elsewhere
//!  the node's service
//! ```
//!
//! Around a service that stands alone, [`EjectionLayer`] takes the place of `Balance`, which ejects
//! its nodes itself: one would not see what the other does. On a server there are two:
//!
//! ```text
//!  DeadlineLayer::new     refuses what came too late, and ends what nobody waits for
//!    ┆
//!  LimitLayer             sends away at once what is too much, by how long calls take
//!    ┆
//!  the handler
//! ```
//!
//! # What they have in common
//!
//! - They are `Clone`, and always ready: whatever is behind a layer is waited for by the future of
//!   the call, with a clone of its own. None spawns a task, and nothing needs a `Buffer`.
//! - What a layer counts belongs to the service that [`layer`](tower::Layer::layer) made and is
//!   shared by its clones; another call of `layer` makes another.
//! - A call that is dropped or panics gives back what it held.
//! - Errors are typed, [`Error`] mostly, and know their [`Class`](crate::Class): it decides on
//!   retries, and on what counts against a node. Give a class to errors of others with
//!   [`Classified`] and `map_err`.
//!
//! | what ends a call | class | so retries |
//! |---|---|---|
//! | [`Full`](load_shed::Full) | `Refused` | repeat it |
//! | [`Overloaded`](limit::Overloaded) | `Overloaded` | repeat it within the budget |
//! | [`Ejected`](ejection::Ejected) | `NotSent` behind a balancer | repeat it elsewhere |
//! | | `Unsent` where retries would come here again | leave it |
//! | [`Throttled`](throttle::Throttled) | `Unsent` | leave it |
//! | [`Missed::Before`](deadline::Missed::Before) | `Unsent` | leave it |
//! | [`Missed::During`](deadline::Missed::During) | `MaybeExecuted` | repeat it if it is idempotent |
//! | no node, of [`Balance`] | `Unsent` | leave it |
//!
//! # Defaults
//!
//! | of | what | from |
//! |---|---|---|
//! | [`Balance`] | `ewma` of 5 choices; ejection, probes, slow start as over a registry | [`Picker`](crate::Picker) |
//! | [`RetryLayer`] | 3 attempts; 25 ms × 2ⁿ up to 250 ms, drawn from zero on | [`RetryPolicy`](crate::RetryPolicy) |
//! | | a budget of 20 % of the calls and 10 a second | [`BudgetPolicy`](crate::BudgetPolicy): Finagle, `RetryBudget` |
//! | [`EjectionLayer`] | 5 failures in a row, or < 80 % answered over 5 to 10 s of ≥ 10 calls | [`EjectionPolicy`](crate::EjectionPolicy): Envoy, outlier detection |
//! | | out for 1 s × 2ⁿ up to 60 s, ± 25 %, then one probe | gRFC A50, Finagle's `FailFast` |
//! | [`ThrottleLayer`] | K = 1.7 over 1 s, from 10 calls, at most 90 % | [`ThrottlePolicy`](crate::ThrottlePolicy): Google's SRE book, with our figures |
//! | [`LimitLayer`] | 32 to 65 536 calls; fewer when they take > 2 × as long as when few run, and > 20 ms | [`limit::Config`]: Netflix's `Gradient2Limit` |
//! | [`DeadlineLayer`], [`LoadShedLayer`] | none: only you know | |
//!
//! # Examples
//!
//! Nodes whose errors are `io::Error`, named by a stream; `examples/layers.rs` of this crate is the
//! same over TCP.
//!
//! ```
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() {
//! use std::{convert::Infallible, io, time::Duration};
//! use futures::stream;
//! use micro_selector::layer::{Balance, Classified, DeadlineLayer, RetryLayer, ThrottleLayer};
//! use micro_selector::{Class, StrategyKind};
//! use tower::discover::Change;
//! use tower::{ServiceBuilder, ServiceExt, service_fn};
//!
//! let node = |id: &'static str| {
//!     let ask = service_fn(move |name: &'static str| async move {
//!         if id == "down" {
//!             return Err(io::Error::from(io::ErrorKind::ConnectionRefused));
//!         }
//!         Ok(format!("Hello, {name}!"))
//!     });
//!     let classified = |error: io::Error| match error.kind() {
//!         io::ErrorKind::ConnectionRefused => Classified::new(Class::NotSent, error),
//!         _ => Classified::new(Class::MaybeExecuted, error),
//!     };
//!     ServiceBuilder::new()
//!         .layer(DeadlineLayer::within(Duration::from_secs(1)))
//!         .map_err(classified)
//!         .service(ask)
//! };
//! let changes = ["up", "down"].map(|id| Ok::<_, Infallible>(Change::Insert(id, node(id))));
//! let greet = ServiceBuilder::new()
//!     .layer(RetryLayer::new(|_| true))
//!     .layer(ThrottleLayer::new())
//!     .service(Balance::discover(stream::iter(changes), &StrategyKind::default()));
//! for _ in 0..100 {
//!     assert_eq!(greet.clone().oneshot("Ann").await.unwrap(), "Hello, Ann!");
//! }
//! # }
//! ```

pub mod balance;
pub mod deadline;
pub mod ejection;
mod error;
mod gate;
pub mod limit;
pub mod load_shed;
pub mod retry;
mod round;
pub mod throttle;

pub use balance::Balance;
pub use deadline::{Deadline, DeadlineLayer};
pub use ejection::{Ejection, EjectionLayer};
pub use error::{Classified, Error};
pub use limit::{Limit, LimitLayer};
pub use load_shed::{LoadShed, LoadShedLayer};
pub use retry::{Retry, RetryLayer};
pub use throttle::{Throttle, ThrottleLayer};
