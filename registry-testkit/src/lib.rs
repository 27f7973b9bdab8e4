//! The conformance suite of micro registries: the same cases for every backend, ours or yours.
//!
//! What a registry must do is written down in fourteen [lines](Line). A *case* shows one of them on
//! a store of its own, on a runtime of its own; the suite runs all cases and says which line is
//! broken, by which case, and what happened:
//!
//! ```text
//! contract line 3 (deregister removes exactly this node with this epoch, and is Ok when it is
//! gone) broken by case "deregister_leaves_the_successor": epoch 1 said goodbye, epoch 2 left: …
//! ```
//!
//! # Judging a backend
//!
//! Depend on this crate for tests, say how a fresh store is opened, and run the [`suite`] in one
//! test:
//!
//! ```
//! use std::sync::Arc;
//! use std::time::Duration;
//!
//! use async_trait::async_trait;
//! use micro_registry::{MemoryRegistry, Registry};
//! use micro_registry_testkit::{Backend, Faults, Profile, Unsupported, suite};
//!
//! /// The store of one case: here a registry in memory, for you a server, or a part of one.
//! struct Store(MemoryRegistry);
//!
//! #[async_trait]
//! impl Backend for Store {
//!     async fn open(&self, _namespace: &str) -> Arc<dyn Registry> {
//!         Arc::new(self.0.clone())
//!     }
//!
//!     fn faults(&self) -> Option<&dyn Faults> {
//!         Some(self)
//!     }
//! }
//!
//! /// What can be done to it; what is left out is skipped.
//! #[async_trait]
//! impl Faults for Store {
//!     async fn interrupt(&self) -> Result<(), Unsupported> {
//!         self.0.interrupt("by the test");
//!         Ok(())
//!     }
//!
//!     async fn restore(&self) -> Result<(), Unsupported> {
//!         self.0.restore();
//!         Ok(())
//!     }
//! }
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() {
//! let mut profile = Profile::default();
//! profile.namespaces = false;
//! profile.min_ttl = Duration::from_millis(300);
//! # profile.max_nodes = 100;
//!
//! // In a `#[tokio::test]`:
//! suite(async || Store(MemoryRegistry::new()), profile).await;
//! # }
//! ```
//!
//! # Asking for less
//!
//! The default [`Profile`] is the whole contract. A backend that keeps less of it says so there:
//! the report begins with what is weaker and lists what was skipped, each with its reason. A fault
//! that cannot be made to happen skips its cases in the same way.
//!
//! # Waiting
//!
//! A backend has tests of its own as well; [`wait`](mod@wait) is what they wait with.
//!
//! # Looking at one case
//!
//! [`Suite::only`] runs the cases whose names contain a text, and returns the [`Report`] instead of
//! a panic. The names, the lines and how long each took are in every report; no case fails for being
//! slow, unless something did not happen at all within [`Profile::settle`].
//!
//! ```
//! # use micro_registry_testkit::{Backend, Profile, Suite};
//! # async fn example<B: Backend>(make: impl AsyncFn() -> B + Send + Sync + 'static) {
//! let report = Suite::new(Profile::default()).only("prefix").run(make).await;
//! println!("{report}");
//! # }
//! ```

#![cfg_attr(docsrs, feature(doc_cfg))]

mod backend;
mod cases;
mod follower;
mod line;
mod profile;
mod report;
mod sample;
mod stage;
mod suite;
pub mod wait;

pub use backend::{Backend, Faults, Unsupported};
pub use line::Line;
pub use profile::{Fencing, Profile};
pub use report::{CaseReport, Outcome, Report};
pub use sample::fixture;
pub use suite::{Suite, suite};
