//! One `micro/1` connection of a server: reads, dispatches and writes, all in one task.

mod calls;
mod serve;

use std::collections::HashMap;
use std::future::poll_fn;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};

use bytes::{BufMut, BytesMut};
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::{Instant, sleep_until};

pub(super) use self::serve::{Fate, serve};
use self::serve::{Fault, close};
use super::LINGER;
use super::call::{self, Outcome};
use super::places::Pulse;
use super::queue::Ticket;
use super::rate::Rate;
use super::shared::{Phase, Place, Shared};
use super::stall::{Owed, Stall};
use crate::Peer;
use crate::outbox::{Outbox, lock};
use crate::pipe::Pipe;
use crate::wire::{Incoming, Preface, STOP_SOON, WireError, kind, put_control, put_response};

/// While more than this waits to be written, no frame is looked at and nothing is read. Calls that
/// run already still add their answers, so what waits is bounded by this and by their number.
const MAX_UNWRITTEN: usize = 1024 * 1024;
/// After so much the clock is read, though nothing ran: some microseconds have passed.
const MAX_UNTOLD: usize = 8 * 1024;
/// What a frame counts among that, whatever is copied of it.
const FRAME: usize = 256;

/// One connection: its task reads, starts handlers and writes; handlers that wait have tasks of
/// their own, which end with the session.
struct Session {
    pipe: Pipe,
    peer: Peer,
    rate: Option<Arc<Rate>>,
    shared: Arc<Shared>,
    pulse: Arc<Pulse>,
    /// The longest frame the client accepts.
    max_frame: usize,
    exchange: Arc<Mutex<Exchange>>,
    tasks: JoinSet<()>,
    /// The highest call id so far.
    seen: u64,
    /// Frames handled so far, which tells one that is coming from the next.
    frames: u64,
    /// When the last bytes came, from which the timeouts of their requests count.
    arrived: Instant,
    /// Whether the first request of those bytes was noted, as all came at the same time.
    has_beaten: bool,
    /// The time, as of late: a reading of the clock takes as long as much of what a quick call needs,
    /// so there is one for each.
    now: Instant,
    /// What was done since the clock was read, in bytes that were copied.
    untold: usize,
    /// What waited to be written when it was last looked at, or added to.
    unwritten: usize,
    /// Whether frames may be there that nobody has looked at yet.
    backlog: bool,
    farewell: Farewell,
    /// When running calls have to end.
    until: Option<Instant>,
    stall: Stall,
}

/// What the client was told about the end; it only moves downwards.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Farewell {
    Unsaid,
    /// New calls are better made elsewhere, and accepted still.
    Announced,
    /// No new calls; the session ends when those that run have.
    Said,
}

/// What a session shares with the tasks of its calls.
#[derive(Default)]
struct Exchange {
    outbox: Outbox,
    /// Calls that have a task. Whoever takes an entry out answers the call.
    running: HashMap<u64, Task>,
}

/// The task of a call.
struct Task {
    abort: AbortHandle,
    /// Of a call that has to wait for its turn first.
    ticket: Option<Ticket>,
}

impl AsMut<Outbox> for Exchange {
    fn as_mut(&mut self) -> &mut Outbox {
        &mut self.outbox
    }
}

impl Session {
    fn new(pipe: Pipe, peer: Peer, shared: Arc<Shared>, place: &Place, theirs: &Preface) -> Self {
        let mut exchange = Exchange::default();
        let stall = Stall::new(shared.limits.stall_timeout);
        exchange.outbox.push(|out| out.put_slice(&Preface::ours(&shared.limits).encode()));
        Self {
            pipe,
            peer,
            rate: shared.rates.of(Some(peer)),
            shared,
            pulse: Arc::clone(place.pulse()),
            max_frame: theirs.max_frame as usize,
            exchange: Arc::new(Mutex::new(exchange)),
            tasks: JoinSet::new(),
            seen: 0,
            frames: 0,
            arrived: Instant::now(),
            has_beaten: false,
            now: Instant::now(),
            untold: 0,
            unwritten: 0,
            // The first frames may have come together with the preface.
            backlog: true,
            farewell: Farewell::Unsaid,
            until: None,
            stall,
        }
    }

    /// Serves until there is a reason not to; `Ok` is that the server stops.
    async fn run(&mut self, place: &mut Place) -> Result<(), Fault> {
        let mut phases = self.shared.phases();
        loop {
            let phase = *phases.borrow_and_update();
            self.enter(phase);
            let (until, stays) = (self.until, self.farewell != Farewell::Said);
            tokio::select! {
                biased;
                ended = poll_fn(|cx| self.drive(cx)) => return ended,
                _ = phases.changed() => {}
                () = place.lost(), if stays => self.leave(),
                () = sleep_until(until.unwrap_or_else(Instant::now)), if until.is_some() => {
                    self.abort_running();
                    return Ok(());
                }
            }
        }
    }

    /// Says goodbye and closes; handlers that still run are dropped with the session.
    async fn end(mut self, ended: Result<(), Fault>) -> Fate {
        let fault = match ended {
            Ok(()) => None,
            Err(Fault::Wire(error)) => {
                self.push_control(kind::GO_AWAY, self.seen);
                Some(Fault::Wire(error))
            }
            Err(fault) => return fault.into(),
        };
        self.tasks.abort_all();
        close(&mut self.pipe, &self.exchange).await;
        fault.map_or(Fate::Over, Fate::from)
    }

    fn enter(&mut self, phase: Phase) {
        match phase {
            Phase::Serving => {}
            Phase::Draining => self.say(Farewell::Announced),
            Phase::Stopping(until) => {
                self.end_by(until);
                self.say(Farewell::Said);
            }
        }
    }

