//! How mutants watch.

use std::sync::Arc;

use futures::StreamExt;
use micro_registry::{
    EmptyReason, Error, Registration, Registry, RemoveReason, Scope, Update, Watch, WatchSender,
};

use super::store::{Store, key};
use super::{Flaw, GAP, Mutant};

impl Mutant {
    /// Passes on what the inner watch tells, except for the flaw.
    pub(super) fn forward(&self, scope: Scope, mut inner: Watch) -> Watch {
        let (sender, watch) = Watch::channel(scope);
        let (flaw, store) = (self.flaw, self.store.clone());
        self.feed(async move {
            let mut is_away = false;
            while let Some(mut update) = next(&mut inner, &sender, flaw).await {
                is_away |= matches!(update, Update::Stale { .. });
                match flaw {
                    Flaw::EndsOnOutage if is_away => return,
                    Flaw::NeverComesBack if is_away && !is_stale(&update) => continue,
                    Flaw::HidesOutages if is_stale(&update) => continue,
                    Flaw::HidesExpiry if is_expiry(&update) => continue,
                    Flaw::Overflows if is_too_much(&store, &update) => continue,
                    _ => {}
                }
                misquote(flaw, &mut update);
                sender.send(&update);
            }
        });
        watch
    }

    /// What happens between reading and watching is lost.
    pub(super) async fn watch_with_a_gap(
        &self,
        scope: Scope,
        mut read: Watch,
    ) -> Result<Watch, Error> {
        let first = read.next().await;
        let Some(first @ Update::Reset { .. }) = first else {
            return self.inner.watch(scope).await;
        };
        tokio::time::sleep(GAP).await;
        let mut inner = self.inner.watch(scope.clone()).await?;
        inner.next().await;
        let (sender, watch) = Watch::channel(scope);
        sender.send(&first);
        self.feed(async move {
            while let Some(update) = next(&mut inner, &sender, Flaw::None).await {
                sender.send(&update);
            }
        });
        Ok(watch)
    }

    /// After the reset comes what was before it.
    pub(super) fn replay(&self, scope: Scope, mut inner: Watch) -> Watch {
        let (sender, watch) = Watch::channel(scope);
        let store = self.store.clone();
        self.feed(async move {
            while let Some(update) = next(&mut inner, &sender, Flaw::None).await {
                sender.send(&update);
                if let Update::Reset { registrations, .. } = &update {
                    for known in registrations.iter().filter_map(|r| store.known(&key(r))) {
                        sender.send(&Update::Put(Arc::new(known.first)));
                    }
                }
            }
        });
        watch
    }

    /// Feeds a watch for as long as the handle is there.
    fn feed(&self, feed: impl Future<Output = ()> + Send + 'static) {
        let counted = self.store.watches.clone();
        self.tasks.lock().unwrap().spawn(async move {
            feed.await;
            drop(counted);
        });
    }
}

/// The next update, until nobody is interested; one that leaks does not notice.
async fn next(inner: &mut Watch, sender: &WatchSender, flaw: Flaw) -> Option<Update> {
    tokio::select! {
        () = sender.closed(), if flaw != Flaw::LeaksTheWatch => None,
        update = inner.next() => update,
    }
}

fn misquote(flaw: Flaw, update: &mut Update) {
    match (flaw, update) {
        (Flaw::CallsExpiryGoodbye, Update::Remove { reason, .. }) => {
            *reason = RemoveReason::Deregistered;
        }
        (Flaw::GivesNoReason, Update::Remove { reason, .. }) => *reason = RemoveReason::Unknown,
        (Flaw::CallsAllEmptyNeverSeen, Update::Reset { empty: Some(reason), .. }) => {
            *reason = EmptyReason::NeverSeen;
        }
        _ => {}
    }
}

fn is_stale(update: &Update) -> bool {
    matches!(update, Update::Stale { .. })
}

fn is_expiry(update: &Update) -> bool {
    matches!(update, Update::Remove { reason: RemoveReason::Expired, .. })
}

fn is_too_much(store: &Store, update: &Update) -> bool {
    let writes = |r: &Registration| store.known(&key(r)).map_or(0, |known| known.writes);
    matches!(update, Update::Put(registration) if writes(registration) > 150)
}
