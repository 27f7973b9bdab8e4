//! Whether the peer still lives: a plain structure over events and the time.

use std::time::Duration;

use tokio::time::Instant;

/// Decides when to ping a peer, and when its silence means that it is gone.
#[derive(Debug)]
pub(super) struct Keepalive {
    interval: Duration,
    timeout: Duration,
    last_read: Instant,
    pinged: Option<Instant>,
}

/// What to do now, and when to ask again.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    Fine(Instant),
    Ping(Instant),
    Dead,
}

/// A connection without calls is pinged this seldom.
const IDLE: Duration = Duration::from_secs(15);

impl Keepalive {
    pub(super) fn new(interval: Duration, timeout: Duration, now: Instant) -> Self {
        Self { interval, timeout, last_read: now, pinged: None }
    }

    /// Bytes came, whatever they are.
    pub(super) fn read(&mut self, now: Instant) {
        self.last_read = now;
        self.pinged = None;
    }

    /// Decides, given whether calls wait for an answer.
    pub(super) fn check(&mut self, now: Instant, busy: bool) -> Verdict {
        if let Some(pinged) = self.pinged {
            let end = pinged + self.timeout;
            return if end <= now { Verdict::Dead } else { Verdict::Fine(end) };
        }
        let quiet = if busy { self.interval } else { self.interval.max(IDLE) };
        let due = self.last_read + quiet;
        if due > now {
            return Verdict::Fine(due);
        }
        self.pinged = Some(now);
        Verdict::Ping(now + self.timeout)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn keepalive(now: Instant) -> Keepalive {
        Keepalive::new(SECOND, 2 * SECOND, now)
    }

    /// Silence while calls wait is asked about after the interval and fatal after the timeout.
    #[test]
    fn silence_is_fatal() {
        let start = Instant::now();
        let mut keepalive = keepalive(start);
        assert_eq!(keepalive.check(start, true), Verdict::Fine(start + SECOND));
        assert_eq!(keepalive.check(start + SECOND, true), Verdict::Ping(start + 3 * SECOND));
        assert_eq!(keepalive.check(start + 2 * SECOND, true), Verdict::Fine(start + 3 * SECOND));
        assert_eq!(keepalive.check(start + 3 * SECOND, true), Verdict::Dead);
    }

    /// Any byte is a sign of life, and an idle connection is left in peace for longer.
    #[test]
    fn bytes_are_life() {
        let start = Instant::now();
        let mut keepalive = keepalive(start);
        keepalive.check(start + SECOND, true);
        keepalive.read(start + 2 * SECOND);
        assert_eq!(
            keepalive.check(start + 3 * SECOND, false),
            Verdict::Fine(start + 2 * SECOND + IDLE)
        );
        assert_eq!(keepalive.check(start + 3 * SECOND, true), Verdict::Ping(start + 5 * SECOND));
    }
}
