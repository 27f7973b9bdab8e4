//! The task that connects, and then reads and writes for all calls of one connection.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use tokio::io::AsyncWriteExt;
use tokio::time::{Instant, Sleep, sleep_until, timeout};

use super::ChannelConfig;
use super::connection::{Connection, MAX_UNWRITTEN, wake};
use super::health::Health;
use super::keepalive::{Keepalive, Verdict};
use crate::limits::Limits;
use crate::pipe::Pipe;
use crate::transport::Stream;
use crate::wire::{Head, Incoming, Preface, STOP_SOON, WireError, kind, put_control};
use crate::{Address, Code, Error, Execution, Phase};

/// Connects and serves the connection until it is lost or not needed any more.
///
/// Dropping the future at any point fails the calls that wait.
pub(super) async fn run(
    address: Address,
    config: ChannelConfig,
    connection: Arc<Connection>,
    health: Arc<Health>,
) {
    let mut ending = Ending { connection: &connection, reason: "the channel is gone".into() };
    let established = timeout(config.connect_timeout, establish(&address, &config)).await;
    let established = established.unwrap_or_else(|_| Err(ConnectError::Timeout));
    match established {
        Err(error) => {
            let reason = format!("cannot connect to {address}: {error}");
            // Health first: whoever is told of the failure then finds that it is too early.
            health.failed(Instant::now(), reason.clone());
            connection.failed(reason);
        }
        Ok((pipe, peer)) => {
            connection.opened(peer);
            let mut driver = Driver::new(pipe, &config, &connection, &health);
            let ended = (&mut driver).await;
            // Health first, here too.
            let now = Instant::now();
            driver.leave();
            if ended.is_err() && !driver.told_to_go {
                health.lost(now);
            }
            ending.reason = ended.err().unwrap_or_else(|| "it was closed".into());
            if driver.was_of_no_use() {
                health.failed(now, format!("{address} was of no use: {}", ending.reason));
            }
            if driver.announced {
                health.disconnected(now);
            }
        }
    }
}

/// Tells the calls that wait why they will not be answered, also when the task is aborted.
struct Ending<'a> {
    connection: &'a Connection,
    reason: String,
}

impl Drop for Ending<'_> {
    fn drop(&mut self) {
        self.connection.lost(&self.reason);
    }
}

#[derive(Debug, thiserror::Error)]
enum ConnectError {
    #[error("no answer in time")]
    Timeout,
    #[error("it closed the connection before it answered")]
    Closed,
    #[error(transparent)]
    Io(#[from] io::Error),
    #[error(transparent)]
    Wire(#[from] WireError),
}

/// Connects and exchanges prefaces. Only then is anything sent that could be executed, so a node
/// that accepts connections and hangs costs nobody a call of unknown outcome.
async fn establish(
    address: &Address,
    config: &ChannelConfig,
) -> Result<(Pipe, Preface), ConnectError> {
    let limits: Limits = config.limits.clamped();
    let mut stream = Stream::connect(address, config.memory.as_ref()).await?;
    stream.write_all(&Preface::ours(&limits).encode()).await?;
    let mut pipe = Pipe::new(stream, limits.max_frame);
    loop {
        if let Some(bytes) = pipe.inbox.take() {
            return Ok((pipe, Preface::decode(&bytes)?));
        }
        if pipe.read().await? == 0 {
            return Err(ConnectError::Closed);
        }
    }
}

/// Reads and writes for all calls of one connection; resolves once it is closed, or to why it is lost.
struct Driver<'a> {
    pipe: Pipe,
    connection: &'a Connection,
    health: &'a Health,
    keepalive: Keepalive,
    timer: Pin<Box<Sleep>>,
    /// When the timer is set to; it follows `State::next_check`.
    armed: Option<Instant>,
    /// Whether calls to the node are spread over other connections, too.
    has_siblings: bool,
    /// Whether this task let others run first since it last wrote.
    stepped_back: bool,
    /// Whether frames may be there that nobody has looked at yet.
    backlog: bool,
    /// Whether the node has answered anything on this connection.
    answered: bool,
    /// Whether this connection is among those on which the node answers.
    serving: bool,
    /// Whether the node has said on this connection that it takes no further calls.
    told_to_go: bool,
    /// Whether the node has announced on this connection that it is going to stop.
    announced: bool,
    /// Callers to wake, kept for its memory.
    wakers: Vec<Waker>,
}

/// Why a connection is lost.
type Reason = String;

impl<'a> Driver<'a> {
    fn new(
        pipe: Pipe,
        config: &ChannelConfig,
        connection: &'a Connection,
        health: &'a Health,
    ) -> Self {
        let now = Instant::now();
        // The first look at the clock decides when the next one is due.
        connection.lock().next_check = Some(now);
        Self {
            pipe,
            connection,
            health,
            keepalive: Keepalive::new(config.keepalive_interval, config.keepalive_timeout, now),
            timer: Box::pin(sleep_until(now)),
            armed: None,
            has_siblings: config.connections > 1,
            stepped_back: false,
            // The first frames may have come together with the preface.
            backlog: true,
            answered: false,
            serving: false,
            told_to_go: false,
            announced: false,
            wakers: Vec::new(),
        }
    }

