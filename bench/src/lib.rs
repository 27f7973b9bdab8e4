//! Compares RPC engines in one interleaved run of separate processes, and balancing policies in
//! [simulated time](simulation) and [real processes](scenarios).
//!
//! Every contender of [`contender`] echoes the same payload over TCP on the loopback interface.
//! For each cell (a number of calls in flight) a server process and a client process are started,
//! warmed up and measured ([`process`], [`measure`]); the contenders take turns, so that a change
//! of the machine's mood meets all of them; [`report`] prints medians over the repetitions.
//!
//! On few cores the numbers depend on whether the kernel puts the two processes on one core or on
//! two: a wake-up across cores of a virtual machine can cost more than the call. A wide range
//! between the slowest and the fastest repetition shows it. Fixing the affinity of the whole
//! comparison (`taskset -c 0`) takes this choice away; tokio then starts as many workers as there
//! are cores left.

pub mod allocations;
pub mod child;
pub mod contender;
pub mod measure;
pub mod payload;
pub mod process;
pub mod report;
pub mod role;
pub mod rows;
pub mod scenarios;
pub mod simulation;
