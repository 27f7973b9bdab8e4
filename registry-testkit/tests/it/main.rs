//! The suite on the backends that need no engine, and on backends broken on purpose.

#![allow(clippy::unwrap_used, reason = "helpers of tests are tests")]

mod backends;
mod directory;
mod engine;
mod mutant;
mod mutants;
mod running;
