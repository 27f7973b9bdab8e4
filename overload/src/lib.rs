//! How many calls may run at once, learned from how long they take.
//!
//! Something that gets more to do than it can do is slow with all of it, and what comes out late is
//! of no use to anybody. A [`Limiter`] bounds how many calls run at once: it begins with as many as
//! allowed, allows fewer while calls take much longer than they do when few run, and more again as
//! soon as they do not. What finds no place is for whoever asks: refused, or told to wait.
//!
//! ```
//! use std::sync::Arc;
//! use micro_overload::{Config, Limiter};
//!
//! # async fn work() {}
//! # async fn example() -> Result<(), &'static str> {
//! let limiter = Arc::new(Limiter::new(&Config { max: 100, ..Config::default() }, 1));
//! // For each call, of the first and only kind there is here:
//! let permit = limiter.try_acquire(0).ok_or("too much to do")?;
//! work().await;
//! permit.finish();
//! # Ok(())
//! # }
//! # tokio::runtime::Runtime::new().unwrap().block_on(example()).unwrap();
//! ```
//!
//! A limiter has no task, no queue and no lock that anybody waits for: whoever ends a call moves the
//! limit when it is time. Its clock is tokio's, so that tests may pause it.

#![cfg_attr(docsrs, feature(doc_cfg))]

mod gradient;
mod latency;
mod limiter;
#[cfg(test)]
mod simulation;

pub use limiter::{Config, End, Limiter, Permit};
