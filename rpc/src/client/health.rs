//! When to connect again, and whether the node wants calls: a plain structure over events and the
//! time, behind a lock.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::time::Instant;

use crate::outbox::lock;

/// What the connections of one channel learned about their node.
#[derive(Debug, Default)]
pub(super) struct Health {
    state: Mutex<State>,
    /// Whether the state may say that calls had better go elsewhere: what every pick asks, without the
    /// lock.
    may_be_away: AtomicBool,
}

#[derive(Debug, Default)]
struct State {
    failures: u32,
    retry_at: Option<Instant>,
    reason: String,
    /// Connections that are there and on which the node announced that it is going to stop.
    announcing: usize,
    /// Whether that is believed: no other connection has told otherwise since.
    is_believed: bool,
    /// Until when the node is believed to take no calls, though no connection says so any more.
    hold: Option<Instant>,
    /// Until when calls had better go elsewhere, as a connection was lost and none answers.
    lost: Option<Instant>,
    /// Connections that are there, on which the node has answered and takes calls.
    serving: usize,
}

/// Why no connection is attempted now.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct BackingOff {
    pub(super) reason: String,
    pub(super) next_try: Duration,
}

const FIRST: Duration = Duration::from_millis(100);
const FACTOR: f64 = 1.6;
const LONGEST: Duration = Duration::from_secs(10);
/// Two delays of the same length spread over this share of it, so that clients do not come at once.
const JITTER: f64 = 0.2;
/// How long a go-away is believed, once its connection is gone, before a call may see for itself.
const DRAIN_HOLD: Duration = Duration::from_secs(1);

impl Health {
    /// Whether a connection may be attempted.
    pub(super) fn may_connect(&self, now: Instant) -> Result<(), BackingOff> {
        lock(&self.state).may_connect(now)
    }

    /// A connection could not be made, or was of no use.
    pub(super) fn failed(&self, now: Instant, reason: String) {
        self.change(|state| state.failed(now, reason));
    }

    /// The node answered something for the first time on a connection: it is up; and it takes calls
    /// unless it has announced on this connection that it is going to stop.
    pub(super) fn answered(&self, has_announced: bool) {
        self.change(|state| state.answered(has_announced));
    }

    /// A connection is among those on which the node answers, until [`left`](Self::left).
    pub(super) fn joined(&self) {
        self.change(|state| state.serving += 1);
    }

    /// A connection is no longer among those on which the node answers.
    pub(super) fn left(&self) {
        self.change(|state| state.serving -= 1);
    }

    /// The node announced that it is going to stop, for the first time on a connection.
    pub(super) fn announced(&self) {
        self.change(State::announced);
    }

    /// The node said go-away, `used` telling whether it accepted a call on that connection before.
    /// While it answers on others, that was about this connection alone.
    pub(super) fn told_to_go(&self, now: Instant, used: bool) {
        self.change(|state| state.told_to_go(now, used));
    }

    /// A connection is gone on which the node had announced that it is going to stop.
    pub(super) fn disconnected(&self, now: Instant) {
        self.change(|state| state.disconnected(now));
    }

    /// A connection was lost without a word: the node may have died, unless it answers on others.
    /// Another may be attempted, as a node that is alone, or was restarted, has to be found.
    pub(super) fn lost(&self, now: Instant) {
        self.change(|state| state.lost(now));
    }

    /// Whether the node said, not long ago, that it wants no new calls.
    pub(super) fn is_draining(&self, now: impl FnOnce() -> Instant) -> bool {
        self.may_be_away.load(Ordering::Relaxed) && lock(&self.state).is_draining(now())
    }

    /// Whether the node said so, or answers on no connection, and could not be reached and it is too
    /// early to try again, or lost a connection just now.
    pub(super) fn is_away(&self, now: impl FnOnce() -> Instant) -> bool {
        self.may_be_away.load(Ordering::Relaxed) && lock(&self.state).is_away(now())
    }

    fn change(&self, change: impl FnOnce(&mut State)) {
        let mut state = lock(&self.state);
        change(&mut state);
        self.may_be_away.store(state.may_be_away(), Ordering::Relaxed);
    }
}

impl State {
    fn may_connect(&self, now: Instant) -> Result<(), BackingOff> {
        match self.retry_at {
            Some(at) if at > now => {
                Err(BackingOff { reason: self.reason.clone(), next_try: at - now })
            }
            _ => Ok(()),
        }
    }

    fn failed(&mut self, now: Instant, reason: String) {
        self.retry_at = Some(now + delay(self.failures));
        self.failures = self.failures.saturating_add(1);
        self.reason = reason;
    }

    fn answered(&mut self, has_announced: bool) {
        (self.failures, self.retry_at, self.lost) = (0, None, None);
        if !has_announced {
            (self.is_believed, self.hold) = (false, None);
        }
    }

    fn lost(&mut self, now: Instant) {
        if self.serving == 0 {
            self.lost = Some(now + delay(0));
        }
    }

    fn announced(&mut self) {
        self.announcing += 1;
        self.is_believed = true;
    }

    fn told_to_go(&mut self, now: Instant, used: bool) {
        if !used {
            self.failed(now, "the node takes no calls".into());
        }
        if self.serving == 0 {
            self.hold_from(now);
        }
    }

    fn disconnected(&mut self, now: Instant) {
        self.announcing -= 1;
        if self.announcing == 0 && std::mem::take(&mut self.is_believed) {
            self.hold_from(now);
        }
    }

    fn is_draining(&self, now: Instant) -> bool {
        self.is_believed || self.hold.is_some_and(|until| until > now)
    }

