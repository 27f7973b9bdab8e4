//! The pipe between a backend and who watches it: conflated, so that a slow consumer holds nothing
//! up and its memory is bounded by what is registered, not by how often it changed.

use std::collections::{HashMap, HashSet, VecDeque};
use std::fmt;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use futures::Stream;
use tokio::sync::Notify;

use crate::{EmptyReason, Error, Registration, RemoveReason, Update, View, validate};

/// What a watch follows.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Scope {
    /// One service, by name.
    Service(String),
    /// One node of a service.
    #[non_exhaustive]
    Node {
        /// The service's name.
        service: String,
        /// The node's id.
        id: String,
    },
    /// Every service of the namespace.
    All,
}

impl Scope {
    /// The node a registration is of.
    pub fn node(registration: &Registration) -> Self {
        let (service, id) = (registration.service.clone(), registration.node.id.clone());
        Self::Node { service, id }
    }

    /// Whether a node is in it.
    pub fn contains(&self, service: &str, id: &str) -> bool {
        match self {
            Self::Service(name) => name == service,
            Self::Node { service: name, id: node } => name == service && node == id,
            Self::All => true,
        }
    }

    /// Checks the names in it.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Invalid`](crate::ErrorKind::Invalid) for what cannot be a service's name, or a
    /// node's id.
    pub fn validate(&self) -> Result<(), Error> {
        match self {
            Self::Service(name) => validate::service_name(name),
            Self::Node { service, id } => {
                validate::service_name(service)?;
                validate::node_id(id)
            }
            Self::All => Ok(()),
        }
    }
}

/// A stream of [`Update`]s; see [`Registry::watch`](crate::Registry::watch) for what it promises.
///
/// Dropping it tells its [`WatchSender`], which stops what feeds it. The stream ends once its sender
/// is gone and everything was read.
///
/// # Cancel safety
///
/// Waiting for the next update is cancel-safe: a dropped `next` loses nothing, an update is taken out
/// only when it is handed over.
#[must_use = "a watch does nothing unless it is polled"]
pub struct Watch {
    shared: Arc<Shared>,
}

impl Watch {
    /// A watch, and the end a backend feeds it by.
    pub fn channel(scope: Scope) -> (WatchSender, Self) {
        let shared = Arc::new(Shared {
            scope,
            state: Mutex::new(State::default()),
            consumer_gone: Notify::new(),
        });
        (WatchSender { shared: shared.clone() }, Self { shared })
    }
}

impl Stream for Watch {
    type Item = Update;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Update>> {
        let mut state = self.shared.lock();
        if let Some(update) = state.next() {
            return Poll::Ready(Some(update));
        }
        if state.sender_gone {
            return Poll::Ready(None);
        }
        state.waker = Some(cx.waker().clone());
        Poll::Pending
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.shared.lock().consumer_gone = true;
        self.shared.consumer_gone.notify_waiters();
    }
}

impl fmt::Debug for Watch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Watch").field("scope", &self.shared.scope).finish_non_exhaustive()
    }
}

/// The end of a [`Watch`] a backend holds. Dropping it ends the stream once it has been read.
pub struct WatchSender {
    shared: Arc<Shared>,
}

impl WatchSender {
    /// What the watch follows.
    pub fn scope(&self) -> &Scope {
        &self.shared.scope
    }

    /// Hands an update over; what is out of scope is left out, and deltas before the first `Reset`
    /// are ignored. Returns whether anybody still watches.
    ///
    /// Never waits: an update that was not read yet is replaced by a later one of the same node.
    pub fn send(&self, update: &Update) -> bool {
        let waker = {
            let mut state = self.shared.lock();
            if state.consumer_gone {
                return false;
            }
            state.take_in(update, &self.shared.scope);
            state.waker.take()
        };
        if let Some(waker) = waker {
            waker.wake();
        }
        true
    }

    /// Whether nobody watches any more.
    pub fn is_closed(&self) -> bool {
        self.shared.lock().consumer_gone
    }

    /// Waits until nobody watches any more.
    ///
    /// # Cancel safety
    ///
    /// Cancel-safe: it may be dropped and called again, by several at once.
    pub async fn closed(&self) {
        loop {
            let notified = self.shared.consumer_gone.notified();
            if self.is_closed() {
                return;
            }
            notified.await;
        }
    }
}

