//! The task that feeds the watches of a registry handle.

use std::future::Future;
use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use futures::StreamExt;
use futures::future::BoxFuture;
use futures::stream::FuturesUnordered;
use micro_registry::{Error, Update, WatchSender};
use tokio::sync::Notify;
use tokio::task::JoinHandle;
use tokio::time::Instant;

use crate::LocalConfig;
use crate::changes::Changes;
use crate::clock;
use crate::error::chain;
use crate::lane::{CALL_TIMEOUT, Lane, unanswered};
use crate::reader::Reader;
use crate::session::{Plan, Session};
use crate::tracker::TOMBSTONE_AGE;

/// Feeds all watches by one task, which runs while there is any. Dropping it aborts the task, and
/// the watches end.
#[derive(Debug)]
pub(crate) struct Feeder {
    plan: Plan,
    /// One for all tasks: work of an earlier one may still hang.
    lane: Lane,
    inbox: Arc<Inbox>,
}

impl Feeder {
    pub(crate) fn new(reader: Reader, config: &LocalConfig) -> Self {
        let LocalConfig { rescan_interval, use_notify, .. } = *config;
        let plan = Plan { reader, rescan_interval, use_notify };
        Self { plan, lane: Lane::new(), inbox: Arc::default() }
    }

    /// Takes a watch on; starts the task if it does not run, or the runtime it ran on has gone.
    pub(crate) fn attach(&self, sender: WatchSender) {
        let mut state = self.inbox.lock();
        state.arrivals.push(sender);
        if state.task.as_ref().is_none_or(JoinHandle::is_finished) {
            let feed = Feed::new(self.plan.clone(), self.lane.clone(), self.inbox.clone());
            state.task = Some(tokio::spawn(feed.run()));
        }
        drop(state);
        self.inbox.arrived.notify_one();
    }

    pub(crate) fn is_running(&self) -> bool {
        self.inbox.lock().task.as_ref().is_some_and(|task| !task.is_finished())
    }
}

impl Drop for Feeder {
    fn drop(&mut self) {
        let mut state = self.inbox.lock();
        state.arrivals.clear();
        if let Some(task) = state.task.take() {
            task.abort();
        }
    }
}

/// Where new watches wait for the task.
#[derive(Debug, Default)]
struct Inbox {
    state: Mutex<InboxState>,
    arrived: Notify,
}

#[derive(Debug, Default)]
struct InboxState {
    arrivals: Vec<WatchSender>,
    task: Option<JoinHandle<()>>,
}

impl Inbox {
    fn lock(&self) -> MutexGuard<'_, InboxState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn take(&self) -> Vec<WatchSender> {
        std::mem::take(&mut self.lock().arrivals)
    }

    /// Whether the task may end. If so it counts as ended from here on: whoever comes later starts
    /// another.
    fn close_if_empty(&self) -> bool {
        let mut state = self.lock();
        let is_empty = state.arrivals.is_empty();
        if is_empty {
            state.task = None;
        }
        is_empty
    }
}

/// The task.
struct Feed {
    plan: Plan,
    lane: Lane,
    inbox: Arc<Inbox>,
    audience: Audience,
    outage: Option<Outage>,
    /// When what there was before was lost last, since boot.
    forgot: Option<Duration>,
    warned_unnotified: bool,
}

struct Outage {
    since: SystemTime,
    cause: String,
    retries: u32,
}

/// Why a wait ended.
enum Wake {
    Audience,
    Work,
}

impl Feed {
    fn new(plan: Plan, lane: Lane, inbox: Arc<Inbox>) -> Self {
        let audience = Audience::default();
        Self { plan, lane, inbox, audience, outage: None, forgot: None, warned_unnotified: false }
    }

    /// Follows the directory from outage to outage until nobody watches any more.
    async fn run(mut self) {
        loop {
            let plan = self.plan.clone();
            let Some(opened) = self.finish(self.lane.run(move || Session::open(&plan))).await
            else {
                return;
            };
            let ended = match opened {
                Ok(session) => self.follow(session).await,
                Err(error) => Some(error),
            };
            let Some(error) = ended else { return };
            self.begin_outage(&error);
            let retries = self.outage.as_ref().map_or(0, |outage| outage.retries);
            if self.sit_out(tokio::time::sleep(backoff(retries))).await.is_none() {
                return;
            }
        }
    }

    /// Ends with what broke, or `None` when nobody watches.
    async fn follow(&mut self, mut session: Session) -> Option<Error> {
        self.begin(&session);
        let changes = session.changes();
        loop {
            match self.wait(session.wake_at(), &changes).await {
                Wake::Audience => {
                    let arrived = self.inbox.take();
                    let forgetful = self.is_forgetful();
                    for sender in arrived {
                        sender.send(&session.tracker().reset(sender.scope(), forgetful));
                        self.audience.admit(sender);
                    }
                    if self.audience.is_empty() && self.inbox.close_if_empty() {
                        return None;
                    }
                }
                Wake::Work => {
                    let step = self.lane.run(move || {
                        let updates = session.step();
                        Ok((session, updates))
                    });
                    match self.finish(step).await? {
                        Ok((same, Ok(updates))) => {
                            session = same;
                            match self.outage {
                                None => self.audience.send(&updates),
                                Some(_) => self.begin(&session),
                            }
                        }
                        Ok((_, Err(error))) | Err(error) => return Some(error),
                    }
                }
            }
        }
    }