    fn is_away(&self, now: Instant) -> bool {
        let is_lost = self.lost.is_some_and(|until| until > now);
        let is_out_of_reach = is_lost || self.may_connect(now).is_err();
        self.is_draining(now) || self.serving == 0 && is_out_of_reach
    }

    fn may_be_away(&self) -> bool {
        self.is_believed || self.hold.is_some() || self.retry_at.is_some() || self.lost.is_some()
    }

    /// Holds at least as long as no connection is attempted anyway.
    fn hold_from(&mut self, now: Instant) {
        let hold = now + DRAIN_HOLD;
        self.hold = Some(self.retry_at.map_or(hold, |retry| retry.max(hold)));
    }
}

/// 100 ms × 1.6ⁿ, at most 10 s, ± 20 %.
fn delay(failures: u32) -> Duration {
    let exponent = i32::try_from(failures.min(20)).unwrap_or(20);
    let base = FIRST.mul_f64(FACTOR.powi(exponent)).min(LONGEST);
    base.mul_f64(1.0 + JITTER * (2.0 * fastrand::f64() - 1.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Delays grow from 100 ms to 10 s, within their jitter, and never further.
    #[test]
    fn delays_grow_and_end() {
        for (failures, ms) in
            [(0, 100.0), (1, 160.0), (5, 1048.6), (10, 10_000.0), (u32::MAX, 10_000.0)]
        {
            let delay = delay(failures).as_secs_f64() * 1000.0;
            assert!((0.79 * ms..1.21 * ms).contains(&delay), "{failures}: {delay}");
        }
    }

    /// After a failure no connection is attempted for a while; an answer ends that.
    #[test]
    fn backs_off_until_answered() {
        let now = Instant::now();
        let health = Health::default();
        assert_eq!(health.may_connect(now), Ok(()));
        health.failed(now, "refused".into());
        assert_eq!(health.may_connect(now).unwrap_err().reason, "refused");
        assert_eq!(health.may_connect(now + Duration::from_millis(121)), Ok(()));
        health.answered(false);
        assert_eq!(health.may_connect(now), Ok(()));
    }

    /// A node that cannot be reached is away, and does not drain, until it may be tried again or
    /// answers.
    #[test]
    fn away_while_backing_off() {
        let now = Instant::now();
        let health = Health::default();
        assert!(!health.is_away(|| now));
        health.failed(now, "refused".into());
        assert!(health.is_away(|| now) && !health.is_draining(|| now));
        assert!(!health.is_away(|| now + Duration::from_millis(121)));
        health.answered(false);
        assert!(!health.is_away(|| now));
        health.announced();
        assert!(health.is_away(|| now));
    }

    /// A node that lost a connection is away for a moment, or until it answers on another, which may
    /// be attempted at once; it does not drain.
    #[test]
    fn away_after_a_loss() {
        let now = Instant::now();
        let health = Health::default();
        health.lost(now);
        assert!(health.is_away(|| now) && !health.is_draining(|| now));
        assert_eq!(health.may_connect(now), Ok(()));
        assert!(!health.is_away(|| now + Duration::from_millis(121)));
        health.answered(false);
        assert!(!health.is_away(|| now));
    }

    /// While the node answers on a connection, it is not away: neither when another is lost, nor when
    /// one is told to go, or cannot be made.
    #[test]
    fn not_away_while_it_answers() {
        let now = Instant::now();
        let losses: [fn(&Health, Instant); 4] = [
            |health, now| health.lost(now),
            |health, now| health.failed(now, "refused".into()),
            |health, now| health.told_to_go(now, true),
            |health, now| health.told_to_go(now, false),
        ];
        for lose in losses {
            let health = Health::default();
            health.joined();
            health.joined();
            health.left();
            lose(&health, now);
            assert!(!health.is_away(|| now));
            health.left();
            lose(&health, now);
            assert!(health.is_away(|| now));
        }
    }

    /// A go-away on a used connection lets a new one be tried at once; on an unused one it does not,
    /// and the reason fits a node that stops as well as one that is full.
    #[test]
    fn go_away() {
        let now = Instant::now();
        let health = Health::default();
        health.told_to_go(now, true);
        assert!(health.is_draining(|| now) && health.may_connect(now).is_ok());
        health.told_to_go(now, false);
        assert_eq!(health.may_connect(now).unwrap_err().reason, "the node takes no calls");
        assert!(!health.is_draining(|| now + 2 * DRAIN_HOLD));
    }

    /// What was announced holds as long as its connection and a moment longer; answers on that
    /// connection do not take it back, one on another does.
    #[test]
    fn announcements() {
        let now = Instant::now();
        let later = now + Duration::from_secs(60);
        let health = Health::default();
        health.announced();
        health.answered(true);
        assert!(health.is_draining(|| later));
        health.disconnected(later);
        assert!(health.is_draining(|| later) && !health.is_draining(|| later + 2 * DRAIN_HOLD));
        health.announced();
        health.answered(false);
        assert!(!health.is_draining(|| now));
    }

    /// What was announced on several connections holds until the last of them has ended, and one
    /// that was told otherwise is not believed when it ends.
    #[test]
    fn announced_on_several_connections() {
        let now = Instant::now();
        let later = now + Duration::from_secs(60);
        let health = Health::default();
        health.announced();
        health.announced();
        health.disconnected(now);
        assert!(health.is_draining(|| later));
        health.disconnected(now);
        assert!(health.is_draining(|| now) && !health.is_draining(|| later));
        health.announced();
        health.answered(false);
        health.disconnected(now);
        assert!(!health.is_draining(|| now));
    }
}
