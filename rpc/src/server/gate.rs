//! Which calls run, wait and are sent away when there is more to do than can be done.

use std::sync::atomic::Ordering::{Relaxed, SeqCst};
use std::sync::atomic::{AtomicU64, AtomicUsize};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use micro_overload::{Config, End, Limiter};
use tokio::sync::oneshot;
use tokio::time::{Instant, timeout_at};

use super::call::{self, Outcome};
use super::queue::{Queue, Ticket};
use super::shared::Shared;
use crate::outbox::lock;
use crate::{Code, Criticality, Limits, Status};

/// Counts the calls of all connections. What is let in at once costs it a few atomic operations;
/// what locks or allocates is on the way of calls that wait or are sent away.
pub(super) struct Gate {
    limiter: Limiter,
    /// As many as wait, for those who only ask whether somebody does.
    queued: AtomicUsize,
    /// As many as were sent away because there was too much to do.
    shed: AtomicU64,
    line: Mutex<Line>,
    max_queued: usize,
    max_queue_time: Duration,
}

/// Who waits. Whoever takes an entry out knows that the call has not begun.
struct Line {
    queue: Queue<Entry>,
    is_closed: bool,
}

impl Line {
    /// Whether somebody waits whom a call of this class may not pass.
    fn is_behind(&self, class: Criticality) -> bool {
        self.queue.first().is_some_and(|first| first <= class)
    }
}

struct Entry {
    method: usize,
    /// Hands over a place; `None` once it is certain that none will come.
    turn: Option<oneshot::Sender<Running>>,
}

/// What becomes of a call.
pub(super) enum Verdict {
    Run,
    /// In a box, so that calls which run at once do not move it around.
    Wait(Box<Waiting>),
}

/// Of the places, how many percent each class of criticality may use, most important first.
const SHARES: [usize; Criticality::ALL.len()] = [100, 95, 75, 50];

impl Gate {
    /// Creates a gate for the calls of so many methods.
    pub(super) fn new(limits: &Limits, methods: usize) -> Self {
        let Limits { adaptive, min_running, max_running, .. } = *limits;
        let config = Config { max: max_running, min: min_running, adaptive };
        Self {
            limiter: Limiter::new(&config, methods),
            queued: AtomicUsize::new(0),
            shed: AtomicU64::new(0),
            line: Mutex::new(Line { queue: Queue::new(), is_closed: false }),
            max_queued: limits.max_queued,
            max_queue_time: limits.max_queue_time,
        }
    }

    pub(super) fn queued(&self) -> usize {
        self.queued.load(SeqCst)
    }

    pub(super) fn running(&self) -> usize {
        self.limiter.running()
    }

    pub(super) fn shed(&self) -> u64 {
        self.shed.load(Relaxed)
    }

    /// How many may run, of the class that may have most.
    pub(super) fn limit(&self) -> usize {
        self.limiter.limit()
    }

    /// Says whether a call runs now, waits for its turn or, as the error, is sent away. Handlers
    /// that end at once are never among the running, so nothing is counted here: as many calls too
    /// many may begin as there are threads.
    pub(super) fn admit(
        shared: &Arc<Shared>,
        method: usize,
        class: Criticality,
    ) -> Result<Verdict, Refused> {
        let gate = &shared.gate;
        if gate.queued() == 0 && gate.limiter.running() < gate.places(class) {
            return Ok(Verdict::Run);
        }
        let mut line = lock(&gate.line);
        if line.is_closed {
            return Err(Refused::Stopping);
        }
        // Who gave a place back may not have called anybody yet, and nobody passes those who wait.
        Self::call_first(shared, &mut line);
        if !line.is_behind(class) && gate.limiter.running() < gate.places(class) {
            return Ok(Verdict::Run);
        }
        if gate.is_full(&line, class) {
            return Err(gate.overloaded());
        }
        let (turn, comes) = oneshot::channel();
        let ticket = line.queue.enter(class, Entry { method, turn: Some(turn) });
        gate.queued.store(line.queue.len(), SeqCst);
        // A place that was given back before this call was seen to wait is nobody else's to notice.
        Self::call_first(shared, &mut line);
        let patience = Instant::now() + gate.max_queue_time;
        let shared = Arc::clone(shared);
        Ok(Verdict::Wait(Box::new(Waiting { shared, ticket, turn: comes, patience })))
    }

    /// Says whether a call would be sent away, before anybody has read more of it than its class.
    pub(super) fn sheds(&self, class: Criticality) -> Option<Refused> {
        let is_full =
            self.limiter.running() >= self.places(class) && self.is_full(&lock(&self.line), class);
        is_full.then(|| self.overloaded())
    }

