//! The limit: a multiplexed echo with batched reads and writes, and nothing of an RPC.
//!
//! A frame is a `u32` length of what follows, a `u64` id and the payload, big endian. The client
//! has one lock, around the frames to send and the slots of the calls in flight, and one task per
//! connection, the driver, which hands out all answers of one read and then sends all queued
//! frames with one write. The server sends back what one read brought, frame by frame intact.

use std::{
    future::poll_fn,
    io,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard},
    task::{Context, Poll, Waker, ready},
};

use anyhow::{Result, anyhow};
use slab::Slab;
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWriteExt, ReadBuf},
    net::{
        TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
};
use tokio_util::task::AbortOnDropHandle;

use super::{Caller, Contender, Place, Server};

/// The batched echo.
#[derive(Debug)]
pub(crate) struct Raw;

impl Contender for Raw {
    type Caller = RawCaller;

    async fn serve(_: &Place) -> Result<Server> {
        Server::accepting(echo).await
    }

    async fn connect(address: &str, connections: usize) -> Result<Vec<RawCaller>> {
        let mut callers = Vec::with_capacity(connections);
        for _ in 0..connections {
            callers.push(RawCaller::connect(address).await?);
        }
        Ok(callers)
    }
}

/// One connection; its driver is aborted when the last clone is dropped.
#[derive(Clone)]
pub(crate) struct RawCaller {
    shared: Arc<Shared>,
    _driver: Arc<AbortOnDropHandle<()>>,
}

impl RawCaller {
    async fn connect(address: &str) -> Result<Self> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        let (reader, writer) = stream.into_split();
        let shared = Arc::new(Shared { state: Mutex::default(), writer });
        let mut driver = Driver::new(reader, shared.clone());
        let driving = tokio::spawn(async move {
            let result = poll_fn(|cx| driver.poll(cx)).await;
            driver.shared.close(result);
        });
        let driver = Arc::new(AbortOnDropHandle::new(driving));
        Ok(Self { shared, _driver: driver })
    }
}

impl Caller for RawCaller {
    type Reply = Vec<u8>;
    const TYPED: bool = false;

    async fn call(&self, payload: &[u8]) -> Result<Vec<u8>> {
        let mut call = Call { shared: &self.shared, id: None };
        poll_fn(|cx| call.poll(payload, cx)).await
    }
}

/// What callers and the driver of one connection share.
struct Shared {
    state: Mutex<State>,
    writer: OwnedWriteHalf,
}

#[derive(Default)]
struct State {
    /// Frames nobody has begun to send.
    queued: Vec<u8>,
    /// The calls in flight; the key is the id on the wire.
    slots: Slab<Slot>,
    /// How many slots hold an answer that its caller has not collected: callers about to run.
    answered: usize,
    /// The driver while it sleeps and waits for frames; `None` while it is scheduled or writes.
    driver: Option<Waker>,
    /// Why the connection ended.
    closed: Option<String>,
}

enum Slot {
    Waiting(Waker),
    Answered(Vec<u8>),
    /// The caller has gone; the answer frees the slot.
    Abandoned,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("nothing panics under the lock")
    }

    /// Queues a frame and wakes the driver, unless it is up already.
    fn send(&self, payload: &[u8], cx: &Context<'_>) -> Result<usize> {
        let mut state = self.lock();
        if let Some(reason) = &state.closed {
            return Err(anyhow!("connection closed: {reason}"));
        }
        let id = state.slots.insert(Slot::Waiting(cx.waker().clone()));
        write_frame(&mut state.queued, id as u64, payload);
        let driver = state.driver.take();
        drop(state);
        if let Some(driver) = driver {
            driver.wake();
        }
        Ok(id)
    }

    fn close(&self, result: io::Result<()>) {
        let mut state = self.lock();
        state.closed = Some(match result {
            Ok(()) => "end of stream".to_owned(),
            Err(error) => error.to_string(),
        });
        for (_, slot) in &mut state.slots {
            if let Slot::Waiting(waker) = slot {
                waker.wake_by_ref();
            }
        }
    }
}

