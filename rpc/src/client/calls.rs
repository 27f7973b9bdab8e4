//! The calls of one connection that wait for an answer: a plain structure, without I/O.

use std::task::{Poll, Waker};

use bytes::Bytes;
use tokio::time::Instant;

use crate::Error;
use crate::outbox::Span;

/// What a call ends with: the payload of a response frame, or why there is none.
pub(super) type Outcome = Result<Bytes, Error>;

/// The calls of one connection that wait for an answer, or whose answer waits to be collected.
///
/// The low 16 bits of a call's id are its slot and the rest is a sequence number, so ids increase
/// strictly, a late answer never reaches a later call, and nothing is hashed.
#[derive(Debug, Default)]
pub(super) struct Calls {
    slots: Vec<Slot>,
    free: Vec<u16>,
    sequence: u64,
    /// How many outcomes wait to be collected: callers that are about to run.
    answered: usize,
}

#[derive(Debug)]
struct Slot {
    id: u64,
    frame: Span,
    deadline: Option<Instant>,
    state: State,
}

#[derive(Debug)]
enum State {
    Free,
    Waiting(Waker),
    Done(Outcome),
}

/// A call that waits, as decisions about it need it.
pub(super) struct Waiting<'a> {
    pub(super) id: u64,
    pub(super) frame: &'a Span,
    pub(super) deadline: Option<Instant>,
}

const SLOT_BITS: u32 = 16;

impl Calls {
    /// Returns the number of calls that take a slot.
    pub(super) fn len(&self) -> usize {
        self.slots.len() - self.free.len()
    }

    /// Returns whether there ever was a call.
    pub(super) fn has_begun(&self) -> bool {
        self.sequence > 0
    }

    /// Returns the number of outcomes that wait to be collected.
    pub(super) fn answered(&self) -> usize {
        self.answered
    }

    /// Takes a slot for a call of the task that `waker` wakes; `queue` puts its frame where it will be written, given its id.
    ///
    /// The caller keeps `len` below 65 536, which is what a slot number can say.
    pub(super) fn insert(
        &mut self,
        deadline: Option<Instant>,
        waker: Waker,
        queue: impl FnOnce(u64) -> Span,
    ) -> u64 {
        self.sequence += 1;
        let index = self.free.pop().unwrap_or(self.slots.len() as u16);
        let id = self.sequence << SLOT_BITS | u64::from(index);
        let slot = Slot { id, frame: queue(id), deadline, state: State::Waiting(waker) };
        match self.slots.get_mut(usize::from(index)) {
            Some(free) => *free = slot,
            None => self.slots.push(slot),
        }
        id
    }

    /// Ends a call that waits, and returns whom to wake. Unknown ids are those of calls that were
    /// given up: their answers have nowhere to go.
    pub(super) fn finish(&mut self, id: u64, outcome: Outcome) -> Option<Waker> {
        let waker = self.slot(id)?.finish(outcome);
        self.answered += usize::from(waker.is_some());
        waker
    }

    /// Ends every waiting call that `decide` returns an error for.
    pub(super) fn fail(
        &mut self,
        wakers: &mut Vec<Waker>,
        mut decide: impl FnMut(Waiting<'_>) -> Option<Error>,
    ) {
        for slot in &mut self.slots {
            if let State::Waiting(_) = slot.state {
                let Slot { id, ref frame, deadline, .. } = *slot;
                if let Some(error) = decide(Waiting { id, frame, deadline }) {
                    let waker = slot.finish(Err(error));
                    self.answered += usize::from(waker.is_some());
                    wakers.extend(waker);
                }
            }
        }
    }

    /// Collects the outcome of a call and frees its slot, or notes whom to wake.
    pub(super) fn poll(&mut self, id: u64, waker: &Waker) -> Poll<Outcome> {
        let slot = self.slot(id).expect("a call keeps its slot until it is collected");
        match &mut slot.state {
            State::Waiting(known) => known.clone_from(waker),
            State::Done(_) | State::Free => return Poll::Ready(self.collect(id)),
        }
        Poll::Pending
    }

    /// Gives a call up and frees its slot; returns its frame when no answer has come.
    pub(super) fn remove(&mut self, id: u64) -> Option<Span> {
        let slot = self.slot(id)?;
        let waits = matches!(slot.state, State::Waiting(_));
        let frame = slot.frame.clone();
        self.release(id);
        waits.then_some(frame)
    }

    /// Returns the earliest deadline of the calls that wait.
    pub(super) fn earliest_deadline(&self) -> Option<Instant> {
        let waiting = self.slots.iter().filter(|slot| matches!(slot.state, State::Waiting(_)));
        waiting.filter_map(|slot| slot.deadline).min()
    }

    fn collect(&mut self, id: u64) -> Outcome {
        match self.release(id) {
            State::Done(outcome) => outcome,
            State::Free | State::Waiting(_) => unreachable!("only an ended call is collected"),
        }
    }

    /// Empties a slot whose id is known to be current.
    fn release(&mut self, id: u64) -> State {
        let index = id as u16;
        self.free.push(index);
        let slot = &mut self.slots[usize::from(index)];
        slot.id = 0;
        let state = std::mem::replace(&mut slot.state, State::Free);
        self.answered -= usize::from(matches!(state, State::Done(_)));
        state
    }

    fn slot(&mut self, id: u64) -> Option<&mut Slot> {
        let slot = self.slots.get_mut(usize::from(id as u16))?;
        (slot.id == id).then_some(slot)
    }
}

impl Slot {
    fn finish(&mut self, outcome: Outcome) -> Option<Waker> {
        if !matches!(self.state, State::Waiting(_)) {
            return None;
        }
        match std::mem::replace(&mut self.state, State::Done(outcome)) {
            State::Waiting(waker) => Some(waker),
            State::Free | State::Done(_) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Code, Execution, Phase};

    fn insert(calls: &mut Calls) -> u64 {
        calls.insert(None, Waker::noop().clone(), |_| 0..1)
    }

    fn collect(calls: &mut Calls, id: u64) -> Poll<Outcome> {
        calls.poll(id, Waker::noop())
    }

    /// Ids increase although slots are reused, and a late answer does not reach the new tenant.
    #[test]
    fn reuses_slots_not_ids() {
        let mut calls = Calls::default();
        let first = insert(&mut calls);
        assert_eq!(calls.remove(first), Some(0..1));
        let second = insert(&mut calls);
        assert!(second > first && second as u16 == first as u16);
        assert!(calls.finish(first, Ok(Bytes::new())).is_none());
        assert!(collect(&mut calls, second).is_pending());
        calls.finish(second, Ok(Bytes::from("x")));
        assert!(matches!(collect(&mut calls, second), Poll::Ready(Ok(body)) if body == "x"));
        assert_eq!(calls.len(), 0);
    }

    /// An outcome stands: neither a second answer nor a failure replaces it.
    #[test]
    fn first_outcome_stands() {
        let mut calls = Calls::default();
        let id = insert(&mut calls);
        assert!(collect(&mut calls, id).is_pending());
        assert!(calls.finish(id, Ok(Bytes::from("first"))).is_some(), "the caller is woken once");
        assert!(calls.finish(id, Ok(Bytes::from("second"))).is_none());
        let lost = |_: Waiting<'_>| {
            Some(Error::new(Code::Unavailable, Phase::Wait, Execution::MaybeExecuted, "lost"))
        };
        calls.fail(&mut Vec::new(), lost);
        assert!(matches!(collect(&mut calls, id), Poll::Ready(Ok(body)) if body == "first"));
    }
}