    /// Sends away all that wait, and lets nobody wait from now on.
    pub(super) fn close(&self) {
        let mut line = lock(&self.line);
        line.is_closed = true;
        line.queue.all().for_each(|entry| entry.turn = None);
    }

    /// Takes a call out that waits, and returns whether it did: then it never runs.
    pub(super) fn withdraw(&self, ticket: Ticket) -> bool {
        let mut line = lock(&self.line);
        let waited = line.queue.leave(ticket).is_some();
        self.queued.store(line.queue.len(), SeqCst);
        waited
    }

    /// Hands places to those that wait, if there are both.
    fn call_next(shared: &Arc<Shared>) {
        if shared.gate.queued() > 0 {
            Self::call_first(shared, &mut lock(&shared.gate.line));
        }
    }

    /// Less important calls have no more places than the first, so they wait behind it.
    fn call_first(shared: &Arc<Shared>, line: &mut Line) {
        let gate = &shared.gate;
        while let Some(class) = line.queue.first()
            && !line.is_closed
            && gate.limiter.try_begin(gate.places(class))
            && let Some(Entry { method, turn: Some(turn) }) = line.queue.pop()
        {
            // Somebody is there to take it: who waits no longer leaves the queue first.
            let _ = turn.send(Running::granted(shared, method));
        }
        gate.queued.store(line.queue.len(), SeqCst);
    }

    /// How many of a class may run.
    fn places(&self, class: Criticality) -> usize {
        share(self.limiter.limit(), class)
    }

    /// Whether no more of a class may wait.
    fn is_full(&self, line: &Line, class: Criticality) -> bool {
        let room = share(self.max_queued.min(self.limiter.limit()), class);
        line.queue.len_of(class) >= room
    }

    fn overloaded(&self) -> Refused {
        self.shed.fetch_add(1, Relaxed);
        Refused::Overloaded(self.limiter.pace().clamp(RETRY.0, RETRY.1))
    }
}

/// Why a call is sent away.
#[derive(Debug)]
pub(super) enum Refused {
    /// There is too much to do; after so long it may come again.
    Overloaded(Duration),
    Stopping,
}

impl From<Refused> for Status {
    fn from(refused: Refused) -> Self {
        match refused {
            Refused::Overloaded(wait) => {
                Self::new(Code::ResourceExhausted, OVERLOADED).with_retry_after(wait).refused()
            }
            Refused::Stopping => call::draining(),
        }
    }
}

/// What people are told of an overload.
pub(super) const OVERLOADED: &str = "the server has too much to do";

/// The shortest and the longest time after which a call that was sent away may come again.
const RETRY: (Duration, Duration) = (Duration::from_millis(10), Duration::from_secs(1));

/// What a class may use of so many places: at least one, if there are any.
fn share(places: usize, class: Criticality) -> usize {
    (places * SHARES[class as usize]).div_ceil(100)
}

/// A call that waits for its turn, which leaves the queue on drop.
pub(super) struct Waiting {
    shared: Arc<Shared>,
    ticket: Ticket,
    turn: oneshot::Receiver<Running>,
    patience: Instant,
}

impl Waiting {
    pub(super) fn ticket(&self) -> Ticket {
        self.ticket
    }

    /// Waits for the call's turn to run.
    pub(super) async fn turn(mut self, deadline: Option<Instant>) -> Result<Running, Status> {
        let until = deadline.map_or(self.patience, |deadline| deadline.min(self.patience));
        let turn = timeout_at(until, &mut self.turn).await;
        if deadline.is_some_and(|deadline| deadline <= Instant::now()) {
            return Err(call::expired().refused());
        }
        match turn {
            Ok(Ok(running)) => Ok(running),
            Ok(Err(_)) => Err(call::draining()),
            Err(_) => Err(self.shared.gate.overloaded().into()),
        }
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        // A place that comes before this is given back with the receiver, which is dropped next.
        self.shared.gate.withdraw(self.ticket);
    }
}

/// Counts a call among those that wait in a handler, until dropped.
pub(super) struct Running {
    shared: Arc<Shared>,
    method: usize,
    since: Instant,
    /// `None` of a call that has not begun.
    end: Option<End>,
}

impl Running {
    /// Of a call that has begun.
    pub(super) fn new(shared: &Arc<Shared>, method: usize, since: Instant) -> Self {
        shared.gate.limiter.begin();
        Self { shared: Arc::clone(shared), method, since, end: Some(End::GivenUp) }
    }

    /// Of a call that waited, and has been counted.
    fn granted(shared: &Arc<Shared>, method: usize) -> Self {
        Self { shared: Arc::clone(shared), method, since: Instant::now(), end: None }
    }

    /// The call begins.
    pub(super) fn begins(&mut self) {
        (self.since, self.end) = (Instant::now(), Some(End::GivenUp));
    }

