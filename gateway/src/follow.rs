//! The task that keeps the [`Catalogue`] current, and tells others.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use futures::{FutureExt, StreamExt};
use micro::dynamic::{Description, ask};
use micro::registry::{Service, Update, Watch};
use tokio::sync::{broadcast, watch};
use tokio::task::JoinSet;
use tokio::time::sleep;

use crate::Config;
use crate::catalogue::{Catalogue, Change, Services, VersionOf, newest};

/// A follower that has not begun, and where it tells what there is and what happens.
pub(crate) fn new(
    updates: Watch,
    config: &Config,
) -> (Follower, watch::Receiver<Arc<Services>>, broadcast::Sender<Change>) {
    let (services, seen) = watch::channel(Arc::default());
    let (events, _) = broadcast::channel(MAX_EVENTS);
    let catalogue = Catalogue::new(config.clone());
    let (asking, asked) = (HashSet::new(), JoinSet::new());
    let follower = Follower { updates, catalogue, services, events: events.clone(), asking, asked };
    (follower, seen, events)
}

/// Whoever is further behind is told everything anew.
const MAX_EVENTS: usize = 256;
/// After how long a version is asked again of which no node told what it serves.
const ASK_AGAIN: Duration = Duration::from_secs(5);

/// Owns the watch on the registry, and the questions to nodes: dropping it ends both.
#[derive(Debug)]
pub(crate) struct Follower {
    updates: Watch,
    catalogue: Catalogue,
    services: watch::Sender<Arc<Services>>,
    events: broadcast::Sender<Change>,
    /// The versions whose nodes are being asked.
    asking: HashSet<VersionOf>,
    asked: JoinSet<Answer>,
}

/// What was said of a version, whose newest node had started then; `None` if nobody answered.
type Answer = (VersionOf, u64, Option<Description>);

impl Follower {
    /// Follows the registry until that is gone.
    pub(crate) async fn run(mut self) {
        loop {
            let changes = tokio::select! {
                update = self.updates.next() => match update {
                    Some(update) => self.take_in(&update),
                    None => return tracing::error!("the registry is gone"),
                },
                Some(answer) = self.asked.join_next() => {
                    if let Ok(answer) = answer {
                        self.hear(answer);
                    }
                    Vec::new()
                }
            };
            self.ask();
            self.services.send_replace(Arc::new(self.catalogue.services().clone()));
            for change in changes {
                // Nobody may be listening.
                let _ = self.events.send(change);
            }
        }
    }

    /// Takes in an update and those that wait behind it, so that a burst costs one round.
    fn take_in(&mut self, first: &Update) -> Vec<Change> {
        let mut changes = self.catalogue.apply(first);
        while let Some(Some(update)) = self.updates.next().now_or_never() {
            changes.extend(self.catalogue.apply(&update));
        }
        changes
    }

    fn hear(&mut self, (version, epoch, description): Answer) {
        self.asking.remove(&version);
        if let Some(description) = description {
            self.catalogue.describe(version, epoch, description);
        }
    }

    /// Asks the nodes of which nobody knows what they serve.
    fn ask(&mut self) {
        for version in self.catalogue.undescribed() {
            let key = (version.name.clone(), version.version.clone());
            if self.asking.insert(key.clone()) {
                self.asked.spawn(ask_any(key, version.clone()));
            }
        }
    }
}

/// Asks some nodes, one after the other, and rests when none of them has told anything.
async fn ask_any(key: VersionOf, version: Service) -> Answer {
    for node in version.nodes.iter().take(AT_MOST) {
        if let Ok(description) = ask(&node.address).await {
            return (key, newest(&version), Some(description));
        }
    }
    tracing::debug!(service = key.0, version = key.1, "no node says what it serves");
    sleep(ASK_AGAIN).await;
    (key, newest(&version), None)
}

const AT_MOST: usize = 3;
