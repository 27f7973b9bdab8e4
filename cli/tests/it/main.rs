//! The program as people run it, against services of this test over a registry and sockets that are
//! real.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod bench;
mod calls;
mod cases;
mod completions;
mod doctor;
mod gateway;
mod new;
mod readme;
mod registries;
mod shapes;
mod shop;
mod top;
mod watching;