impl Drop for WatchSender {
    fn drop(&mut self) {
        let waker = {
            let mut state = self.shared.lock();
            state.sender_gone = true;
            state.waker.take()
        };
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}

impl fmt::Debug for WatchSender {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WatchSender").field("scope", &self.shared.scope).finish_non_exhaustive()
    }
}

struct Shared {
    scope: Scope,
    state: Mutex<State>,
    consumer_gone: Notify,
}

impl Shared {
    /// A panic while the lock is held leaves plain data behind, nothing half done.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

type NodeKey = (String, String);

/// What is true now, what the consumer was told, and which nodes differ.
#[derive(Default)]
struct State {
    current: View,
    /// The nodes the consumer knows, and in which epoch: a removal of a lower one would be lost on it.
    told: HashMap<NodeKey, u64>,
    /// Nodes to tell about, oldest first, and why those that left did, the last time.
    dirty: VecDeque<NodeKey>,
    queued: HashSet<NodeKey>,
    left: HashMap<NodeKey, RemoveReason>,
    /// A reset to deliver, with the reason should it be empty.
    reset: Option<Option<EmptyReason>>,
    has_reset: bool,
    /// `Some` from losing the source to the next reset; the update until it is delivered.
    stale: Option<Option<Update>>,
    waker: Option<Waker>,
    consumer_gone: bool,
    sender_gone: bool,
}

impl State {
    fn take_in(&mut self, update: &Update, scope: &Scope) {
        match update {
            Update::Reset { registrations, empty } => {
                let in_scope =
                    registrations.iter().filter(|r| scope.contains(&r.service, &r.node.id));
                self.current = in_scope.cloned().collect();
                self.dirty.clear();
                self.queued.clear();
                self.left.clear();
                self.stale = None;
                self.has_reset = true;
                self.reset = Some(*empty);
            }
            Update::Stale { .. } if self.stale.is_none() => self.stale = Some(Some(update.clone())),
            Update::Stale { .. } => {}
            Update::Put(registration) => {
                let (service, id) = (&registration.service, &registration.node.id);
                if self.follows(scope, service, id) && self.current.apply(update) {
                    self.mark((service.clone(), id.clone()));
                }
            }
            Update::Remove { service, id, reason, .. } => {
                if self.follows(scope, service, id) && self.current.apply(update) {
                    let key = (service.clone(), id.clone());
                    if self.reset.is_none() && !self.told.contains_key(&key) {
                        self.forget(&key);
                    } else {
                        self.left.insert(key.clone(), *reason);
                        self.mark(key);
                    }
                }
            }
        }
    }

    fn follows(&self, scope: &Scope, service: &str, id: &str) -> bool {
        self.has_reset && scope.contains(service, id)
    }

    /// While a reset waits to be read it will carry the change; nothing else need be remembered.
    fn mark(&mut self, key: NodeKey) {
        if self.reset.is_some() {
            let emptied = self.left.remove(&key).filter(|_| self.current.is_empty());
            let vouched = !matches!(self.reset, Some(Some(reason)) if !reason.is_certain());
            if let Some(reason) = emptied.filter(|_| vouched) {
                self.reset = Some(Some(EmptyReason::from_last(reason)));
            }
            return;
        }
        if self.queued.insert(key.clone()) {
            self.dirty.push_back(key);
        }
    }

    /// A node that came and left unread is not to be told of at all.
    fn forget(&mut self, key: &NodeKey) {
        self.queued.remove(key);
        self.left.remove(key);
        if self.dirty.len() > 2 * self.queued.len() + 16 {
            self.dirty.retain(|key| self.queued.contains(key));
        }
    }

    fn next(&mut self) -> Option<Update> {
        if let Some(empty) = self.reset.take() {
            return Some(self.tell_all(empty));
        }
        while let Some(key) = self.dirty.pop_front() {
            if let Some(update) = self.tell(key) {
                return Some(update);
            }
        }
        self.stale.as_mut().and_then(Option::take)
    }

    fn tell_all(&mut self, empty: Option<EmptyReason>) -> Update {
        let registrations: Vec<_> = self.current.iter().cloned().collect();
        let told = |r: &Arc<Registration>| ((r.service.clone(), r.node.id.clone()), r.node.epoch);
        self.told = registrations.iter().map(told).collect();
        Update::reset(registrations, empty.unwrap_or(EmptyReason::Unknown))
    }

