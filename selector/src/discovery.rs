//! Nodes that a stream of changes names, instead of a registry.

use std::cell::RefCell;
use std::collections::HashMap;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::Ordering::SeqCst;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Wake, Waker};

use futures::stream::{BoxStream, Stream, StreamExt};
use micro_registry::{EmptyReason, Node, Registration, RemoveReason, Update};
use tokio::sync::Notify;
use tokio::time::Instant;
use tower::discover;

use crate::atomic::AtomicU32;
use crate::cache::Cache;
use crate::{Picker, Snapshot};

/// A stream of changes, polled by those who call, and no oftener than it asks for.
pub(crate) struct Discovery<T> {
    bell: Arc<Bell>,
    /// Whoever the [`Bell`] gives the turn has it, so nobody waits for it.
    feed: Mutex<Feed<T>>,
}

/// So many changes are taken in at once, by one caller.
const AT_ONCE: usize = 1_024;
/// So often one caller polls, of a stream that asks for it while it is polled.
const TURNS: usize = 8;
/// So many errors in a row, with neither a change nor a pause between them, and the stream is given
/// up.
const ERRORS: usize = 8;

impl<T: Clone + Send + 'static> Discovery<T> {
    /// The nodes of `changes`; `changed` tells waiters to look again.
    pub(crate) fn new<K, E>(
        changes: impl Stream<Item = Result<discover::Change<K, T>, E>> + Send + 'static,
        picker: &Picker,
        changed: Arc<Notify>,
    ) -> Self
    where
        K: fmt::Display,
        E: fmt::Display,
    {
        let changes = changes.map(|change| match change {
            Ok(discover::Change::Insert(key, target)) => Ok((key.to_string(), Some(target))),
            Ok(discover::Change::Remove(key)) => Ok((key.to_string(), None)),
            Err(error) => Err(error.to_string()),
        });
        let feed = Feed {
            changes: Some(changes.boxed()),
            cache: Cache::new(picker),
            fresh: HashMap::new(),
            inserted: 0,
            is_answered: false,
        };
        Self { bell: Arc::new(Bell::new(changed)), feed: Mutex::new(feed) }
    }
}

impl<T: Clone> Discovery<T> {
    /// Takes in what the stream has to say, if it asked to be polled and nobody else is at it. One
    /// atomic read while it is silent.
    #[inline]
    pub(crate) fn poll(&self, publish: impl Fn(Snapshot<T>)) {
        for _ in 0..TURNS {
            let Some(turn) = self.bell.begin() else { return };
            let is_more =
                self.feed.lock().unwrap_or_else(PoisonError::into_inner).poll(&turn, &publish);
            if is_more {
                break;
            }
        }
        // After the turn: who hears it finds it free.
        self.bell.ring();
    }
}

/// A node's id, and what is kept for it; `None` when it has left.
type Named<T> = (String, Option<T>);

struct Feed<T> {
    /// `None` once it has ended.
    changes: Option<BoxStream<'static, Result<Named<T>, String>>>,
    cache: Cache<T>,
    /// What was inserted since the last snapshot.
    fresh: HashMap<String, T>,
    inserted: u64,
    is_answered: bool,
}

impl<T: Clone> Feed<T> {
    /// Takes in what is there, publishes it, and returns whether there is more.
    fn poll(&mut self, turn: &Turn<'_>, publish: impl Fn(Snapshot<T>)) -> bool {
        let waker = Waker::from(turn.0.clone());
        // What others wrote runs here, on the path of somebody's call.
        let taken =
            catch_unwind(AssertUnwindSafe(|| self.take_in(&mut Context::from_waker(&waker))));
        let Taken { is_changed, is_more } = taken.unwrap_or_else(|_| {
            tracing::error!("the discovery stream panicked, keeping the known nodes");
            self.changes = None;
            Taken { is_changed: true, is_more: false }
        });
        // Without a stream nobody is to be waited for.
        if is_changed || (self.changes.is_none() && !self.is_answered) {
            publish(self.snapshot());
        }
        is_more
    }

    fn take_in(&mut self, cx: &mut Context<'_>) -> Taken {
        let (mut is_changed, mut errors) = (false, 0);
        for _ in 0..AT_ONCE {
            let Some(changes) = &mut self.changes else {
                return Taken { is_changed, is_more: false };
            };
            match changes.poll_next_unpin(cx) {
                Poll::Pending => return Taken { is_changed, is_more: false },
                Poll::Ready(Some(Ok((key, target)))) => {
                    self.apply(key, target);
                    (is_changed, errors) = (true, 0);
                }
                Poll::Ready(Some(Err(error))) => {
                    errors += 1;
                    self.failed(&error, errors);
                }
                Poll::Ready(None) => self.changes = None,
            }
        }
        Taken { is_changed, is_more: true }
    }

