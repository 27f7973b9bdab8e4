//! One connection as its callers see it: admission, and the wait for an answer.

use std::borrow::Cow;
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;

use super::calls::{Calls, Outcome};
use crate::outbox::{Outbox, lock};
use crate::wire::{Head, Preface, kind, put_control, put_request, request_len};
use crate::{Code, Error, Execution, Phase, QueuedAt, Request};

/// One connection, shared by its callers and the task that drives it.
#[derive(Debug)]
pub(super) struct Connection {
    state: Mutex<State>,
    /// Wakes those who wait for a slot or for the connection to open; never more than one per slot.
    admission: Notify,
    /// Set under the lock, read without: nothing depends on it but which connection is asked first.
    is_gathering: AtomicBool,
    max_in_flight: usize,
    /// How soon the driver has to look at the clock when a call starts.
    keepalive_interval: Duration,
}

/// What callers and driver share.
#[derive(Debug)]
pub(super) struct State {
    stage: Stage,
    pub(super) outbox: Outbox,
    pub(super) calls: Calls,
    /// When the driver looks at the clock next; calls may ask for earlier.
    pub(super) next_check: Option<Instant>,
    /// Callers that wait for admission.
    queued: usize,
    /// Somebody was told to wait because too many bytes were.
    choked: bool,
    /// No new calls: the channel was closed, or the peer said go-away.
    pub(super) closing: bool,
    /// The driver writes, or waits for the socket: a frame that is queued now leaves with a later write.
    is_writing: bool,
}

#[derive(Debug)]
enum Stage {
    Connecting,
    Open {
        max_frame: usize,
        max_in_flight: usize,
    },
    /// No connection was made, for this reason.
    Failed(String),
    Closed,
}

/// What became of an attempt to start a call.
enum Start {
    Started(u64),
    Wait,
    Gone,
}

/// Callers wait while this many bytes are queued and not written.
pub(super) const MAX_UNWRITTEN: usize = 1024 * 1024;

/// Calls gather on a connection until so many bytes are queued: a few writes' worth.
const TOGETHER: usize = 64 * 1024;

impl AsMut<Outbox> for State {
    fn as_mut(&mut self) -> &mut Outbox {
        &mut self.outbox
    }
}

impl Connection {
    pub(super) fn new(max_in_flight: usize, keepalive_interval: Duration) -> Self {
        let state = State {
            stage: Stage::Connecting,
            outbox: Outbox::default(),
            calls: Calls::default(),
            next_check: None,
            queued: 0,
            choked: false,
            closing: false,
            is_writing: false,
        };
        let admission = Notify::new();
        let is_gathering = AtomicBool::new(false);
        Self {
            state: Mutex::new(state),
            admission,
            is_gathering,
            max_in_flight,
            keepalive_interval,
        }
    }

    /// Makes a call and waits for the payload of its response. `None` means that this connection
    /// takes no calls any more and this one was not started.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future withdraws the request, or tells the server that nobody waits.
    pub(super) async fn call(
        self: &Arc<Self>,
        mut now: Instant,
        request: &Request,
    ) -> Result<Option<bytes::Bytes>, Error> {
        let mut waited = false;
        loop {
            match self.try_start(request, now, waited).await? {
                Start::Started(id) => {
                    if let Some(queued) = request.extensions.get::<QueuedAt>() {
                        queued.set(Instant::now());
                    }
                    let answer = Answer { connection: self, id: Some(id), is_new: true };
                    return answer.await.map(Some);
                }
                Start::Gone => return Ok(None),
                // Boxed, so that calls that need not wait do not carry room for it.
                Start::Wait => Box::pin(self.wait(request.deadline)).await?,
            }
            (now, waited) = (Instant::now(), true);
        }
    }

