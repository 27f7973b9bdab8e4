//! Whether a node is in the registry, as others see it.

use std::future::pending;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use futures::{FutureExt, StreamExt};
use micro_registry::{Registration, Registry, RemoveReason, Scope, Update, View, Watch};
use tokio::time::{Instant, sleep_until};

/// Watches one node, and notices that it is missed.
#[derive(Debug)]
pub(super) struct Presence {
    registry: Arc<dyn Registry>,
    registration: Registration,
    /// Opened when it is asked for, and again once it ended.
    watch: Option<Watch>,
    view: View,
    seen: Seen,
}

/// What was told of the node.
#[derive(Clone, Copy, Debug)]
enum Seen {
    /// Nothing yet.
    Awaited,
    There,
    /// It is not there: it left for this reason, or the first that was told was without it.
    Gone(Option<RemoveReason>),
    /// Nothing since it was missed. A registry that does not show it cannot lose it.
    Hidden,
}

impl Presence {
    pub(super) fn new(registry: Arc<dyn Registry>, registration: Registration) -> Self {
        Self { registry, registration, watch: None, view: View::new(), seen: Seen::Awaited }
    }

    /// Waits until the node is missed, a second after `tried` at the earliest, in which it may come
    /// back; says why it left if it was there. Without an answer where the registry tells nothing.
    ///
    /// # Cancel safety
    ///
    /// Cancel-safe: what was told is kept.
    pub(super) async fn missed(&mut self, tried: Instant) -> Option<RemoveReason> {
        match AssertUnwindSafe(self.until_missed(tried)).catch_unwind().await {
            Ok(reason) => reason,
            Err(_) => {
                tracing::error!("the registry panicked while it was watched");
                self.watch = None;
                pending().await
            }
        }
    }

    async fn until_missed(&mut self, tried: Instant) -> Option<RemoveReason> {
        loop {
            let Seen::Gone(reason) = self.seen else {
                let update = self.next().await;
                self.take_in(&update);
                continue;
            };
            tokio::select! {
                // First, as it may be there again.
                biased;
                update = self.next() => self.take_in(&update),
                () = sleep_until(tried + PAUSE) => {
                    self.seen = Seen::Hidden;
                    return reason;
                }
            }
        }
    }

    async fn next(&mut self) -> Update {
        if self.watch.is_none() {
            self.watch = self.registry.watch(Scope::node(&self.registration)).await.ok();
        }
        if let Some(watch) = &mut self.watch
            && let Some(update) = watch.next().await
        {
            return update;
        }
        self.watch = None;
        pending().await
    }

    fn take_in(&mut self, update: &Update) {
        self.view.apply(update);
        let (service, node) = (&self.registration.service, &self.registration.node);
        let found = self.view.node(service, &node.id);
        // A newer one has its place, and is not fought.
        let is_there = found.is_some_and(|found| found.node.epoch >= node.epoch);
        self.seen = match (self.seen, update) {
            _ if is_there => Seen::There,
            (Seen::There, Update::Remove { reason, .. }) => Seen::Gone(Some(*reason)),
            (Seen::There, _) => Seen::Gone(Some(RemoveReason::Unknown)),
            (Seen::Awaited, Update::Reset { .. }) => Seen::Gone(None),
            (seen, _) => seen,
        };
    }
}

/// How long at least from one attempt to the next, so that a registry that drops whatever it is told
/// is not hammered.
const PAUSE: Duration = Duration::from_secs(1);