    /// Whether the node accepted the connection for nothing, and did not say so: to connect again at
    /// once, as after any other end, may go on for ever.
    fn was_of_no_use(&self) -> bool {
        !self.answered && !self.told_to_go
    }

    fn drive(&mut self, cx: &mut Context<'_>) -> Result<Poll<()>, Reason> {
        self.connection.lock().outbox.begin(cx.waker());
        loop {
            let read = self.read(cx)?;
            if read.is_pending() && self.steps_back() {
                cx.waker().wake_by_ref();
                return Ok(Poll::Pending);
            }
            let flushed = self.flush(cx)?;
            self.stepped_back = false;
            self.look_at_clock(cx)?;
            if read.is_ready() {
                continue;
            }
            if let Some(end) = self.rest(flushed.is_pending()) {
                return Ok(end);
            }
        }
    }

    /// Decides, once for every write, to let those run first who are queued to run before this task if
    /// it queues itself now. One write then takes the frames of all of them.
    fn steps_back(&mut self) -> bool {
        let may_gather = self.connection.lock().may_gather(self.has_siblings);
        self.stepped_back = !self.stepped_back && may_gather;
        self.stepped_back
    }

    /// Decides whether to sleep, to finish or, as `None`, to go on.
    fn rest(&mut self, blocked: bool) -> Option<Poll<()>> {
        let mut state = self.connection.lock();
        if state.is_finished() {
            return Some(Poll::Ready(()));
        }
        let timer_is_set = state.next_check == self.armed;
        // While the socket takes nothing it wakes this task; callers need not.
        let may_sleep = timer_is_set && (blocked || state.outbox.rest());
        let unchoked = state.unchoke();
        drop(state);
        if unchoked {
            self.connection.ask_again();
        }
        may_sleep.then_some(Poll::Pending)
    }

    /// Reads once, handles all frames that are complete and wakes their callers.
    fn read(&mut self, cx: &mut Context<'_>) -> Result<Poll<()>, Reason> {
        if !std::mem::take(&mut self.backlog) {
            match self.pipe.poll_read(cx) {
                Poll::Pending => return Ok(Poll::Pending),
                Poll::Ready(Ok(0)) => return Err("the node closed it".into()),
                Poll::Ready(Err(error)) => return Err(error.to_string()),
                Poll::Ready(Ok(_)) => self.keepalive.read(Instant::now()),
            }
        }
        let result = self.handle_frames();
        wake(self.wakers.drain(..));
        result.map(Poll::Ready).map_err(|error| error.to_string())
    }