    /// Tries to start a call now, by the waker of the task that polls this.
    fn try_start<'a>(
        &'a self,
        request: &'a Request,
        now: Instant,
        waited: bool,
    ) -> impl Future<Output = Result<Start, Error>> + 'a {
        poll_fn(move |cx| {
            let started = self.start(request, now, waited, cx.waker());
            if started.is_err() && waited {
                // It was woken for a slot that it does not take: the next in line may.
                self.admission.notify_one();
            }
            Poll::Ready(started)
        })
    }

    /// Whether a call that is made now takes a place here, and leaves with others that wait to be
    /// written.
    pub(super) fn is_gathering(&self) -> bool {
        self.is_gathering.load(Relaxed)
    }

    /// The driver begins to write what is queued, or has written it.
    pub(super) fn writes(&self, is_writing: bool) {
        let mut state = self.lock();
        state.is_writing = is_writing;
        if is_writing {
            self.is_gathering.store(false, Relaxed);
        }
    }

    /// Accepts no new calls; the driver ends once those that run have.
    pub(super) fn close(&self) {
        let mut state = self.lock();
        state.closing = true;
        let waker = state.outbox.wake();
        drop(state);
        self.admission.notify_waiters();
        wake(waker);
    }

    pub(super) fn state(&self) -> &Mutex<State> {
        &self.state
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }

    /// The peer has answered the preface: calls may start.
    pub(super) fn opened(&self, peer: Preface) {
        self.lock().stage = Stage::Open {
            max_frame: peer.max_frame as usize,
            max_in_flight: self.max_in_flight.min(peer.max_in_flight as usize),
        };
        self.admission.notify_waiters();
    }

    /// No connection could be made.
    pub(super) fn failed(&self, reason: String) {
        self.lock().stage = Stage::Failed(reason);
        self.admission.notify_waiters();
    }

    /// The connection is gone: every call is told so, and whether its request had left.
    pub(super) fn lost(&self, reason: &str) {
        let mut wakers = Vec::new();
        let mut state = self.lock();
        if !matches!(state.stage, Stage::Failed(_)) {
            state.stage = Stage::Closed;
        }
        state.fail(&mut wakers, |outbox, call| {
            let message = format!("the connection was lost: {reason}");
            Some(undone(Code::Unavailable, outbox.is_written(call.frame), message))
        });
        drop(state);
        self.admission.notify_waiters();
        wake(wakers);
    }

    /// Queues the request if the connection takes it now; `waker` is woken by its outcome.
    fn start(
        &self,
        request: &Request,
        now: Instant,
        waited: bool,
        waker: &Waker,
    ) -> Result<Start, Error> {
        let payload = request_len(request).ok_or_else(name_too_long)?;
        let timeout = time_left(request.deadline, now)?;
        let mut state = self.lock();
        let (max_frame, places) = match state.admit(waited)? {
            Admission::Yes { max_frame, places } => (max_frame, places),
            Admission::Wait => {
                // Others had better not wait behind it.
                self.is_gathering.store(false, Relaxed);
                return Ok(Start::Wait);
            }
            Admission::Gone => return Ok(Start::Gone),
        };
        if Head::REST + payload > max_frame {
            return Err(too_large(payload, max_frame));
        }
        let State { calls, outbox, is_writing, .. } = &mut *state;
        let id = calls.insert(request.deadline, waker.clone(), |id| {
            outbox.push(|out| put_request(out, id, request, timeout, payload))
        });
        let has_room = places > 1 && outbox.unwritten() < TOGETHER;
        self.is_gathering.store(has_room && !*is_writing, Relaxed);
        let quiet = now + self.keepalive_interval;
        let waker = state.check_by(request.deadline.map_or(quiet, |deadline| deadline.min(quiet)));
        drop(state);
        wake(waker);
        Ok(Start::Started(id))
    }

    /// Waits until another attempt to start is worth while.
    async fn wait(&self, deadline: Option<Instant>) -> Result<(), Error> {
        let mut notified = std::pin::pin!(self.admission.notified());
        let _queued = {
            let mut state = self.lock();
            if !matches!(state.admit(true), Ok(Admission::Wait)) {
                return Ok(());
            }
            // Enabled under the lock: what frees a slot afterwards finds this caller waiting.
            notified.as_mut().enable();
            state.queued += 1;
            Queued(self)
        };
        match deadline {
            None => notified.await,
            Some(deadline) => {
                let in_time = tokio::time::timeout_at(deadline, notified).await;
                in_time.map_err(|_| expired(false, Phase::Send))?;
            }
        }
        Ok(())
    }

    /// Tells one who waits, if anybody does, that there is room.
    fn released(&self, state: MutexGuard<'_, State>) {
        let waited_for = state.queued > 0;
        drop(state);
        if waited_for {
            self.admission.notify_one();
        }
    }

    /// Has all who wait for admission ask again.
    pub(super) fn ask_again(&self) {
        self.admission.notify_waiters();
    }
}

