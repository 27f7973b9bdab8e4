//! The task that feeds the watches of a registry handle.

use std::future::Future;
use std::pin::pin;
use std::time::Duration;

use async_trait::async_trait;
use micro_registry::feed::{Audience, Feeders, Look, Source};
use micro_registry::{Error, Scope, Update, WatchSender};
use tokio::time::Instant;

use crate::LocalConfig;
use crate::changes::Changes;
use crate::clock;
use crate::lane::{CALL_TIMEOUT, Lane, unanswered};
use crate::reader::Reader;
use crate::session::{Plan, Session};
use crate::tracker::TOMBSTONE_AGE;

/// Feeds all watches by one task, besides those of single nodes, which have one for each node.
/// Dropping it ends the tasks and the watches.
#[derive(Debug)]
pub(crate) struct Watching {
    plan: Plan,
    /// One for all tasks: work of an earlier one may still hang.
    lane: Lane,
    feeders: Feeders,
}

impl Watching {
    pub(crate) fn new(reader: Reader, config: &LocalConfig) -> Self {
        let LocalConfig { rescan_interval, use_notify, .. } = *config;
        let plan = Plan { reader, scope: Scope::All, rescan_interval, use_notify };
        Self { plan, lane: Lane::new(), feeders: Feeders::new() }
    }

    pub(crate) fn attach(&self, watch: WatchSender) {
        let (plan, lane) = (self.plan.of(watch.scope()), self.lane.clone());
        self.feeders.attach(plan.scope.clone(), watch, || Feed::new(plan, lane));
    }

    pub(crate) fn is_running(&self) -> bool {
        self.feeders.running() > 0
    }
}

/// The directory, from outage to outage.
struct Feed {
    plan: Plan,
    lane: Lane,
    /// When what there was before was lost last, since boot.
    forgot: Option<Duration>,
    warned_unnotified: bool,
}

/// Why a wait ended.
enum Wake {
    Audience,
    Work,
}

impl Feed {
    fn new(plan: Plan, lane: Lane) -> Self {
        Self { plan, lane, forgot: None, warned_unnotified: false }
    }

    async fn follow_session(
        &mut self,
        mut session: Session,
        look: Look,
        audience: &mut Audience,
    ) -> Option<Error> {
        self.begin(&session, look, audience);
        let changes = session.changes();
        loop {
            let look = audience.begin_look();
            let is_awaited = look.is_awaited();
            if !is_awaited && let Wake::Audience = wait(session.wake_at(), &changes, audience).await
            {
                match audience.is_over() {
                    true => return None,
                    false => continue,
                }
            }
            let step = self.lane.run(move || {
                let updates = if is_awaited { session.look_again() } else { session.step() };
                Ok((session, updates))
            });
            match self.finish(step, audience).await? {
                Ok((same, Ok(updates))) => {
                    session = same;
                    self.tell(&session, &updates, look, audience);
                }
                Ok((_, Err(error))) | Err(error) => return Some(error),
            }
        }
    }

    /// Tells everybody what a step found.
    fn tell(&mut self, session: &Session, updates: &[Update], look: Look, audience: &mut Audience) {
        if audience.is_lost() {
            return self.begin(session, look, audience);
        }
        let forgetful = self.is_forgetful();
        audience.send(updates);
        audience.admit(look, |scope| session.tracker().reset(scope, forgetful));
    }

    /// Waits for work. If it takes as long as no call may, that is an outage, and those who watch
    /// need not wait for its end to hear of it. `None` when nobody watches any more.
    async fn finish<T>(
        &mut self,
        work: impl Future<Output = Result<T, Error>>,
        audience: &mut Audience,
    ) -> Option<Result<T, Error>> {
        let mut work = pin!(work);
        if !audience.is_lost() {
            if let Ok(done) = tokio::time::timeout(CALL_TIMEOUT, &mut work).await {
                return Some(done);
            }
            self.forgot = Some(clock::now());
            audience.lose(&unanswered());
        }
        audience.meanwhile(work).await
    }

    /// Tells everybody what there is, from which they follow what happens.
    fn begin(&mut self, session: &Session, look: Look, audience: &mut Audience) {
        let forgetful = self.is_forgetful();
        audience.reset(look, |scope| session.tracker().reset(scope, forgetful));
        if let Some(cause) = session.unnotified.as_deref().filter(|_| !self.warned_unnotified) {
            let directory = self.plan.reader.directory.path().display();
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

#[async_trait]
impl Source for Feed {
    fn name(&self) -> String {
        format!("local registry {}", self.plan.reader.directory.path().display())
    }

    async fn follow(&mut self, look: Look, audience: &mut Audience) -> Option<Error> {
        if audience.is_lost() {
            self.forgot = Some(clock::now());
        }
        let plan = self.plan.clone();
        let opening = self.lane.run(move || Session::open(&plan));
        match self.finish(opening, audience).await? {
            Ok(session) => self.follow_session(session, look, audience).await,
            Err(error) => Some(error),
        }
    }
}

/// Every arm is cancel-safe: a notification is kept, and the audience loses nobody.
async fn wait(until: Duration, changes: &Changes, audience: &mut Audience) -> Wake {
    tokio::select! {
        () = audience.changed() => Wake::Audience,
        () = changes.noted() => Wake::Work,
        () = tokio::time::sleep_until(instant(until)) => Wake::Work,
    }
}

/// A time since boot on tokio's clock; a little later, as timers may be early by their rounding.
fn instant(since_boot: Duration) -> Instant {
    let ahead = since_boot.saturating_sub(clock::now()).min(Duration::from_secs(3_600));
    Instant::now() + ahead + Duration::from_millis(1)
}
