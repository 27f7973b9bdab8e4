//! The task that feeds the watches of a registry handle.

use std::future::Future;
use std::pin::pin;
use std::time::Duration;

use micro_registry::feed::{Audience, Feeder};
use micro_registry::{Error, WatchSender};
use tokio::time::Instant;

use crate::LocalConfig;
use crate::changes::Changes;
use crate::clock;
use crate::lane::{CALL_TIMEOUT, Lane, unanswered};
use crate::reader::Reader;
use crate::session::{Plan, Session};
use crate::tracker::TOMBSTONE_AGE;

/// Feeds all watches by one task. Dropping it ends the task and the watches.
#[derive(Debug)]
pub(crate) struct Watching {
    plan: Plan,
    /// One for all tasks: work of an earlier one may still hang.
    lane: Lane,
    feeder: Feeder,
}

impl Watching {
    pub(crate) fn new(reader: Reader, config: &LocalConfig) -> Self {
        let LocalConfig { rescan_interval, use_notify, .. } = *config;
        let plan = Plan { reader, rescan_interval, use_notify };
        Self { plan, lane: Lane::new(), feeder: Feeder::new() }
    }

    pub(crate) fn attach(&self, watch: WatchSender) {
        let (plan, lane) = (self.plan.clone(), self.lane.clone());
        self.feeder.attach(watch, |audience| Feed::new(plan, lane, audience).run());
    }

    pub(crate) fn is_running(&self) -> bool {
        self.feeder.is_running()
    }
}

/// The task.
struct Feed {
    plan: Plan,
    lane: Lane,
    audience: Audience,
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
    fn new(plan: Plan, lane: Lane, audience: Audience) -> Self {
        Self { plan, lane, audience, forgot: None, warned_unnotified: false }
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
            let pause = tokio::time::sleep(self.audience.pause());
            if self.audience.meanwhile(pause).await.is_none() {
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
                    let forgetful = self.is_forgetful();
                    self.audience.admit(|scope| session.tracker().reset(scope, forgetful));
                    if self.audience.is_over() {
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
                            match self.audience.is_lost() {
                                false => self.audience.send(&updates),
                                true => self.begin(&session),
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
            () = self.audience.changed() => Wake::Audience,
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
        if !self.audience.is_lost() {
            if let Ok(done) = tokio::time::timeout(CALL_TIMEOUT, &mut work).await {
                return Some(done);
            }
            self.begin_outage(&unanswered());
        }
        self.audience.meanwhile(work).await
    }

    fn begin_outage(&mut self, error: &Error) {
        self.forgot = Some(clock::now());
        if self.audience.lose(error) {
            let directory = self.plan.reader.directory.path().display();
            let cause = error.chain();
            // Whoever watches is told, and it is theirs to make something of it.
            tracing::debug!(%directory, cause, "local registry cannot be followed; retrying");
        }
    }

    /// Tells everybody what there is, from which they follow what happens.
    fn begin(&mut self, session: &Session) {
        let forgetful = self.is_forgetful();
        let directory = self.plan.reader.directory.path().display();
        if self.audience.reset(|scope| session.tracker().reset(scope, forgetful)) {
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

/// A time since boot on tokio's clock; a little later, as timers may be early by their rounding.
fn instant(since_boot: Duration) -> Instant {
    let ahead = since_boot.saturating_sub(clock::now()).min(Duration::from_secs(3_600));
    Instant::now() + ahead + Duration::from_millis(1)
}