    fn handle_frames(&mut self) -> Result<(), WireError> {
        let mut state = self.connection.lock();
        while let Some(incoming) = self.pipe.inbox.next()? {
            let (head, outcome) = match incoming {
                Incoming::Frame(head, payload) => (head, Ok(payload)),
                Incoming::Oversized(head) => (head, Err(too_large(&head))),
            };
            match head.kind {
                kind::RESPONSE => {
                    self.wakers.extend(state.calls.finish(head.id, outcome));
                    if !std::mem::replace(&mut self.answered, true) {
                        self.health.answered(self.announced);
                        self.join();
                    }
                }
                // Unless the node reads nothing: its pings must not fill this side's memory.
                kind::PING if state.outbox.unwritten() >= MAX_UNWRITTEN => {}
                kind::PING => {
                    state.outbox.push(|out| put_control(out, kind::PONG, head.id));
                }
                kind::PONG => {}
                kind::GO_AWAY if head.id == STOP_SOON => {
                    if !std::mem::replace(&mut self.announced, true) {
                        self.health.announced();
                    }
                }
                kind::GO_AWAY => {
                    self.told_to_go = true;
                    self.leave();
                    let used = state.go_away(head.id, &mut self.wakers);
                    self.health.told_to_go(Instant::now(), used);
                }
                _ if head.is_optional() => {}
                unknown => return Err(WireError::Unknown(unknown)),
            }
        }
        let turned_away = state.closing;
        drop(state);
        if turned_away {
            self.connection.ask_again();
        }
        Ok(())
    }

    fn join(&mut self) {
        if !self.told_to_go && !std::mem::replace(&mut self.serving, true) {
            self.health.joined();
        }
    }

    fn leave(&mut self) {
        if std::mem::take(&mut self.serving) {
            self.health.left();
        }
    }

    fn flush(&mut self, cx: &mut Context<'_>) -> Result<Poll<()>, Reason> {
        self.connection.writes(true);
        match self.pipe.poll_flush(cx, self.connection.state()) {
            Poll::Pending => Ok(Poll::Pending),
            Poll::Ready(Ok(())) => {
                self.connection.writes(false);
                Ok(Poll::Ready(()))
            }
            Poll::Ready(Err(error)) => Err(error.to_string()),
        }
    }

    /// Sets the timer to what was asked for; when it fires, ends expired calls and checks on the
    /// peer.
    fn look_at_clock(&mut self, cx: &mut Context<'_>) -> Result<(), Reason> {
        loop {
            let next = self.connection.lock().next_check;
            if next != self.armed {
                self.armed = next;
                self.timer.as_mut().reset(next.unwrap_or_else(Instant::now));
            }
            if self.timer.as_mut().poll(cx).is_pending() {
                return Ok(());
            }
            self.check(Instant::now())?;
        }
    }

    fn check(&mut self, now: Instant) -> Result<(), Reason> {
        let mut state = self.connection.lock();
        state.expire(now, &mut self.wakers);
        let busy = state.calls.len() > 0;
        let keepalive = match self.keepalive.check(now, busy) {
            Verdict::Dead => return Err("the node is silent".into()),
            Verdict::Fine(next) => next,
            Verdict::Ping(next) => {
                state.outbox.push(|out| put_control(out, kind::PING, 0));
                next
            }
        };
        let deadline = state.calls.earliest_deadline();
        state.next_check = Some(deadline.map_or(keepalive, |deadline| deadline.min(keepalive)));
        drop(state);
        wake(self.wakers.drain(..));
        Ok(())
    }
}

impl Future for Driver<'_> {
    type Output = Result<(), Reason>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        self.get_mut().drive(cx)?.map(Ok)
    }
}

/// The error of a call whose answer is not going to be read.
fn too_large(head: &Head) -> Error {
    let message = format!("the answer of {} bytes is more than this channel accepts", head.length);
    Error::new(Code::ResourceExhausted, Phase::Wait, Execution::Executed, message)
}
