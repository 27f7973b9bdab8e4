//! The task that keeps the [`Catalogue`] current, and tells others.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::{FutureExt, StreamExt};
use micro::Client;
use micro::dynamic::Description;
use micro::registry::{Service, Update, Watch};
use tokio::sync::{Semaphore, broadcast, watch};
use tokio::task::{Id, JoinError, JoinSet};
use tokio::time::sleep;

use crate::Config;
use crate::catalogue::{Catalogue, Change, Services, VersionOf, newest};
use crate::events;

/// A follower that has not begun, and where it tells what there is and what happens.
pub(crate) fn new(
    updates: Watch,
    config: &Config,
    client: Client,
) -> (Follower, watch::Receiver<Arc<Services>>, broadcast::Sender<Bytes>) {
    let (services, seen) = watch::channel(Arc::default());
    let (events, _) = broadcast::channel(MAX_EVENTS);
    let catalogue = Catalogue::new(config.clone());
    let follower = Follower {
        updates,
        catalogue,
        client,
        services,
        events: events.clone(),
        asking: HashSet::new(),
        asked: JoinSet::new(),
        questions: HashMap::new(),
        places: Arc::new(Semaphore::new(MAX_ASKED)),
    };
    (follower, seen, events)
}

/// Whoever is further behind is told everything anew, and so are all of a burst of more.
const MAX_EVENTS: usize = 256;
/// After how long a version is asked again of which no node told what it serves.
const ASK_AGAIN: Duration = Duration::from_secs(5);

/// How many nodes are asked at once.
const MAX_ASKED: usize = 32;
/// Updates taken in before anybody is told of them.
const MAX_BURST: usize = 10_000;

/// Owns the watch on the registry, and the questions to nodes: dropping it ends both.
#[derive(Debug)]
pub(crate) struct Follower {
    updates: Watch,
    catalogue: Catalogue,
    client: Client,
    services: watch::Sender<Arc<Services>>,
    events: broadcast::Sender<Bytes>,
    /// Of which versions nodes are being asked, or were in vain a moment ago.
    asking: HashSet<Question>,
    asked: JoinSet<Heard>,
    /// Which task asks what, so that one that panics leaves nothing behind.
    questions: HashMap<Id, Question>,
    places: Arc<Semaphore>,
}

/// What a version serves, and the newest start of its nodes: those may serve something else.
type Question = (VersionOf, u64);

/// What came of a question.
#[derive(Debug)]
enum Heard {
    /// What a node said, and when it started.
    Told(u64, Description),
    Nothing,
    /// It may be asked again.
    Rested,
}

impl Follower {
    /// Follows the registry until that is gone.
    pub(crate) async fn run(mut self) {
        loop {
            let changes = tokio::select! {
                update = self.updates.next() => match update {
                    Some(update) => self.take_in(update),
                    None => return tracing::error!("the registry is gone"),
                },
                Some(heard) = self.asked.join_next_with_id() => {
                    self.hear(heard).into_iter().collect()
                }
            };
            self.ask();
            self.services.send_replace(Arc::new(self.catalogue.services().clone()));
            self.tell(&changes);
        }
    }

    /// Tells those who listen. Who begins to listen now sees the changes in what there is.
    fn tell(&self, changes: &[Change]) {
        if self.events.receiver_count() == 0 {
            return;
        }
        // The last of those who listen may have left meanwhile.
        if changes.len() > MAX_EVENTS {
            let _ = self.events.send(events::all(self.catalogue.services()));
            return;
        }
        for change in changes {
            let _ = self.events.send(events::told(change));
        }
    }

    /// Takes in an update and those that wait behind it, so that a burst costs one round.
    fn take_in(&mut self, first: Update) -> Vec<Change> {
        let mut updates = vec![first];
        while updates.len() < MAX_BURST
            && let Some(Some(update)) = self.updates.next().now_or_never()
        {
            updates.push(update);
        }
        self.catalogue.apply(&updates)
    }