    /// What to tell about a node, or nothing when it came and left unseen.
    fn tell(&mut self, key: NodeKey) -> Option<Update> {
        if !self.queued.remove(&key) {
            return None;
        }
        let reason = self.left.remove(&key).unwrap_or(RemoveReason::Unknown);
        let now = self.current.node(&key.0, &key.1).cloned();
        let told = self.told.remove(&key);
        match (told, now) {
            // Without its removal the newer one would fence the older that came back.
            (Some(epoch), Some(now)) if epoch > now.node.epoch => {
                self.queued.insert(key.clone());
                self.dirty.push_front(key.clone());
                Some(removal(key, epoch, reason))
            }
            (_, Some(now)) => {
                self.told.insert(key, now.node.epoch);
                Some(Update::Put(now))
            }
            (Some(epoch), None) => Some(removal(key, epoch, reason)),
            (None, None) => None,
        }
    }
}

fn removal((service, id): NodeKey, epoch: u64, reason: RemoveReason) -> Update {
    Update::Remove { service, id, epoch, reason }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Node;
    use futures::{FutureExt, StreamExt};
    use proptest::prelude::*;

    fn registration(id: usize, weight: u16) -> Arc<Registration> {
        let mut node = Node::new(format!("n{id}"), "127.0.0.1:1");
        node.weight = weight;
        Arc::new(Registration::new("s", "1.0.0", node))
    }

    fn reset(registrations: Vec<Arc<Registration>>) -> Update {
        Update::reset(registrations, EmptyReason::NeverSeen)
    }

    fn drain(watch: &mut Watch) -> Vec<Update> {
        std::iter::from_fn(|| watch.next().now_or_never().flatten()).collect()
    }

    /// Nothing is delivered before the first reset, which carries what came before it was read.
    #[test]
    fn data_begins_with_a_reset() {
        let (sender, mut watch) = Watch::channel(Scope::All);
        sender.send(&Update::Put(registration(0, 1)));
        assert!(drain(&mut watch).is_empty());
        sender.send(&reset(vec![]));
        sender.send(&Update::Put(registration(1, 1)));
        let updates = drain(&mut watch);
        assert_eq!(updates, [reset(vec![registration(1, 1)])]);
    }

    /// A consumer that does not read holds one update per node, however often the node changes.
    #[test]
    fn a_slow_consumer_gets_state_not_history() {
        let (sender, mut watch) = Watch::channel(Scope::All);
        sender.send(&reset(vec![registration(0, 0)]));
        assert_eq!(drain(&mut watch).len(), 1);
        for weight in 1..1_000 {
            sender.send(&Update::Put(registration(0, weight)));
        }
        assert_eq!(drain(&mut watch), [Update::Put(registration(0, 999))]);
    }

    /// Nodes that came and left unseen leave no trace; what was seen leaves with its reason.
    #[test]
    fn unseen_nodes_leave_no_trace() {
        let (sender, mut watch) = Watch::channel(Scope::All);
        sender.send(&reset(vec![registration(0, 0)]));
        drain(&mut watch);
        for id in 1..1_000 {
            sender.send(&Update::Put(registration(id, 0)));
            sender.send(&Update::remove(&registration(id, 0), RemoveReason::Expired));
        }
        assert!(sender.shared.lock().dirty.len() < 20, "not even before it is read");
        let gone = Update::remove(&registration(0, 0), RemoveReason::Deregistered);
        sender.send(&gone);
        assert_eq!(drain(&mut watch), [gone]);
        assert!(sender.shared.lock().left.is_empty());
    }

    fn in_epoch(id: usize, epoch: u64) -> Arc<Registration> {
        let mut registration = (*registration(id, 1)).clone();
        registration.node.epoch = epoch;
        registration.into()
    }

    /// Who was told of an epoch is told when it leaves, whatever lower one came and left behind it.
    #[test]
    fn a_lower_epoch_that_came_and_left_hides_no_removal() {
        let (sender, mut watch) = Watch::channel(Scope::All);
        sender.send(&reset(vec![in_epoch(0, 9)]));
        drain(&mut watch);
        sender.send(&Update::remove(&in_epoch(0, 9), RemoveReason::Expired));
        sender.send(&Update::Put(in_epoch(0, 3)));
        sender.send(&Update::remove(&in_epoch(0, 3), RemoveReason::Deregistered));
        let gone = Update::remove(&in_epoch(0, 9), RemoveReason::Deregistered);
        assert_eq!(drain(&mut watch), [gone]);
    }

    fn any_update() -> impl Strategy<Value = Update> {
        let node = || (0usize..2, 0u64..4).prop_map(|(id, epoch)| in_epoch(id, epoch));
        // What leaves is mostly there, in whichever epoch.
        let gone = (0usize..2, 2u64..6).prop_map(|(id, epoch)| in_epoch(id, epoch));
        prop_oneof![
            8 => node().prop_map(Update::Put),
            8 => gone.prop_map(|node| Update::remove(&node, RemoveReason::Expired)),
            1 => Just(Update::stale(std::time::SystemTime::UNIX_EPOCH, "x")),
            1 => proptest::collection::vec(node(), 0..3).prop_map(reset),
        ]
    }

    proptest! {
        /// Who read everything knows what its sender knows, whenever it read.
        #[test]
        fn whoever_read_everything_knows_what_is_true(
            steps in proptest::collection::vec((any_update(), 0usize..9), 0..60)
        ) {
            let (sender, mut watch) = Watch::channel(Scope::All);
            let (mut truth, mut told) = (View::new(), View::new());
            sender.send(&reset(vec![]));
            for (update, reads) in steps {
                truth.apply(&update);
                sender.send(&update);
                // Mostly nothing is read in between.
                for _ in 6..reads {
                    watch.next().now_or_never().flatten().map(|update| told.apply(&update));
                }
            }
            for update in drain(&mut watch) {
                told.apply(&update);
            }
            prop_assert_eq!(told, truth);
        }
    }

    /// Stale is told once per outage, after what was known and before the fresh reset.
    #[test]
    fn stale_once_per_outage() {
        let stale = Update::stale(std::time::SystemTime::UNIX_EPOCH, "x");
        let (sender, mut watch) = Watch::channel(Scope::All);
        sender.send(&stale);
        assert_eq!(drain(&mut watch), std::slice::from_ref(&stale));
        sender.send(&stale);
        assert!(drain(&mut watch).is_empty());
        sender.send(&reset(vec![registration(0, 0)]));
        drain(&mut watch);
        sender.send(&Update::Put(registration(0, 1)));
        sender.send(&stale);
        assert_eq!(drain(&mut watch), [Update::Put(registration(0, 1)), stale]);
    }

    /// A watch of one service hears nothing of its longer-named neighbour.
    #[test]
    fn out_of_scope_is_left_out() {
        let (sender, mut watch) = Watch::channel(Scope::Service("s2".into()));
        sender.send(&reset(vec![registration(0, 0)]));
        sender.send(&Update::Put(registration(1, 0)));
        assert!(matches!(&drain(&mut watch)[..], [Update::Reset { empty: Some(_), .. }]));
    }

    /// A watch of one node hears nothing of its neighbours, nor of its namesake elsewhere.
    #[test]
    fn a_node_is_watched_alone() {
        let (sender, mut watch) = Watch::channel(Scope::node(&registration(1, 0)));
        sender.send(&reset(vec![registration(0, 0), registration(1, 0)]));
        assert_eq!(drain(&mut watch), [reset(vec![registration(1, 0)])]);
        let mut namesake = (*registration(1, 1)).clone();
        namesake.service = "s2".into();
        for put in [registration(0, 1), registration(1, 1), namesake.into()] {
            sender.send(&Update::Put(put));
        }
        assert_eq!(drain(&mut watch), [Update::Put(registration(1, 1))]);
    }

    /// Either end notices when the other goes.
    #[tokio::test]
    async fn both_ends_notice_the_other_leaving() {
        let (sender, watch) = Watch::channel(Scope::All);
        assert!(sender.closed().now_or_never().is_none());
        drop(watch);
        sender.closed().await;
        assert!(!sender.send(&reset(vec![])));

        let (sender, mut watch) = Watch::channel(Scope::All);
        drop(sender);
        assert_eq!(watch.next().await, None);
    }
}
