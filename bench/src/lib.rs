//! Compares RPC engines in one interleaved run of separate processes, and balancing policies in
//! [simulated time](simulation) and [real processes](scenarios).
//!
//! Every contender of [`contender`] echoes the same payload over TCP on the loopback interface.
//! For each cell (a [`role::Load`]) a server process and a client process are started, warmed up and
//! measured ([`process`], [`role`], [`measure`]); the contenders take turns, so that a change of the
//! machine's mood meets all of them; [`report`] has medians over the repetitions, [`goals`] what
//! they are to be, and [`pictures`] shows them.
//!
//! On few cores the numbers depend on whether the kernel puts the two processes on one core or on
//! two: a wake-up across cores of a virtual machine can cost more than the call. A wide range
//! between the slowest and the fastest repetition shows it. A load on one core takes this choice
//! away; tokio then starts one worker.

pub mod allocations;
pub mod child;
pub mod contender;
pub mod goals;
pub mod measure;
pub mod payload;
pub mod pictures;
pub mod process;
pub mod report;
pub mod role;
pub mod rows;
pub mod scenarios;
pub mod simulation;
