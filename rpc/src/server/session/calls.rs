//! What a session does with requests: the gates, the handler's first poll and its task.

use std::sync::{Arc, Mutex};
use std::task::{Poll, Waker};
use std::time::Duration;

use bytes::{Buf, Bytes};
use tokio::time::Instant;

use super::{Exchange, Farewell, Session, Task};
use crate::outbox::lock;
use crate::server::call::{self, Call, Outcome};
use crate::server::gate::{Gate, OVERLOADED, Refused, Running, Verdict, Waiting};
use crate::server::queue::Ticket;
use crate::server::router::Route;
use crate::server::shared::{Owing, report_panic};
use crate::server::stats::Noted;
use crate::wire::{
    Head, RequestHead, WireError, criticality, decode_request, put_overloaded, put_response,
};
use crate::{Code, Request, Status};

impl Session {
    /// Answers a request, or starts the task that will.
    pub(super) fn request(&mut self, head: &Head, payload: Option<Bytes>) -> Result<(), WireError> {
        if head.id <= self.seen || head.id == u64::MAX {
            return Err(WireError::Order(head.id));
        }
        self.seen = head.id;
        if !std::mem::replace(&mut self.has_beaten, true) {
            self.pulse.beat(self.arrived);
        }
        let opened = match payload {
            Some(payload) => self.open(payload),
            None => Err(too_large(head, self.shared.limits.max_frame).into()),
        };
        match opened {
            Err(Unopened::Status(status)) => {
                self.note_astray(status.code());
                self.respond(head.id, &Err(status));
            }
            Err(Unopened::Overloaded(wait)) => {
                self.note_astray(Code::ResourceExhausted);
                self.push(|out| put_overloaded(out, head.id, OVERLOADED, wait));
            }
            Ok((called, request, Verdict::Run)) => self.execute(head.id, &called, request),
            Ok((called, request, Verdict::Wait(waiting))) => {
                self.enqueue(head.id, &called.route, request, waiting);
            }
        }
        Ok(())
    }

    fn note_astray(&self, code: Code) {
        self.shared.note_astray(code, self.now.saturating_duration_since(self.arrived));
    }

    /// Reads a request and passes it through the gates.
    fn open(&self, mut payload: Bytes) -> Result<(Called, Request, Verdict), Unopened> {
        if self.farewell == Farewell::Said {
            return Err(call::draining().into());
        }
        if let Some(rate) = &self.rate {
            rate.check()?;
        }
        if let Some(refused) = criticality(&payload).and_then(|class| self.shared.gate.sheds(class))
        {
            return Err(refused.into());
        }
        let head = decode_request(&payload)
            .map_err(|error| Status::new(Code::InvalidArgument, error.to_string()))?;
        self.check_limits(&head)?;
        let deadline = head.timeout.map(|timeout| self.arrived + timeout);
        if deadline.is_some_and(|deadline| deadline <= self.now) {
            return Err(call::expired().refused().into());
        }
        let routes = &self.shared.routes;
        let (number, route) = routes
            .find(head.contract, head.method)
            .ok_or_else(|| routes.unknown(head.contract, head.method))?;
        let verdict = Gate::admit(&self.shared, number, head.criticality)?;
        let (request, body_at) = self.to_request(head, route, deadline);
        payload.advance(body_at);
        let called = Called { number, route: Arc::clone(route) };
        Ok((called, Request { body: payload, ..request }, verdict))
    }

    fn check_limits(&self, head: &RequestHead<'_>) -> Result<(), Status> {
        let limits = &self.shared.limits;
        call::check_metadata(&head.metadata, limits)?;
        if lock(&self.exchange).running.len() >= limits.max_in_flight {
            let message = "too many calls run on this connection";
            return Err(Status::new(Code::ResourceExhausted, message).refused());
        }
        Ok(())
    }