    /// Takes in what came of a question, and says what it changed.
    fn hear(&mut self, heard: Result<(Id, Heard), JoinError>) -> Option<Change> {
        let (id, heard) = heard.unwrap_or_else(|error| {
            tracing::error!(%error, "asking a node panicked");
            (error.id(), Heard::Nothing)
        });
        let question = self.questions.remove(&id)?;
        let (version, newest) = question.clone();
        match heard {
            Heard::Rested => {
                self.asking.remove(&question);
                None
            }
            Heard::Told(epoch, description) => {
                // The newest may not want traffic yet, and says later what it serves.
                match epoch >= newest {
                    true => drop(self.asking.remove(&question)),
                    false => self.spawn(question, rest()),
                }
                self.catalogue.describe(version, newest, Some((epoch, description)))
            }
            Heard::Nothing => {
                tracing::debug!(service = version.0, version = version.1, "no node describes it");
                self.spawn(question, rest());
                self.catalogue.describe(version, newest, None)
            }
        }
    }

    /// Asks the nodes of which nobody knows what they serve.
    fn ask(&mut self) {
        let versions: Vec<_> = self.catalogue.undescribed().cloned().collect();
        for version in versions {
            let key = (version.name.clone(), version.version.clone());
            let question = (key, newest(&version));
            if self.asking.insert(question.clone()) {
                let (client, places) = (self.client.clone(), Arc::clone(&self.places));
                self.spawn(question, ask(client, version, places));
            }
        }
    }

    fn spawn(&mut self, question: Question, task: impl Future<Output = Heard> + Send + 'static) {
        let id = self.asked.spawn(task).id();
        self.questions.insert(id, question);
    }
}

async fn ask(client: Client, version: Service, places: Arc<Semaphore>) -> Heard {
    let _place = places.acquire().await.expect("it is never closed");
    match client.describe_version(&version).await {
        Ok((node, description)) => Heard::Told(node.epoch, description),
        Err(_) => Heard::Nothing,
    }
}

async fn rest() -> Heard {
    sleep(ASK_AGAIN).await;
    Heard::Rested
}

#[cfg(test)]
mod tests {
    use micro::Settings;
    use micro::registry::{EmptyReason, MemoryRegistry, Node, Registration, Scope};

    use super::*;

    /// Of a burst of more than who listens can be behind, all are told once what there is now.
    #[tokio::test]
    async fn a_burst_is_told_at_once() {
        let client = Client::connect().settings(Settings::none()).registry(MemoryRegistry::new());
        let client = client.await.expect("nothing is in the way");
        let (_sender, updates) = Watch::channel(Scope::All);
        let (mut follower, _services, events) = new(updates, &Config::default(), client);
        let mut listener = events.subscribe();
        let node = |number: usize| {
            let node = Node::new(format!("n{number}"), "127.0.0.1:1");
            Arc::new(Registration::new("s", "1.0.0", node))
        };
        let all = (0..=MAX_EVENTS).map(node).collect();
        let changes = follower.catalogue.apply(&[Update::reset(all, EmptyReason::Unknown)]);
        follower.tell(&changes);
        let told = listener.try_recv().expect("it is told");
        assert!(told.starts_with(b"event: services\n"));
        assert!(listener.is_empty());
    }

    /// What was asked by a task that panicked is asked again, after a rest.
    #[tokio::test(start_paused = true)]
    async fn a_question_that_panics() {
        let client = Client::connect().settings(Settings::none()).registry(MemoryRegistry::new());
        let client = client.await.expect("nothing is in the way");
        let (_sender, updates) = Watch::channel(Scope::All);
        let (mut follower, ..) = new(updates, &Config::default(), client);
        let question = (("s".to_owned(), "1.0.0".to_owned()), 1);
        follower.asking.insert(question.clone());
        follower.spawn(question.clone(), async { panic!("on purpose") });
        for rests in [true, false] {
            let heard = follower.asked.join_next_with_id().await.expect("one is asked");
            follower.hear(heard);
            assert_eq!(follower.asking.contains(&question), rests);
        }
        assert!(follower.asked.is_empty() && follower.questions.is_empty());
    }
}
