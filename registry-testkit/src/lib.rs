//! The conformance suite of micro registries.

mod backend;
mod cases;
mod follower;
mod line;
mod profile;
mod report;
mod sample;
mod stage;
mod suite;

pub use backend::{Backend, Faults, Unsupported};
pub use line::Line;
pub use profile::{Fencing, Profile};
pub use report::{CaseReport, Outcome, Report};
pub use sample::fixture;
pub use suite::{Suite, suite};
