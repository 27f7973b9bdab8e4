//! Frames on their way out, shared between those who queue them and the one task that writes.

use std::ops::Range;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::Waker;

use bytes::BytesMut;

use crate::wire::{Head, PAD};

/// Frames that wait to be written, and the task that writes them.
///
/// Everyone else appends under a lock and wakes the task once per batch: while it is scheduled,
/// or waits for the socket, appending wakes nobody. Positions count bytes from the beginning of
/// the connection, so whether a frame left is a comparison.
#[derive(Debug, Default)]
pub(crate) struct Outbox {
    buffer: BytesMut,
    queued: u64,
    written: u64,
    task: Option<Waker>,
    scheduled: bool,
}

/// Where a frame lies in everything a connection ever queued.
pub(crate) type Span = Range<u64>;

/// A buffer that grew beyond this is given back once it is empty.
const KEEP: usize = 256 * 1024;

impl Outbox {
    /// Appends what `put` writes.
    pub(crate) fn push(&mut self, put: impl FnOnce(&mut BytesMut)) -> Span {
        let (before, start) = (self.buffer.len(), self.queued);
        put(&mut self.buffer);
        self.queued += (self.buffer.len() - before) as u64;
        start..self.queued
    }

    /// Turns a frame that has not been taken yet into one the peer skips; returns whether it did,
    /// which means that the frame never arrives.
    pub(crate) fn withdraw(&mut self, frame: &Span) -> bool {
        let taken = self.queued - self.buffer.len() as u64;
        let Some(offset) = frame.start.checked_sub(taken) else { return false };
        let at = offset as usize + 4;
        self.buffer[at..at + PAD.len()].copy_from_slice(&PAD);
        debug_assert!(frame.end - frame.start >= Head::LEN as u64, "a span is a whole frame");
        true
    }

    /// Whether all of a frame was handed to the operating system.
    pub(crate) fn is_written(&self, frame: &Span) -> bool {
        frame.end <= self.written
    }

    /// Bytes handed to the operating system since the beginning.
    pub(crate) fn written(&self) -> u64 {
        self.written
    }

    /// Bytes that were queued and not yet written.
    pub(crate) fn unwritten(&self) -> usize {
        (self.queued - self.written) as usize
    }

    /// Returns the task to wake, after the lock is released, unless it is going to run anyway.
    #[must_use]
    pub(crate) fn wake(&mut self) -> Option<Waker> {
        if std::mem::replace(&mut self.scheduled, true) { None } else { self.task.clone() }
    }

    /// Returns the task to wake even when it waits for the socket, as for an earlier timer.
    #[must_use]
    pub(crate) fn wake_always(&mut self) -> Option<Waker> {
        self.scheduled = true;
        self.task.clone()
    }

    /// The writing task runs: until [`Outbox::rest`] nobody needs to wake it.
    pub(crate) fn begin(&mut self, task: &Waker) {
        self.scheduled = true;
        match &mut self.task {
            Some(known) => known.clone_from(task),
            None => self.task = Some(task.clone()),
        }
    }

    /// The writing task goes to sleep, unless there is something to write, which it then has to.
    pub(crate) fn rest(&mut self) -> bool {
        self.scheduled = !self.buffer.is_empty();
        !self.scheduled
    }

    /// Notes `count` bytes as written and, when `spent` is empty, exchanges it for what waits.
    pub(crate) fn exchange(&mut self, count: usize, spent: &mut BytesMut) {
        self.written += count as u64;
        if spent.is_empty() {
            if spent.capacity() > KEEP {
                *spent = BytesMut::new();
            }
            spent.clear();
            std::mem::swap(spent, &mut self.buffer);
        }
    }
}

impl AsMut<Outbox> for Outbox {
    fn as_mut(&mut self) -> &mut Outbox {
        self
    }
}

/// Locks what a panic cannot leave half-changed: all critical sections of this crate are short and
/// call nothing of the user's.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::{kind, put_control};

    fn ping(outbox: &mut Outbox) -> Span {
        outbox.push(|out| put_control(out, kind::PING, 0))
    }

    /// A frame is written when its last byte is, not before.
    #[test]
    fn knows_what_is_written() {
        let mut outbox = Outbox::default();
        let (first, second) = (ping(&mut outbox), ping(&mut outbox));
        let mut writing = BytesMut::new();
        outbox.exchange(0, &mut writing);
        assert_eq!(writing.len(), 28);
        outbox.exchange(27, &mut writing);
        assert!(outbox.is_written(&first) && !outbox.is_written(&second));
        outbox.exchange(1, &mut writing);
        assert!(outbox.is_written(&second));
        assert_eq!(outbox.unwritten(), 0);
    }

    /// A frame can be withdrawn until it is taken, and leaves the others alone.
    #[test]
    fn withdraws_what_was_not_taken() {
        let mut outbox = Outbox::default();
        let taken = ping(&mut outbox);
        let mut writing = BytesMut::new();
        outbox.exchange(0, &mut writing);
        let (kept, withdrawn) = (ping(&mut outbox), ping(&mut outbox));
        assert!(!outbox.withdraw(&taken));
        assert!(outbox.withdraw(&withdrawn));
        assert_eq!(outbox.buffer[4..6], [kind::PING, 0]);
        assert_eq!(outbox.buffer[18..20], PAD);
        assert_eq!(kept.end, withdrawn.start);
    }
}