    /// Makes room for somebody else, soon even if a call came just now or the peer reads nothing.
    fn leave(&mut self) {
        self.end_by(Instant::now() + LINGER);
        self.say(Farewell::Said);
    }

    fn end_by(&mut self, until: Instant) {
        self.until = Some(self.until.map_or(until, |sooner| sooner.min(until)));
    }

    /// Tells the client to go, unless it was told as much already.
    fn say(&mut self, farewell: Farewell) {
        if farewell <= self.farewell {
            return;
        }
        self.farewell = farewell;
        let last = if farewell == Farewell::Said { self.seen } else { STOP_SOON };
        self.push_control(kind::GO_AWAY, last);
    }

    /// Ends the calls that still run, and tells their callers that they may have been executed;
    /// those that still wait have not been.
    fn abort_running(&mut self) {
        let mut exchange = lock(&self.exchange);
        let Exchange { running, outbox } = &mut *exchange;
        for (id, Task { abort, ticket }) in running.drain() {
            abort.abort();
            let waits = ticket.is_some_and(|ticket| self.shared.gate.withdraw(ticket));
            let outcome = Err(if waits { call::draining() } else { call::aborted() });
            self.shared.note_aborted(usize::from(!waits));
            outbox.push(|out| put_response(out, id, &outcome, self.max_frame));
        }
    }

    fn drive(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Fault>> {
        lock(&self.exchange).outbox.begin(cx.waker());
        loop {
            let blocked = match self.pipe.poll_flush(cx, &self.exchange) {
                Poll::Pending => true,
                Poll::Ready(Ok(())) => false,
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error.into())),
            };
            let full = self.is_full();
            if !full {
                match self.advance(cx) {
                    Poll::Ready(Ok(())) => continue,
                    Poll::Ready(Err(fault)) => return Poll::Ready(Err(fault)),
                    Poll::Pending => {}
                }
            }
            if self.is_stalled(cx, blocked, full) {
                return Poll::Ready(Err(Fault::Stalled));
            }
            if let Some(end) = self.rest(blocked) {
                return end.map(Ok);
            }
        }
    }

    /// Decides whether to sleep, to finish or, as `None`, to go on.
    fn rest(&self, blocked: bool) -> Option<Poll<()>> {
        let mut exchange = lock(&self.exchange);
        let is_owing = exchange.outbox.unwritten() > 0;
        self.pulse.owes(is_owing);
        let idle = exchange.running.is_empty() && !is_owing;
        if self.farewell == Farewell::Said && idle {
            return Some(Poll::Ready(()));
        }
        (blocked || exchange.outbox.rest()).then_some(Poll::Pending)
    }

    /// Whether the peer stalls, in the middle of a frame or by reading nothing.
    fn is_stalled(&mut self, cx: &mut Context<'_>, blocked: bool, full: bool) -> bool {
        let mid_frame = !full && self.pipe.inbox.is_mid_frame();
        let now = Owed {
            frame: mid_frame.then_some((self.frames, self.pipe.received())),
            reading: blocked.then(|| lock(&self.exchange).outbox.written()),
        };
        self.stall.has_come(cx, now)
    }

    /// Handles the frames that are there, after reading once if there are none.
    fn advance(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Fault>> {
        if !self.backlog {
            match std::task::ready!(self.pipe.poll_read(cx)) {
                Ok(0) => return Poll::Ready(Err(Fault::Gone)),
                Ok(_) => (self.arrived, self.has_beaten) = (Instant::now(), false),
                Err(error) => return Poll::Ready(Err(error.into())),
            }
            (self.now, self.untold) = (self.arrived, 0);
        } else {
            self.tell();
        }
        Poll::Ready(self.handle_frames())
    }

    /// Handles all frames that are complete, or those that come before too much waits to be
    /// written: one read can bring thousands of requests, and each of them a large answer.
    fn handle_frames(&mut self) -> Result<(), Fault> {
        self.backlog = true;
        while self.unwritten <= MAX_UNWRITTEN {
            let Some(incoming) = self.pipe.inbox.next()? else {
                self.backlog = false;
                break;
            };
            self.frames += 1;
            self.untold += FRAME;
            if self.untold > MAX_UNTOLD {
                self.tell();
            }
            self.handle(incoming)?;
        }
        Ok(())
    }

    /// Reads the clock.
    fn tell(&mut self) {
        (self.now, self.untold) = (Instant::now(), 0);
    }

    fn is_full(&mut self) -> bool {
        self.unwritten = lock(&self.exchange).outbox.unwritten();
        self.unwritten > MAX_UNWRITTEN
    }

    fn handle(&mut self, incoming: Incoming) -> Result<(), WireError> {
        let (head, payload) = match incoming {
            Incoming::Frame(head, payload) => (head, Some(payload)),
            Incoming::Oversized(head) => (head, None),
        };
        match head.kind {
            kind::REQUEST => self.request(&head, payload)?,
            kind::CANCEL => self.cancel(head.id),
            kind::PING => self.push_control(kind::PONG, head.id),
            kind::PONG | kind::GO_AWAY => {}
            _ if head.is_optional() => {}
            unknown => return Err(WireError::Unknown(unknown)),
        }
        Ok(())
    }

    fn respond(&mut self, id: u64, outcome: &Outcome) {
        let max_frame = self.max_frame;
        self.push(|out| put_response(out, id, outcome, max_frame));
    }

    fn push_control(&mut self, kind: u8, id: u64) {
        self.push(|out| put_control(out, kind, id));
    }

    fn push(&mut self, put: impl FnOnce(&mut BytesMut)) {
        let mut exchange = lock(&self.exchange);
        let span = exchange.outbox.push(put);
        self.unwritten = exchange.outbox.unwritten();
        self.untold += (span.end - span.start) as usize;
    }
}
