//! Peers that are wrong, slow or malicious: what they cost, and whom.

mod client;
#[cfg(target_os = "linux")]
mod memory;
mod node;
mod slow;
#[cfg(feature = "http")]
mod web;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use micro_rpc::{Channel, ServerHandle};
use tokio::task::JoinHandle;

use crate::support::*;

/// Somebody who calls all the time, on a connection that stays the same, and notices nothing.
struct Bystander {
    stop: Arc<AtomicBool>,
    calling: JoinHandle<usize>,
}

impl Bystander {
    async fn of(server: &ServerHandle) -> Self {
        let channel = channel(server);
        assert_works(&channel).await;
        let stop = Arc::new(AtomicBool::new(false));
        let calling = tokio::spawn(Self::call(channel, Arc::clone(&stop)));
        Self { stop, calling }
    }

    async fn call(channel: Channel, stop: Arc<AtomicBool>) -> usize {
        let mut calls = 0;
        while !stop.load(Ordering::Relaxed) {
            assert_works(&channel).await;
            calls += 1;
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        calls
    }

    /// Asserts that every call was answered.
    async fn noticed_nothing(self) {
        self.stop.store(true, Ordering::Relaxed);
        assert!(self.calling.await.unwrap() > 0, "it called");
    }
}