/// A call; sends at its first poll and gives up its slot when dropped.
struct Call<'a> {
    shared: &'a Shared,
    id: Option<usize>,
}

impl Call<'_> {
    fn poll(&mut self, payload: &[u8], cx: &mut Context<'_>) -> Poll<Result<Vec<u8>>> {
        let Some(id) = self.id else {
            self.id = Some(self.shared.send(payload, cx)?);
            return Poll::Pending;
        };
        let mut state = self.shared.lock();
        match &mut state.slots[id] {
            Slot::Answered(answer) => {
                let answer = std::mem::take(answer);
                state.slots.remove(id);
                state.answered -= 1;
                self.id = None;
                Poll::Ready(Ok(answer))
            }
            Slot::Waiting(waker) => {
                waker.clone_from(cx.waker());
                match &state.closed {
                    Some(reason) => Poll::Ready(Err(anyhow!("connection closed: {reason}"))),
                    None => Poll::Pending,
                }
            }
            Slot::Abandoned => unreachable!("a slot is abandoned by the drop of its call"),
        }
    }
}

impl Drop for Call<'_> {
    fn drop(&mut self) {
        let Some(id) = self.id else { return };
        let mut state = self.shared.lock();
        match std::mem::replace(&mut state.slots[id], Slot::Abandoned) {
            Slot::Answered(_) => {
                state.slots.remove(id);
                state.answered -= 1;
            }
            Slot::Waiting(_) | Slot::Abandoned => {}
        }
    }
}

/// Moves bytes in both directions; owned by the connection's only task.
struct Driver {
    shared: Arc<Shared>,
    reader: OwnedReadHalf,
    received: Vec<u8>,
    /// How much of `received` holds bytes not yet handed out.
    filled: usize,
    /// The batch being sent, and how much of it has been.
    sending: Vec<u8>,
    sent: usize,
    /// Whether the callers about to run have been let in front of the coming write.
    yielded: bool,
    /// Callers to wake after the lock; kept for its capacity.
    wakers: Vec<Waker>,
}

impl Driver {
    fn new(reader: OwnedReadHalf, shared: Arc<Shared>) -> Self {
        Self {
            shared,
            reader,
            received: vec![0; READ_BUFFER],
            filled: 0,
            sending: Vec::new(),
            sent: 0,
            yielded: false,
            wakers: Vec::new(),
        }
    }

