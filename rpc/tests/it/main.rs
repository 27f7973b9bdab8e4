//! The engine as its users and its peers see it: real connections, real bytes.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod calls;
mod connections;
mod drain;
mod failures;
mod hostile;
#[cfg(feature = "http")]
mod http;
mod log;
#[cfg(feature = "http")]
mod mount;
mod overload;
mod stats;
mod support;
