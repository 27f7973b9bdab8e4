//! How mutants watch.

use std::collections::HashSet;
use std::sync::Arc;

use futures::StreamExt;
use micro_registry::{
    EmptyReason, Error, Registration, Registry, RemoveReason, Scope, Update, View, Watch,
    WatchSender,
};

use super::store::{Store, key};
use super::{Flaw, GAP, Mutant};

impl Mutant {
    /// Passes on what the inner watch tells, except for the flaw.
    pub(super) fn forward(&self, scope: Scope, inner: Watch) -> Watch {
        let (sender, watch) = Watch::channel(scope);
        let counted = self.store.watches.clone();
        let watches = Arc::strong_count(&counted) - 1;
        let feed = Feed {
            flaw: self.flaw,
            store: self.store.clone(),
            inner,
            sender,
            view: View::new(),
            at_first: HashSet::new(),
            is_away: false,
            is_late: watches > 1,
            is_one_of_many: watches > 40,
        };
        self.tasks.lock().unwrap().spawn(async move {
            feed.run().await;
            drop(counted);
        });
        watch
    }

    /// What happens between reading and watching is lost.
    pub(super) async fn watch_with_a_gap(
        &self,
        scope: Scope,
        mut read: Watch,
    ) -> Result<Watch, Error> {
        let Some(first @ Update::Reset { .. }) = read.next().await else {
            return Ok(self.forward(scope.clone(), self.inner.watch(scope).await?));
        };
        tokio::time::sleep(GAP).await;
        let mut inner = self.inner.watch(scope.clone()).await?;
        inner.next().await;
        let (glue, glued) = Watch::channel(scope.clone());
        glue.send(&first);
        let watch = self.forward(scope, glued);
        self.tasks.lock().unwrap().spawn(async move {
            while let Some(update) = next(&mut inner, &glue).await {
                glue.send(&update);
            }
        });
        Ok(watch)
    }
}

/// Feeds one watch.
struct Feed {
    flaw: Flaw,
    store: Arc<Store>,
    inner: Watch,
    sender: WatchSender,
    view: View,
    /// The services there were at first.
    at_first: HashSet<String>,
    is_away: bool,
    is_late: bool,
    is_one_of_many: bool,
}

impl Feed {
    async fn run(mut self) {
        while let Some(mut update) = self.next().await {
            self.is_away |= matches!(update, Update::Stale { .. });
            if self.flaw == Flaw::EndsOnOutage && self.is_away {
                return;
            }
            self.view.apply(&update);
            if self.is_lost(&update) {
                continue;
            }
            let rest = self.distort(&mut update);
            self.sender.send(&update);
            if !rest.is_empty() {
                tokio::time::sleep(GAP * 10).await;
            }
            for update in &rest {
                self.sender.send(update);
            }
        }
    }

    /// The next update, until nobody is interested; one that leaks does not notice.
    async fn next(&mut self) -> Option<Update> {
        match self.flaw {
            Flaw::LeaksTheWatch => self.inner.next().await,
            _ => next(&mut self.inner, &self.sender).await,
        }
    }

    fn is_lost(&self, update: &Update) -> bool {
        match (self.flaw, update) {
            (Flaw::NeverComesBack, Update::Stale { .. }) => false,
            (Flaw::NeverComesBack, _) => self.is_away,
            (Flaw::HidesOutages, Update::Stale { .. }) => true,
            (Flaw::HidesExpiry, Update::Remove { reason, .. }) => *reason == RemoveReason::Expired,
            (Flaw::LosesTheLastGoodbye, Update::Remove { reason, .. }) => {
                *reason == RemoveReason::Deregistered && self.view.is_empty()
            }
            (Flaw::FollowsTheKnownOnly, Update::Put(put)) => {
                *self.sender.scope() == Scope::All && !self.at_first.contains(&put.service)
            }
            (Flaw::StarvesTheMany, Update::Put(_)) => self.is_one_of_many,
            (Flaw::Overflows, Update::Put(put)) => {
                self.store.known(&key(put)).is_some_and(|known| known.writes > 150)
            }
            _ => false,
        }
    }

    /// Changes an update, and gives what is to follow it.
    fn distort(&mut self, update: &mut Update) -> Vec<Update> {
        match update {
            Update::Remove { reason, .. } => match self.flaw {
                Flaw::CallsExpiryGoodbye => *reason = RemoveReason::Deregistered,
                Flaw::GivesNoReason => *reason = RemoveReason::Unknown,
                _ => {}
            },
            Update::Reset { registrations, empty, .. } => {
                self.at_first = registrations.iter().map(|r| r.service.clone()).collect();
                return self.distort_reset(registrations, empty);
            }
            _ => {}
        }
        vec![]
    }

    fn distort_reset(
        &self,
        registrations: &mut Vec<Arc<Registration>>,
        empty: &mut Option<EmptyReason>,
    ) -> Vec<Update> {
        let mut rest = vec![];
        match self.flaw {
            Flaw::CallsAllEmptyNeverSeen => *empty = empty.map(|_| EmptyReason::NeverSeen),
            Flaw::GivesNoReason => *empty = empty.map(|_| EmptyReason::Unknown),
            Flaw::TellsInPieces => rest = registrations.split_off(registrations.len().div_ceil(2)),
            Flaw::KeepsTheFirstReset => self.store.keep_first(self.sender.scope(), registrations),
            Flaw::LagsForLatecomers if self.is_late => {
                for registration in registrations {
                    if let Some(known) = self.store.known(&key(registration)) {
                        rest.push(std::mem::replace(registration, Arc::new(known.first)));
                    }
                }
            }
            Flaw::ReplaysHistory => {
                let known = registrations.iter().filter_map(|r| self.store.known(&key(r)));
                let changed = known.filter(|known| known.first != known.now);
                rest = changed.map(|known| Arc::new(known.first)).collect();
            }
            _ => {}
        }
        rest.into_iter().map(Update::Put).collect()
    }
}

async fn next(inner: &mut Watch, sender: &WatchSender) -> Option<Update> {
    tokio::select! {
        () = sender.closed() => None,
        update = inner.next() => update,
    }
}