    /// Ready when the connection has ended.
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if let Poll::Ready(result) = self.poll_receive(cx) {
            return Poll::Ready(result);
        }
        self.poll_send(cx).map(Err)
    }

    /// Reads until nothing more is there; ready only at the end of the stream.
    fn poll_receive(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        loop {
            let mut free = ReadBuf::new(&mut self.received[self.filled..]);
            ready!(Pin::new(&mut self.reader).poll_read(cx, &mut free))?;
            match free.filled().len() {
                0 => return Poll::Ready(Ok(())),
                read => self.filled += read,
            }
            let complete = self.hand_out()?;
            keep_rest(&mut self.received, &mut self.filled, complete);
        }
    }

    /// Gives all received answers to their callers; returns how many bytes that were.
    fn hand_out(&mut self) -> io::Result<usize> {
        let complete = self.fill_slots();
        self.wakers.drain(..).for_each(Waker::wake);
        complete
    }

    fn fill_slots(&mut self) -> io::Result<usize> {
        let unknown = || io::Error::new(io::ErrorKind::InvalidData, "an answer to no call");
        let mut complete = 0;
        let mut state = self.shared.lock();
        while let Some(frame) = next_frame(&self.received[complete..self.filled])? {
            complete += frame.len();
            let (id, payload) = split_frame(frame);
            let slot = state.slots.get_mut(id as usize).ok_or_else(unknown)?;
            match std::mem::replace(slot, Slot::Answered(payload.to_vec())) {
                Slot::Waiting(waker) => {
                    state.answered += 1;
                    self.wakers.push(waker);
                }
                Slot::Abandoned => drop(state.slots.remove(id as usize)),
                Slot::Answered(_) => return Err(unknown()),
            }
        }
        Ok(complete)
    }

    /// Writes until nothing more is queued; ready only with an error.
    fn poll_send(&mut self, cx: &mut Context<'_>) -> Poll<io::Error> {
        loop {
            if self.sent == self.sending.len() {
                ready!(self.poll_batch(cx));
            }
            match self.shared.writer.try_write(&self.sending[self.sent..]) {
                Ok(written) => self.sent += written,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    let writable = ready!(self.shared.writer.as_ref().poll_write_ready(cx));
                    if let Err(error) = writable {
                        return Poll::Ready(error);
                    }
                }
                Err(error) => return Poll::Ready(error),
            }
        }
    }

    /// Takes all queued frames as the next batch; pending while there are none.
    ///
    /// A caller that was just answered usually calls again. The runtime runs a task woken by the
    /// running one next, so the first of them would bring the driver in front of the others: it
    /// steps back once per batch.
    fn poll_batch(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let mut state = self.shared.lock();
        if state.queued.is_empty() {
            state.driver = Some(cx.waker().clone());
            return Poll::Pending;
        }
        if state.answered > 0 && !self.yielded {
            self.yielded = true;
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        self.yielded = false;
        self.sending.clear();
        self.sent = 0;
        std::mem::swap(&mut state.queued, &mut self.sending);
        Poll::Ready(())
    }
}

/// Serves one connection until its end; a violation of the framing ends it too.
async fn echo(mut stream: TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let mut received = vec![0; READ_BUFFER];
    let mut filled = 0;
    loop {
        match stream.read(&mut received[filled..]).await? {
            0 => return Ok(()),
            read => filled += read,
        }
        let mut complete = 0;
        while let Some(frame) = next_frame(&received[complete..filled])? {
            complete += frame.len();
        }
        stream.write_all(&received[..complete]).await?;
        keep_rest(&mut received, &mut filled, complete);
    }
}

fn write_frame(buffer: &mut Vec<u8>, id: u64, payload: &[u8]) {
    let length = u32::try_from(ID + payload.len()).expect("payloads are far below 4 GiB");
    buffer.reserve(LENGTH + ID + payload.len());
    buffer.extend_from_slice(&length.to_be_bytes());
    buffer.extend_from_slice(&id.to_be_bytes());
    buffer.extend_from_slice(payload);
}

/// The first frame of `bytes`, its length included; `None` if it is not complete.
fn next_frame(bytes: &[u8]) -> io::Result<Option<&[u8]>> {
    let Some(length) = bytes.first_chunk::<LENGTH>() else { return Ok(None) };
    let length = u32::from_be_bytes(*length) as usize;
    if !(ID..=MAX_FRAME).contains(&length) {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "length of a frame out of range"));
    }
    Ok(bytes.get(..LENGTH + length))
}

/// Id and payload of what [`next_frame`] returned.
fn split_frame(frame: &[u8]) -> (u64, &[u8]) {
    let (id, payload) =
        frame[LENGTH..].split_first_chunk::<ID>().expect("a frame is never shorter than its id");
    (u64::from_be_bytes(*id), payload)
}

/// Moves the beginning of an incomplete frame to the front and makes room for the rest of it.
fn keep_rest(received: &mut Vec<u8>, filled: &mut usize, complete: usize) {
    received.copy_within(complete..*filled, 0);
    *filled -= complete;
    if *filled == received.len() {
        received.resize(2 * received.len(), 0);
    }
}

const LENGTH: usize = size_of::<u32>();
const ID: usize = size_of::<u64>();
const MAX_FRAME: usize = 16 << 20;
const READ_BUFFER: usize = 64 << 10;