/// Whether a call may start.
enum Admission {
    Yes {
        max_frame: usize,
        /// How many may, this one among them.
        places: usize,
    },
    Wait,
    Gone,
}

impl State {
    /// Decides about a call; `waited` says that it was there when the connection was being made,
    /// so that a failure to make it is its failure too.
    fn admit(&mut self, waited: bool) -> Result<Admission, Error> {
        match &self.stage {
            Stage::Failed(reason) if waited => Err(Error::new(
                Code::Unavailable,
                Phase::Connect,
                Execution::NotSent,
                reason.clone(),
            )),
            Stage::Failed(_) | Stage::Closed => Ok(Admission::Gone),
            _ if self.closing => Ok(Admission::Gone),
            Stage::Connecting => Ok(Admission::Wait),
            Stage::Open { max_frame, max_in_flight } => {
                self.choked |= self.outbox.unwritten() >= MAX_UNWRITTEN;
                let places = max_in_flight.saturating_sub(self.calls.len());
                let room = places > 0 && !self.choked;
                let max_frame = *max_frame;
                Ok(if room { Admission::Yes { max_frame, places } } else { Admission::Wait })
            }
        }
    }

    /// Whether enough has been written since somebody was told to wait for that.
    pub(super) fn unchoke(&mut self) -> bool {
        let choked = std::mem::replace(&mut self.choked, self.outbox.unwritten() >= MAX_UNWRITTEN);
        choked && !self.choked
    }

    /// Whether others may be about to make calls, whose frames could leave with what is queued: who was
    /// answered is about to call again, and with `siblings`, other connections to the node, who was
    /// answered on one of those may do so here.
    pub(super) fn may_gather(&self, siblings: bool) -> bool {
        let waits = self.outbox.unwritten() > 0 && !self.is_writing;
        self.calls.answered() > 1 || (siblings && waits && self.calls.len() > 1)
    }

    /// Has the driver look at the clock by `at`, and write what is queued.
    fn check_by(&mut self, at: Instant) -> Option<Waker> {
        if self.next_check.is_some_and(|next| next <= at) {
            return self.outbox.wake();
        }
        self.next_check = Some(at);
        self.outbox.wake_always()
    }