    fn apply(&mut self, id: String, target: Option<T>) {
        let now = Instant::now();
        match target {
            Some(target) => {
                // A later epoch each time, so that what is inserted again takes the place of the old.
                self.inserted += 1;
                let mut node = Node::new(id.clone(), id.clone());
                node.epoch = self.inserted;
                let put = Update::Put(Arc::new(Registration::new(SERVICE, VERSION, node)));
                self.cache.apply(&put, now);
                self.fresh.insert(id, target);
            }
            None => {
                if let Some(known) = self.cache.view().node(SERVICE, &id).cloned() {
                    let removal = Update::remove(&known, RemoveReason::Deregistered);
                    self.cache.apply(&removal, now);
                }
            }
        }
    }

    fn failed(&mut self, error: &str, in_a_row: usize) {
        if in_a_row == 1 {
            tracing::warn!(error, "the discovery stream failed, keeping the known nodes");
        } else if in_a_row >= ERRORS {
            tracing::error!(error, "the discovery stream does nothing but fail, giving it up");
            self.changes = None;
        }
    }

    fn snapshot(&mut self) -> Snapshot<T> {
        let now = Instant::now();
        if !std::mem::replace(&mut self.is_answered, true) {
            let known = self.cache.view().iter().cloned().collect();
            self.cache.apply(&Update::reset(known, EmptyReason::NeverSeen), now);
        }
        // Each is asked for once. A clone might panic, and lose what was known.
        let fresh = RefCell::new(std::mem::take(&mut self.fresh));
        self.cache.snapshot(|new| fresh.borrow_mut().remove(&new.node.id), now)
    }
}

/// All nodes of a stream are of one service, which has no name.
const SERVICE: &str = "";
const VERSION: &str = "";

struct Taken {
    is_changed: bool,
    is_more: bool,
}

/// Says whether the stream wants to be polled, and whose turn it is: what an executor keeps for a
/// task. Whoever waits for a node hears it too, since nobody else may come by to poll.
#[derive(Debug)]
struct Bell {
    state: AtomicU32,
    changed: Arc<Notify>,
}

/// The stream asked to be polled.
const DUE: u32 = 1;
/// Somebody is at it.
const TAKEN: u32 = 2;

impl Bell {
    fn new(changed: Arc<Notify>) -> Self {
        Self { state: AtomicU32::new(DUE), changed }
    }

    fn ring(&self) {
        let _ = self.state.fetch_update(SeqCst, SeqCst, |state| Some(state | DUE));
        self.changed.notify_waiters();
    }

    /// The turn, if the stream wants to be polled and nobody is at it. Who is looks again after it.
    #[inline]
    fn begin(self: &Arc<Self>) -> Option<Turn<'_>> {
        if self.state.load(SeqCst) != DUE {
            return None;
        }
        let take = |state| (state == DUE).then_some(TAKEN);
        self.state.fetch_update(SeqCst, SeqCst, take).is_ok().then_some(Turn(self))
    }
}

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        self.ring();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.ring();
    }
}

struct Turn<'a>(&'a Arc<Bell>);

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        let _ = self.0.state.fetch_update(SeqCst, SeqCst, |state| Some(state & !TAKEN));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::StrategyKind;
    use futures::stream::poll_fn;

    /// However threads ring and poll, no ring is lost: once all are done, the stream was polled after
    /// the last one.
    #[test]
    fn no_ring_is_lost() {
        struct Shared {
            discovery: Discovery<()>,
            rung: Arc<AtomicU32>,
            seen: Arc<AtomicU32>,
        }
        let fresh = || {
            let (rung, seen) = (Arc::new(AtomicU32::new(0)), Arc::new(AtomicU32::new(0)));
            let (now, last) = (rung.clone(), seen.clone());
            let changes = poll_fn(move |_| {
                last.store(now.load(SeqCst), SeqCst);
                Poll::<Option<Result<discover::Change<u8, ()>, &str>>>::Pending
            });
            let picker = Picker::new(&StrategyKind::default(), Instant::now());
            Shared { discovery: Discovery::new(changes, &picker, Arc::default()), rung, seen }
        };
        let thread = |shared: &Shared, number: usize| {
            if number == 0 {
                shared.rung.store(1, SeqCst);
                shared.discovery.bell.ring();
            }
            shared.discovery.poll(|_| ());
        };
        let orders = crate::interleave::explore(2, fresh, thread, |shared| {
            assert_eq!(shared.seen.load(SeqCst), 1);
            assert_eq!(shared.discovery.bell.state.load(SeqCst), 0);
        });
        assert!(orders > 10, "{orders}");
    }
}
