//! One `micro/1` connection of a server: reads, dispatches and writes, all in one task.

use std::collections::HashMap;
use std::future::{Future, poll_fn};
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};

use bytes::{Buf, BufMut, Bytes};
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::{Instant, Sleep, sleep, sleep_until, timeout};

use super::LINGER;
use super::call::{self, Call, Outcome};
use super::places::Pulse;
use super::router::Route;
use super::shared::{Phase, Place, Running, Shared, report_panic};
use super::stall::Owed;
use crate::outbox::{Outbox, lock};
use crate::pipe::Pipe;
use crate::wire::{
    Head, Incoming, Preface, RequestHead, STOP_SOON, WireError, decode_request, kind, put_control,
    put_response,
};
use crate::{Code, Peer, Request, Status};

/// How a connection ended.
pub(super) enum Fate {
    /// As it should: by the client, or because the server stopped.
    Over,
    /// For this reason.
    Fault(String),
}

/// While more than this waits to be written, no frame is looked at and nothing is read. Calls that
/// run already still add their answers, so what waits is bounded by this and by their number.
const MAX_UNWRITTEN: usize = 1024 * 1024;

/// Serves a connection until the client closes it, breaks the protocol or the server stops.
pub(super) async fn serve(
    mut pipe: Pipe,
    peer: Peer,
    shared: &Arc<Shared>,
    place: &mut Place,
) -> Fate {
    let mut phases = shared.phases();
    let greeted = tokio::select! {
        _ = super::shared::stopping(&mut phases) => return Fate::Over,
        () = place.lost() => return Fate::Over,
        greeted = timeout(shared.limits.stall_timeout, greet(&mut pipe)) => greeted,
    };
    let mut session = match greeted {
        Err(_) => return Fault::Stalled.into(),
        Ok(Err(Fault::Wire(error))) => return refuse(pipe, shared, error).await,
        Ok(Err(fault)) => return fault.into(),
        Ok(Ok(theirs)) => Session::new(pipe, peer, Arc::clone(shared), place, &theirs),
    };
    let ended = session.run(place).await;
    session.end(ended).await
}

/// Reads the client's preface.
async fn greet(pipe: &mut Pipe) -> Result<Preface, Fault> {
    loop {
        if let Some(bytes) = pipe.inbox.take() {
            return Ok(Preface::decode(&bytes)?);
        }
        if pipe.read().await? == 0 {
            return Err(Fault::Gone);
        }
    }
}

/// Answers a preface that cannot be spoken with our own, so that the client can say why.
async fn refuse(mut pipe: Pipe, shared: &Shared, error: WireError) -> Fate {
    let mut outbox = Outbox::default();
    if matches!(error, WireError::Version(_)) {
        outbox.push(|out| out.put_slice(&Preface::ours(&shared.limits).encode()));
    }
    close(&mut pipe, &Mutex::new(outbox)).await;
    Fault::Wire(error).into()
}

/// Writes what is left, then waits for the peer to close: closing first, with bytes of the peer
/// unread, would make the operating system throw our last answers away.
async fn close<T: AsMut<Outbox>>(pipe: &mut Pipe, outbox: &Mutex<T>) {
    let closing = async {
        poll_fn(|cx| pipe.poll_flush(cx, outbox)).await?;
        poll_fn(|cx| pipe.poll_finish(cx)).await?;
        while pipe.read().await? > 0 {
            pipe.inbox.clear();
        }
        io::Result::Ok(())
    };
    // Either way the connection ends here, and the peer had its time.
    let _ = timeout(LINGER, closing).await;
}

