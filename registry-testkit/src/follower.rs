//! A consumer of a watch.

use std::sync::Arc;
use std::time::Duration;

use futures::{FutureExt, StreamExt};
use micro_registry::{Registration, Update, View, Watch};

use crate::Line;
use crate::stage::{Verdict, broken, ensure};

/// Reads a watch and applies what it tells, as a consumer does.
pub(crate) struct Follower {
    watch: Watch,
    pub(crate) view: View,
    patience: Duration,
}

impl Follower {
    pub(crate) fn new(watch: Watch, patience: Duration) -> Self {
        Self { watch, view: View::new(), patience }
    }

    /// The next update, already applied. That nothing comes breaks `line`.
    pub(crate) async fn next(&mut self, line: Line, what: &str) -> Verdict<Update> {
        self.next_within(self.patience, line, what).await
    }

    /// The first data, which must be a reset.
    pub(crate) async fn first_reset(&mut self) -> Verdict<Update> {
        loop {
            match self.next(Line::Watch, "the watch's first reset").await? {
                Update::Stale { .. } => {}
                reset @ Update::Reset { .. } => return Ok(reset),
                other => {
                    return broken(Line::Watch, format!("the first data is no reset: {other:?}"));
                }
            }
        }
    }

    /// Reads until the view is so; gives all that was read. Its patience is with silence: while there is
    /// news it goes on.
    pub(crate) async fn until(
        &mut self,
        line: Line,
        what: &str,
        is_so: impl Fn(&View) -> bool,
    ) -> Verdict<Vec<Update>> {
        self.until_within(self.patience, line, what, is_so).await
    }

    /// The same, with this much patience.
    pub(crate) async fn until_within(
        &mut self,
        patience: Duration,
        line: Line,
        what: &str,
        is_so: impl Fn(&View) -> bool,
    ) -> Verdict<Vec<Update>> {
        let mut read = vec![];
        while !is_so(&self.view) {
            read.push(self.next_within(patience, line, what).await?);
        }
        Ok(read)
    }

    /// What can be read without waiting.
    pub(crate) fn pending(&mut self) -> Vec<Update> {
        let read = || self.watch.next().now_or_never().flatten();
        let updates: Vec<_> = std::iter::from_fn(read).collect();
        for update in &updates {
            self.view.apply(update);
        }
        updates
    }

    async fn next_within(&mut self, patience: Duration, line: Line, what: &str) -> Verdict<Update> {
        match tokio::time::timeout(patience, self.watch.next()).await {
            Ok(Some(update)) => {
                self.view.apply(&update);
                Ok(update)
            }
            Ok(None) => broken(Line::Outage, format!("the watch ended, waiting for {what}")),
            Err(_) => broken(line, format!("never came: {what}; known are {}", self.known())),
        }
    }

    fn known(&self) -> String {
        let name = |r: &Arc<Registration>| format!("{}/{}@{}", r.service, r.node.id, r.node.epoch);
        let names: Vec<_> = self.view.iter().take(8).map(name).collect();
        format!("{} nodes, {}…", self.view.len(), names.join(", "))
    }
}

/// Ends the case unless all updates are about this node.
pub(crate) fn ensure_only(line: Line, updates: &[Update], id: &str) -> Verdict {
    let about = |update: &Update| match update {
        Update::Put(registration) => registration.node.id == id,
        Update::Remove { id: left, .. } => left == id,
        _ => false,
    };
    let other = updates.iter().find(|update| !about(update));
    ensure(line, other.is_none(), || format!("watchers were told {other:?}, nothing had changed"))
}