    /// Ends every waiting call that `decide` returns an error for.
    pub(super) fn fail(
        &mut self,
        wakers: &mut Vec<Waker>,
        mut decide: impl FnMut(&mut Outbox, super::calls::Waiting<'_>) -> Option<Error>,
    ) {
        let Self { calls, outbox, .. } = self;
        calls.fail(wakers, |call| decide(outbox, call));
    }

    /// Ends the calls whose deadline has passed.
    pub(super) fn expire(&mut self, now: Instant, wakers: &mut Vec<Waker>) {
        self.fail(wakers, |outbox, call| {
            if call.deadline.is_none_or(|deadline| deadline > now) {
                return None;
            }
            let left = give_up(outbox, call.id, call.frame);
            Some(expired(left, if left { Phase::Wait } else { Phase::Send }))
        });
    }

    /// The peer takes no calls above `last`; returns whether it took any, which it
    /// cannot have when none was made.
    pub(super) fn go_away(&mut self, last: u64, wakers: &mut Vec<Waker>) -> bool {
        self.closing = true;
        self.fail(wakers, |_, call| {
            let message = "the node takes no further calls and did not take this one";
            let refused =
                || Error::new(Code::Unavailable, Phase::Wait, Execution::Refused, message);
            (call.id > last).then(refused)
        });
        last > 0 && self.calls.has_begun()
    }

    /// Whether nothing is left to do on a connection that takes no calls.
    pub(super) fn is_finished(&self) -> bool {
        self.closing && self.calls.len() == 0 && self.outbox.unwritten() == 0
    }
}

/// Takes a request back; returns whether it may have left nevertheless.
fn give_up(outbox: &mut Outbox, id: u64, frame: &crate::outbox::Span) -> bool {
    let withdrawn = outbox.withdraw(frame);
    if !withdrawn {
        outbox.push(|out| put_control(out, kind::CANCEL, id));
    }
    !withdrawn
}

/// The wait for the answer to one call.
struct Answer<'a> {
    connection: &'a Connection,
    /// `None` once the outcome was collected.
    id: Option<u64>,
    /// Not polled yet: the call was started by this same poll of its task, with its waker.
    is_new: bool,
}

impl Future for Answer<'_> {
    type Output = Outcome;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Outcome> {
        let id = self.id.expect("polled after it was ready");
        if std::mem::take(&mut self.is_new) {
            return Poll::Pending;
        }
        let mut state = self.connection.lock();
        let outcome = std::task::ready!(state.calls.poll(id, cx.waker()));
        self.connection.released(state);
        self.id = None;
        Poll::Ready(outcome)
    }
}

impl Drop for Answer<'_> {
    fn drop(&mut self) {
        let Some(id) = self.id else { return };
        let mut state = self.connection.lock();
        let frame = state.calls.remove(id);
        let open = matches!(state.stage, Stage::Open { .. });
        let given_up = frame.filter(|_| open);
        let waker = given_up.and_then(|frame| {
            give_up(&mut state.outbox, id, &frame);
            state.outbox.wake()
        });
        self.connection.released(state);
        wake(waker);
    }
}

/// Counts a caller among those who wait for admission.
struct Queued<'a>(&'a Connection);

impl Drop for Queued<'_> {
    fn drop(&mut self) {
        self.0.lock().queued -= 1;
    }
}

/// Wakes tasks; to be called without the lock, which they are going to take.
pub(super) fn wake(wakers: impl IntoIterator<Item = Waker>) {
    wakers.into_iter().for_each(Waker::wake);
}

/// Returns what remains until the deadline, or the error that nothing does.
fn time_left(deadline: Option<Instant>, now: Instant) -> Result<Option<Duration>, Error> {
    let Some(deadline) = deadline else { return Ok(None) };
    let left = deadline.saturating_duration_since(now);
    if left.is_zero() { Err(expired(false, Phase::Send)) } else { Ok(Some(left)) }
}

fn expired(sent: bool, phase: Phase) -> Error {
    let execution = if sent { Execution::MaybeExecuted } else { Execution::NotSent };
    let message = match phase {
        Phase::Wait => "no answer came before the deadline",
        _ => "the deadline passed before the request was sent",
    };
    Error::new(Code::DeadlineExceeded, phase, execution, message)
}

/// The error of a call that will have no answer.
fn undone(code: Code, sent: bool, message: impl Into<Cow<'static, str>>) -> Error {
    match sent {
        true => Error::new(code, Phase::Wait, Execution::MaybeExecuted, message),
        false => Error::new(code, Phase::Send, Execution::NotSent, message),
    }
}

fn name_too_long() -> Error {
    let message = "the names of contract and method are at most 255 bytes each";
    Error::new(Code::InvalidArgument, Phase::Send, Execution::NotSent, message)
}

fn too_large(payload: usize, max_frame: usize) -> Error {
    let message = format!(
        "the request of {payload} bytes is more than the {max_frame} the node accepts in a frame"
    );
    Error::new(Code::ResourceExhausted, Phase::Send, Execution::NotSent, message)
}