/// Why a connection cannot go on.
#[derive(Debug, thiserror::Error)]
enum Fault {
    #[error("the client closed it")]
    Gone,
    #[error("the client stalled")]
    Stalled,
    #[error(transparent)]
    Io(#[from] io::Error),
    #[error(transparent)]
    Wire(#[from] WireError),
}

impl From<Fault> for Fate {
    fn from(fault: Fault) -> Self {
        match fault {
            Fault::Gone => Self::Over,
            fault => Self::Fault(fault.to_string()),
        }
    }
}

/// One connection: its task reads, starts handlers and writes; handlers that wait have tasks of
/// their own, which end with the session.
struct Session {
    pipe: Pipe,
    peer: Peer,
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
    /// Whether frames may be there that nobody has looked at yet.
    backlog: bool,
    farewell: Farewell,
    /// When running calls have to end.
    until: Option<Instant>,
    stall: Option<(Pin<Box<Sleep>>, Owed)>,
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
    /// Calls that have a task, and how to stop it. Whoever takes an entry out answers the call.
    running: HashMap<u64, AbortHandle>,
}

impl AsMut<Outbox> for Exchange {
    fn as_mut(&mut self) -> &mut Outbox {
        &mut self.outbox
    }
}

impl Session {
    fn new(pipe: Pipe, peer: Peer, shared: Arc<Shared>, place: &Place, theirs: &Preface) -> Self {
        let mut exchange = Exchange::default();
        exchange.outbox.push(|out| out.put_slice(&Preface::ours(&shared.limits).encode()));
        Self {
            pipe,
            peer,
            shared,
            pulse: Arc::clone(place.pulse()),
            max_frame: theirs.max_frame as usize,
            exchange: Arc::new(Mutex::new(exchange)),
            tasks: JoinSet::new(),
            seen: 0,
            frames: 0,
            arrived: Instant::now(),
            // The first frames may have come together with the preface.
            backlog: true,
            farewell: Farewell::Unsaid,
            until: None,
            stall: None,
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
                () = place.lost(), if stays => self.say(Farewell::Said),
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
                self.until = Some(until);
                self.say(Farewell::Said);
            }
        }
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

    /// Ends the calls that still run, and tells their callers that they may have been executed.
    fn abort_running(&mut self) {
        let mut exchange = lock(&self.exchange);
        let Exchange { running, outbox } = &mut *exchange;
        self.shared.note_aborted(running.len());
        for (id, task) in running.drain() {
            task.abort();
            outbox.push(|out| put_response(out, id, &Err(call::aborted()), self.max_frame));
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
        let idle = exchange.running.is_empty() && exchange.outbox.unwritten() == 0;
        if self.farewell == Farewell::Said && idle {
            return Some(Poll::Ready(()));
        }
        (blocked || exchange.outbox.rest()).then_some(Poll::Pending)
    }

    /// Whether the peer has owed something for too long and hardly moved. The clock is only looked at when the
    /// timer fires, so a peer has between one and two timeouts.
    fn is_stalled(&mut self, cx: &mut Context<'_>, blocked: bool, full: bool) -> bool {
        let mid_frame = !full && self.pipe.inbox.is_mid_frame();
        let now = Owed {
            frame: mid_frame.then_some((self.frames, self.pipe.received())),
            reading: blocked.then(|| lock(&self.exchange).outbox.written()),
        };
        loop {
            let Some((timer, before)) = &mut self.stall else {
                if !now.is_any() {
                    return false;
                }
                self.stall = Some((Box::pin(sleep(self.shared.limits.stall_timeout)), now));
                continue;
            };
            if timer.as_mut().poll(cx).is_pending() {
                return false;
            }
            if now.is_stuck_since(before) {
                return true;
            }
            self.stall = None;
        }
    }

    /// Handles the frames that are there, after reading once if there are none.
    fn advance(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Fault>> {
        if !self.backlog {
            match std::task::ready!(self.pipe.poll_read(cx)) {
                Ok(0) => return Poll::Ready(Err(Fault::Gone)),
                Ok(_) => self.arrived = Instant::now(),
                Err(error) => return Poll::Ready(Err(error.into())),
            }
        }
        Poll::Ready(self.handle_frames())
    }

    /// Handles all frames that are complete, or those that come before too much waits to be
    /// written: one read can bring thousands of requests, and each of them a large answer.
    fn handle_frames(&mut self) -> Result<(), Fault> {
        self.backlog = true;
        while !self.is_full() {
            let Some(incoming) = self.pipe.inbox.next()? else {
                self.backlog = false;
                break;
            };
            self.frames += 1;
            self.handle(incoming)?;
        }
        Ok(())
    }

    fn is_full(&self) -> bool {
        lock(&self.exchange).outbox.unwritten() > MAX_UNWRITTEN
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

    /// Answers a request, or starts the task that will.
    fn request(&mut self, head: &Head, payload: Option<Bytes>) -> Result<(), WireError> {
        if head.id <= self.seen || head.id == u64::MAX {
            return Err(WireError::Order(head.id));
        }
        self.seen = head.id;
        self.pulse.beat(self.arrived);
        let opened = match payload {
            Some(payload) => self.open(payload),
            None => Err(too_large(head, self.shared.limits.max_frame)),
        };
        match opened {
            Err(status) => self.respond(head.id, &Err(status)),
            Ok((route, request)) => self.execute(head.id, &route, request),
        }
        Ok(())
    }

    /// Reads a request and passes it through the gates.
    fn open(&self, mut payload: Bytes) -> Result<(Arc<Route>, Request), Status> {
        if self.farewell == Farewell::Said {
            return Err(call::draining());
        }
        let head = decode_request(&payload)
            .map_err(|error| Status::new(Code::InvalidArgument, error.to_string()))?;
        self.check_limits(&head)?;
        let deadline = head.timeout.map(|timeout| self.arrived + timeout);
        if deadline.is_some_and(|deadline| deadline <= Instant::now()) {
            return Err(call::expired().refused());
        }
        let routes = &self.shared.routes;
        let route = routes
            .find(head.contract, head.method)
            .ok_or_else(|| routes.unknown(head.contract, head.method))?;
        let (request, body_at) = self.to_request(head, route, deadline);
        payload.advance(body_at);
        Ok((Arc::clone(route), Request { body: payload, ..request }))
    }

    fn check_limits(&self, head: &RequestHead<'_>) -> Result<(), Status> {
        let limits = &self.shared.limits;
        let metadata = head.metadata.encoded_len();
        if metadata > limits.max_metadata {
            let limit = limits.max_metadata;
            let message = format!("metadata of {metadata} bytes is more than {limit}");
            return Err(Status::new(Code::ResourceExhausted, message).refused());
        }
        if lock(&self.exchange).running.len() >= limits.max_in_flight {
            let message = "too many calls run on this connection";
            return Err(Status::new(Code::ResourceExhausted, message).refused());
        }
        Ok(())
    }

    /// Owns what the header borrows: the names are the route's, so they cost nothing.
    fn to_request(
        &self,
        head: RequestHead<'_>,
        route: &Route,
        deadline: Option<Instant>,
    ) -> (Request, usize) {
        let request = Request {
            contract: route.contract.clone(),
            method: route.method.clone(),
            body: Bytes::new(),
            codec: head.codec,
            deadline,
            metadata: head.metadata,
            trace: head.trace,
            idempotent: head.idempotent,
            attempt: head.attempt,
            peer: Some(self.peer),
            criticality: head.criticality,
            no_retry: head.no_retry,
            extensions: http::Extensions::new(),
        };
        (request, head.body_at)
    }

    /// Runs a handler here if it is ready at once, and otherwise in a task of its own.
    fn execute(&mut self, id: u64, route: &Arc<Route>, request: Request) {
        let mut call = Call::new(route, request);
        if let Poll::Ready(outcome) = call.poll_first() {
            return self.respond(id, &outcome);
        }
        self.reap();
        let running = Running::new(&self.shared, &self.pulse);
        let answer = answer(id, call, Arc::clone(&self.exchange), self.max_frame, running);
        // Locked first, so that the task finds its entry however quick it is.
        let mut exchange = lock(&self.exchange);
        let task = self.tasks.spawn(answer);
        exchange.running.insert(id, task);
        if route.spawns() {
            // The new task is next on this worker, and may block it. Yielding this one has another
            // worker woken, which takes the connection over and waits for input.
            let session = exchange.outbox.wake_always();
            drop(exchange);
            session.into_iter().for_each(Waker::wake);
        }
    }

    /// Forgets tasks that have ended.
    fn reap(&mut self) {
        while let Some(ended) = self.tasks.try_join_next() {
            report_panic(ended);
        }
    }

    fn cancel(&self, id: u64) {
        if let Some(task) = lock(&self.exchange).running.remove(&id) {
            task.abort();
        }
    }

    fn respond(&self, id: u64, outcome: &Outcome) {
        let max_frame = self.max_frame;
        lock(&self.exchange).outbox.push(|out| put_response(out, id, outcome, max_frame));
    }

    fn push_control(&self, kind: u8, id: u64) {
        lock(&self.exchange).outbox.push(|out| put_control(out, kind, id));
    }
}

/// The task of a call that did not end at its first poll.
async fn answer(
    id: u64,
    call: Call,
    exchange: Arc<Mutex<Exchange>>,
    max_frame: usize,
    running: Running,
) {
    let outcome = call.finish().await;
    drop(running);
    let mut exchange = lock(&exchange);
    if exchange.running.remove(&id).is_none() {
        return;
    }
    exchange.outbox.push(|out| put_response(out, id, &outcome, max_frame));
    let session = exchange.outbox.wake();
    drop(exchange);
    session.into_iter().for_each(Waker::wake);
}

fn too_large(head: &Head, limit: usize) -> Status {
    let message = format!("a request of {} bytes is more than {limit}", head.length);
    Status::new(Code::ResourceExhausted, message).refused()
}
