//! Real servers and clients that meet the faults which can only be had with real processes.
//!
//! A [`stage`] starts servers and callers as processes of the program and hurts them. A [`server`]
//! waits rather than computes: its workers are slots, so its capacity is known, and what is measured
//! is not the load generator. A [`caller`] calls as it is told and keeps every call and every
//! attempt, which the stage puts together as one [`record`]. [`goals`] has the scenarios.

pub mod caller;
pub mod clock;
pub mod goals;
pub mod record;
pub mod registry;
pub mod server;
pub mod stage;

use std::num::NonZeroU32;
use std::time::Duration;

use clap::Args;

use crate::process::seconds;

/// How large a scenario is, and how long.
#[derive(Args, Clone, Debug)]
pub struct Setup {
    /// Server processes.
    #[arg(long, default_value = "10", value_parser = clap::value_parser!(u32).range(2..=100))]
    pub servers: u32,
    /// Client processes, which share nothing.
    #[arg(long, default_value = "20", value_parser = clap::value_parser!(u32).range(1..=200))]
    pub clients: u32,
    /// Calls each server works on at once; others wait for a worker.
    #[arg(long, default_value = "8")]
    pub workers: NonZeroU32,
    /// How long a call works in the mean, exponentially distributed, in seconds.
    #[arg(long, default_value = "0.02", value_parser = seconds)]
    pub demand: Duration,
    /// Length of a measured window, in seconds.
    #[arg(long, default_value = "10", value_parser = seconds)]
    pub seconds: Duration,
    /// How long calls are made before anything is measured or hurt, in seconds.
    #[arg(long, default_value = "5", value_parser = seconds)]
    pub warm_up: Duration,
    /// How long the registry stays away in G11, in minutes. The goal says 10.
    #[arg(long, default_value = "1")]
    pub minutes: f64,
    /// Where servers register.
    #[arg(long, default_value = "local:")]
    pub registry: registry::Kind,
}

impl Setup {
    /// Calls per second that one server can work on.
    pub fn capacity_of_one(&self) -> f64 {
        f64::from(self.workers.get()) / self.demand.as_secs_f64()
    }

    /// Calls per second that all servers together can work on.
    pub fn capacity(&self) -> f64 {
        f64::from(self.servers) * self.capacity_of_one()
    }
}