    /// Owns what the header borrows: the names are mostly the route's, so they cost nothing.
    fn to_request(
        &self,
        head: RequestHead<'_>,
        route: &Route,
        deadline: Option<Instant>,
    ) -> (Request, usize) {
        let request = Request {
            contract: route.contract.clone(),
            method: route.name_of(head.method),
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
    fn execute(&mut self, id: u64, called: &Called, request: Request) {
        let Called { number, route } = called;
        let mut call = Call::new(Noted::new(route, self.arrived), request);
        let before = self.now;
        let polled = call.poll_first(&mut self.now);
        if self.now != before {
            self.untold = 0;
        }
        if let Poll::Ready(outcome) = polled {
            return self.respond(id, &outcome);
        }
        let running = Running::new(&self.shared, *number, self.arrived);
        let owing = Owing::new(&self.pulse);
        let answer = answer(id, call, running, Arc::clone(&self.exchange), self.max_frame, owing);
        self.spawn(id, None, answer, route.spawns());
    }

    /// Runs a handler in a task of its own once it is its turn.
    fn enqueue(&mut self, id: u64, route: &Arc<Route>, request: Request, waiting: Box<Waiting>) {
        let noted = Noted::new(route, self.arrived);
        let (ticket, blocks) = (Some(waiting.ticket()), route.spawns());
        let (exchange, max_frame) = (Arc::clone(&self.exchange), self.max_frame);
        let owing = Owing::new(&self.pulse);
        let answer = async move {
            let outcome = call::queued(noted, request, waiting).await;
            drop(owing);
            deliver(id, &outcome, &exchange, max_frame);
        };
        self.spawn(id, ticket, answer, blocks);
    }

    /// Starts the task of a call, which may block its thread if the method is known to.
    fn spawn<F>(&mut self, id: u64, ticket: Option<Ticket>, answer: F, blocks: bool)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        self.reap();
        // Locked first, so that the task finds its entry however quick it is.
        let mut exchange = lock(&self.exchange);
        let abort = self.tasks.spawn(answer);
        exchange.running.insert(id, Task { abort, ticket });
        if blocks {
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

    pub(super) fn cancel(&self, id: u64) {
        if let Some(task) = lock(&self.exchange).running.remove(&id) {
            task.abort.abort();
        }
    }
}

/// Why a request leads to no call.
enum Unopened {
    Status(Status),
    /// As a status would say, but for less.
    Overloaded(Duration),
}

impl From<Status> for Unopened {
    fn from(status: Status) -> Self {
        Self::Status(status)
    }
}

impl From<Refused> for Unopened {
    fn from(refused: Refused) -> Self {
        match refused {
            Refused::Overloaded(wait) => Self::Overloaded(wait),
            stopping => Self::Status(stopping.into()),
        }
    }
}

/// The method that is called, and its number among all.
struct Called {
    number: usize,
    route: Arc<Route>,
}

/// The task of a call that did not end at its first poll.
async fn answer(
    id: u64,
    call: Call,
    running: Running,
    exchange: Arc<Mutex<Exchange>>,
    max_frame: usize,
    owing: Owing,
) {
    let outcome = call.finish().await;
    running.ended(&outcome);
    drop(owing);
    deliver(id, &outcome, &exchange, max_frame);
}

/// Answers a call, unless somebody has done so or it was cancelled.
fn deliver(id: u64, outcome: &Outcome, exchange: &Mutex<Exchange>, max_frame: usize) {
    let mut exchange = lock(exchange);
    if exchange.running.remove(&id).is_none() {
        return;
    }
    exchange.outbox.push(|out| put_response(out, id, outcome, max_frame));
    let session = exchange.outbox.wake();
    drop(exchange);
    session.into_iter().for_each(Waker::wake);
}

fn too_large(head: &Head, limit: usize) -> Status {
    let message = format!("a request of {} bytes is more than {limit}", head.length);
    Status::new(Code::ResourceExhausted, message).refused()
}