    /// The call has an outcome; dropped without one, it was given up, as one that has no time left
    /// is. How long another error took says nothing of how long an answer takes: those come at once
    /// while something is away that the handler needs.
    pub(super) fn ended(mut self, outcome: &Outcome) {
        self.end = Some(match outcome {
            Ok(_) => End::Ended,
            Err(status) if status.code() == Code::DeadlineExceeded => End::GivenUp,
            Err(_) => End::Failed,
        });
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let limiter = &self.shared.gate.limiter;
        match self.end {
            Some(end) => limiter.end(self.method, self.since, end),
            None => limiter.release(),
        }
        Gate::call_next(&self.shared);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::server::{ServerConfig, Web};
    use crate::{Request, Response, Router};

    /// What a server of so many places has, for one method.
    fn shared(max_running: usize) -> Arc<Shared> {
        let echo = |request: Request| async move { Ok(Response::new(request.codec, request.body)) };
        let routes = Router::new().route("test", "echo", echo).build().ok().unwrap();
        let limits = Limits { max_running, ..Limits::default() };
        let config = ServerConfig { limits, ..ServerConfig::default() };
        Arc::new(Shared::new(routes, config, Web::default()))
    }

    fn wait(shared: &Arc<Shared>, class: Criticality) -> Box<Waiting> {
        match Gate::admit(shared, 0, class) {
            Ok(Verdict::Wait(waiting)) => waiting,
            Ok(Verdict::Run) => panic!("there is a place"),
            Err(refused) => panic!("{refused:?}"),
        }
    }

    /// A place that was handed to a call goes on to the next when the call never begins: because it
    /// is gone, or because its deadline has passed by then.
    #[tokio::test(start_paused = true)]
    async fn a_place_that_is_not_taken_goes_on() {
        let shared = shared(1);
        let [first, second, third, _] = Criticality::ALL;
        let running = Running::new(&shared, 0, Instant::now());
        let (gone, late) = (wait(&shared, first), wait(&shared, second));
        let last = wait(&shared, third);
        drop(running);
        assert_eq!((shared.gate.running(), shared.gate.queued()), (1, 2));
        drop(gone);
        assert_eq!((shared.gate.running(), shared.gate.queued()), (1, 1));
        let refused = late.turn(Some(Instant::now())).await.err().unwrap();
        assert_eq!(refused.code(), Code::DeadlineExceeded);
        assert_eq!((shared.gate.running(), shared.gate.queued()), (1, 0));
        drop(last.turn(None).await.unwrap());
        assert_eq!(shared.gate.running(), 0);
    }

    /// Between the moment when a call gives its place back and the one when it calls who waits, nobody
    /// takes it who came later.
    #[tokio::test(start_paused = true)]
    async fn nobody_passes_those_who_wait() {
        let shared = shared(1);
        let [_, high, low, _] = Criticality::ALL;
        shared.gate.limiter.begin();
        let first = wait(&shared, low);
        shared.gate.limiter.release();
        let _second = wait(&shared, high);
        assert_eq!((shared.gate.running(), shared.gate.queued()), (1, 1));
        assert!(first.turn(None).await.is_ok());
    }

    /// Who matters more runs at once where the places of the others are all taken.
    #[tokio::test(start_paused = true)]
    async fn who_matters_more_passes() {
        let shared = shared(2);
        let [most, .., least] = Criticality::ALL;
        shared.gate.limiter.begin();
        let _waits = wait(&shared, least);
        assert!(matches!(Gate::admit(&shared, 0, most), Ok(Verdict::Run)));
    }

    /// Who was handed a place may have begun, who was not has certainly not, also after the end.
    #[tokio::test(start_paused = true)]
    async fn tells_who_has_not_begun() {
        let shared = shared(1);
        let running = Running::new(&shared, 0, Instant::now());
        let [first, second, ..] = Criticality::ALL;
        let (called, waits) = (wait(&shared, first), wait(&shared, second));
        drop(running);
        shared.gate.close();
        assert!(!shared.gate.withdraw(called.ticket()));
        assert!(shared.gate.withdraw(waits.ticket()) && !shared.gate.withdraw(waits.ticket()));
        assert_eq!(waits.turn(None).await.err().unwrap().code(), Code::Unavailable);
        assert!(called.turn(None).await.is_ok());
    }

    /// Of any number of places, more important classes have at least as many, and each has one.
    #[test]
    fn shares_are_ordered() {
        for places in 1..1000 {
            let shares = Criticality::ALL.map(|class| share(places, class));
            assert!(shares.is_sorted_by(|more, less| more >= less), "{shares:?}");
            assert!(shares[0] == places && *shares.last().unwrap() >= 1, "{shares:?}");
        }
    }
}