    /// Every arm is cancel-safe: a notification is kept, and the audience loses nobody.
    async fn wait(&mut self, until: Duration, changes: &Changes) -> Wake {
        tokio::select! {
            () = self.inbox.arrived.notified() => Wake::Audience,
            () = self.audience.left() => Wake::Audience,
            () = changes.noted() => Wake::Work,
            () = tokio::time::sleep_until(instant(until)) => Wake::Work,
        }
    }

    /// Waits for work. If it takes as long as no call may, that is an outage, and those who watch
    /// need not wait for its end to hear of it. `None` when nobody watches any more.
    async fn finish<T>(
        &mut self,
        work: impl Future<Output = Result<T, Error>>,
    ) -> Option<Result<T, Error>> {
        let mut work = pin!(work);
        if self.outage.is_none() {
            if let Ok(done) = tokio::time::timeout(CALL_TIMEOUT, &mut work).await {
                return Some(done);
            }
            self.begin_outage(&unanswered());
        }
        self.sit_out(work).await
    }

    /// Waits during an outage, which everybody who comes is told of. `None` when nobody watches any
    /// more. Every arm is cancel-safe, and what is waited for is polled to its end.
    async fn sit_out<T>(&mut self, end: impl Future<Output = T>) -> Option<T> {
        let mut end = pin!(end);
        loop {
            tokio::select! {
                ended = &mut end => return Some(ended),
                () = self.inbox.arrived.notified() => {}
                () = self.audience.left() => {}
            }
            for sender in self.inbox.take() {
                self.audience.admit(sender);
            }
            if let Some(outage) = &self.outage {
                self.audience.send(&[outage.stale()]);
            }
            if self.audience.is_empty() && self.inbox.close_if_empty() {
                return None;
            }
        }
    }

    fn begin_outage(&mut self, error: &Error) {
        self.forgot = Some(clock::now());
        if let Some(outage) = &mut self.outage {
            outage.retries += 1;
            return;
        }
        let cause = chain(error);
        let directory = self.plan.reader.directory.path().display();
        // Whoever watches is told, and it is theirs to make something of it.
        tracing::debug!(%directory, cause, "local registry cannot be followed; retrying");
        let outage = Outage { since: SystemTime::now(), cause, retries: 0 };
        self.audience.send(&[outage.stale()]);
        self.outage = Some(outage);
    }

    /// Tells everybody what there is, from which they follow what happens.
    fn begin(&mut self, session: &Session) {
        self.end_outage(session);
        self.audience.reset(session, self.is_forgetful());
    }

    fn end_outage(&mut self, session: &Session) {
        let directory = self.plan.reader.directory.path().display();
        if self.outage.take().is_some() {
            tracing::debug!(%directory, "local registry is followed again");
        }
        if let Some(cause) = session.unnotified.as_deref().filter(|_| !self.warned_unnotified) {
            tracing::warn!(%directory, cause, "local registry has no notifications; rescanning");
            self.warned_unnotified = true;
        }
    }

    /// After an outage, what is not there may be there again in a moment. For as long as a
    /// tombstone would have told about it, emptiness says nothing.
    fn is_forgetful(&self) -> bool {
        self.forgot.is_some_and(|at| clock::now() < at + TOMBSTONE_AGE)
    }
}

impl Outage {
    fn stale(&self) -> Update {
        Update::stale(self.since, &*self.cause)
    }
}

/// Who watches.
#[derive(Default)]
struct Audience {
    senders: Vec<Arc<WatchSender>>,
    leaving: FuturesUnordered<BoxFuture<'static, ()>>,
}

impl Audience {
    fn admit(&mut self, sender: WatchSender) {
        let sender = Arc::new(sender);
        self.senders.push(sender.clone());
        self.leaving.push(Box::pin(async move { sender.closed().await }));
    }

    fn is_empty(&self) -> bool {
        self.senders.is_empty()
    }

    fn send(&self, updates: &[Update]) {
        for sender in &self.senders {
            for update in updates {
                sender.send(update);
            }
        }
    }

    fn reset(&self, session: &Session, forgetful: bool) {
        for sender in &self.senders {
            sender.send(&session.tracker().reset(sender.scope(), forgetful));
        }
    }

    /// Waits until somebody left. Cancel-safe.
    async fn left(&mut self) {
        if self.leaving.next().await.is_none() {
            std::future::pending::<()>().await;
        }
        self.senders.retain(|sender| !sender.is_closed());
    }
}

/// 100 ms, growing to 1 s, a part of it random.
fn backoff(retries: u32) -> Duration {
    let full = Duration::from_millis(100 << retries.min(4)).min(Duration::from_secs(1));
    full.mul_f32(0.75 + fastrand::f32() / 4.0)
}

/// A time since boot on tokio's clock; a little later, as timers may be early by their rounding.
fn instant(since_boot: Duration) -> Instant {
    let ahead = since_boot.saturating_sub(clock::now()).min(Duration::from_secs(3_600));
    Instant::now() + ahead + Duration::from_millis(1)
}
