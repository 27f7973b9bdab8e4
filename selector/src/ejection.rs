//! Whether a node is fit to be called: a state machine over how its attempts ended.

use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use crate::atomic::{AtomicU32, AtomicU64};
use crate::moment::Moment;
use crate::peers::Peers;

/// When a service that fails is called no more, and for how long. [`Default`] is what the fields name:
/// the figures by which the nodes of a [`Picker`](crate::Picker) are ejected. Values out of their range
/// count as the nearest in it.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub struct EjectionPolicy {
    /// So many failures in a row eject it: at least 1, default 5 (Envoy, outlier detection).
    pub failures: u32,
    /// So does a share of answers over the last 5 to 10 s below this: 0.0..=1.0, default 0.8. With 0
    /// no share does.
    pub answered: f64,
    /// From how many calls in that time on the share counts: at least 1, default 10. No more than
    /// 60 000 are told apart.
    pub enough: u32,
    /// How long it is out, ± 25 %, before a call probes it: at least 1 ms, default 1 s. Each further
    /// time takes twice as long; 10 s of good conduct take one doubling back.
    pub rest: Duration,
    /// The longest such time: at least `rest`, at most a day, default a minute.
    pub longest_rest: Duration,
}

impl Default for EjectionPolicy {
    fn default() -> Self {
        USUAL
    }
}

impl EjectionPolicy {
    /// Sets [`failures`](field@Self::failures).
    #[must_use]
    pub fn failures(mut self, in_a_row: u32) -> Self {
        self.failures = in_a_row;
        self
    }

    /// Sets [`answered`](field@Self::answered) and [`enough`](field@Self::enough).
    #[must_use]
    pub fn answered(mut self, share: f64, of_at_least: u32) -> Self {
        (self.answered, self.enough) = (share, of_at_least);
        self
    }

    /// Sets [`rest`](field@Self::rest) and [`longest_rest`](field@Self::longest_rest).
    #[must_use]
    pub fn rest(mut self, first: Duration, longest: Duration) -> Self {
        (self.rest, self.longest_rest) = (first, longest);
        self
    }

    pub(crate) fn clamped(self) -> Self {
        let rest = self.rest.clamp(Duration::from_millis(1), LONGEST);
        Self {
            failures: self.failures.max(1),
            answered: if self.answered.is_nan() { 0.0 } else { self.answered.clamp(0.0, 1.0) },
            enough: self.enough.clamp(1, 60_000),
            rest,
            longest_rest: self.longest_rest.clamp(rest, LONGEST),
        }
    }

    /// From here on a further time makes no difference.
    fn most(&self) -> u8 {
        (0..MOST).find(|times| self.rested(*times) >= self.longest_rest).unwrap_or(MOST)
    }

    /// How long it is out that was so often before, without jitter.
    fn rested(&self, times: u8) -> Duration {
        self.rest.saturating_mul(1 << times.min(MOST)).min(self.longest_rest)
    }

    fn rest_after(&self, times: u8) -> Duration {
        self.rested(times).mul_f64(1.0 - JITTER + 2.0 * JITTER * fastrand::f64())
    }

    /// Whether too few were answered.
    fn is_poor(&self, all: u32, failed: u32) -> bool {
        all >= self.enough && f64::from(all - failed) < self.answered * f64::from(all)
    }
}

/// What says by which policy something is ejected: all nodes by the usual one, which they do not
/// carry around.
pub(crate) trait Rules {
    fn policy(&self) -> EjectionPolicy;
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct Usual;

impl Rules for Usual {
    #[inline]
    fn policy(&self) -> EjectionPolicy {
        USUAL
    }
}

impl Rules for EjectionPolicy {
    fn policy(&self) -> EjectionPolicy {
        *self
    }
}

/// The status of one node.
///
/// After so many infrastructure failures in a row, or with less than a share of enough attempts of the
/// last seconds answered, as its [policy](EjectionPolicy) says, a node is *out* for a while, twice as
/// long each further time, ± 25 %. The next attempt after that is its probe: an answer
/// takes the node in again, a failure puts it out for longer. Never more than half of the nodes are
/// out. The rules, and the figures but for the times, are those of Envoy's outlier detection; the
/// probe in front of all others is Finagle's `FailFast`.
///
/// What an application answers never counts, be it an error.
#[derive(Debug)]
pub(crate) struct Ejection<R = Usual> {
    rules: R,
    /// A [`State`], packed.
    state: AtomicU64,
    /// Failures since the last answer.
    in_a_row: AtomicU32,
    /// A [`Tally`] each, packed: of this half of the window and of the one before.
    tallies: [AtomicU64; 2],
}

const USUAL: EjectionPolicy = EjectionPolicy {
    failures: 5,
    answered: 0.8,
    enough: 10,
    rest: Duration::from_secs(1),
    longest_rest: Duration::from_secs(60),
};
/// Half of the window of ten seconds over which the rate of success is taken.
const HALF_WINDOW: u64 = 5_000_000_000;
/// Nobody is out for longer.
const LONGEST: Duration = Duration::from_secs(24 * 3600);
/// The most doublings that are remembered: from a millisecond to a day.
const MOST: u8 = 27;
const JITTER: f64 = 0.25;
/// Each so many nanoseconds of good conduct take one doubling back.
const FORGIVEN_AFTER: u64 = 10_000_000_000;

impl Ejection {
    pub(crate) fn new() -> Self {
        Self::by(Usual)
    }
}

impl<R: Rules> Ejection<R> {
    pub(crate) fn by(rules: R) -> Self {
        let state = State { phase: Phase::In, times: 0, at: Moment::START };
        Self {
            rules,
            state: AtomicU64::new(state.pack()),
            in_a_row: AtomicU32::new(0),
            tallies: Default::default(),
        }
    }

    pub(crate) fn is_out(&self) -> bool {
        !matches!(self.state().phase, Phase::In)
    }

    /// How many attempts failed since one was answered.
    pub(crate) fn failures(&self) -> u32 {
        self.in_a_row.load(Relaxed)
    }

    /// When the node wants its probe, if it is out and none is under way.
    pub(crate) fn due(&self) -> Option<Moment> {
        let state = self.state();
        (state.phase == Phase::Out).then_some(state.at)
    }

    /// Makes the attempt about to begin the node's probe, for one of those who try.
    pub(crate) fn begin_probe(&self, now: Moment) -> bool {
        self.change(|state| {
            let is_due = state.phase == Phase::Out && state.at <= now;
            is_due.then_some(State { phase: Phase::Probing, ..state })
        })
    }

    /// An attempt was answered. Returns whether that took the node in again.
    #[inline]
    pub(crate) fn answered(&self, is_probe: bool, peers: &Peers, now: Moment) -> bool {
        if self.failures() > 0 {
            self.in_a_row.store(0, Relaxed);
        }
        let is_in_again = is_probe && self.take_in(now);
        if is_in_again {
            self.tallies.iter().for_each(|tally| tally.store(0, Relaxed));
            peers.release();
        }
        self.count(false, now);
        is_in_again
    }

    /// An attempt failed for want of infrastructure.
    pub(crate) fn failed(&self, is_probe: bool, peers: &Peers, now: Moment) {
        let in_a_row = self.in_a_row.fetch_add(1, Relaxed).saturating_add(1);
        self.count(true, now);
        if is_probe {
            self.end_probe(peers, now, true);
        } else if !self.is_out() && (in_a_row >= self.rules.policy().failures || self.is_poor(now))
        {
            self.put_out(peers, now);
        }
    }

    /// A probe ended without telling anything.
    pub(crate) fn probe_told_nothing(&self, peers: &Peers, now: Moment) {
        self.end_probe(peers, now, false);
    }

    /// The node is gone: it gives its place among the ejected back, and takes none again before it
    /// [returns](Self::enter).
    pub(crate) fn retire(&self, peers: &Peers) {
        let gone = State { phase: Phase::Gone, times: 0, at: Moment::START };
        let before = State::unpack(self.state.swap(gone.pack(), Relaxed));
        if matches!(before.phase, Phase::Out | Phase::Probing) {
            peers.release();
        }
    }

    /// The node is there, anew if it was gone. Returns whether it was.
    pub(crate) fn enter(&self, now: Moment) -> bool {
        let was_gone = self.change(|state| {
            let fresh = State { phase: Phase::In, times: 0, at: now };
            (state.phase == Phase::Gone).then_some(fresh)
        });
        if was_gone {
            self.in_a_row.store(0, Relaxed);
            self.tallies.iter().for_each(|tally| tally.store(0, Relaxed));
        }
        was_gone
    }

    fn put_out(&self, peers: &Peers, now: Moment) {
        if !peers.reserve(now) {
            return;
        }
        let (mut due, policy) = (now, self.rules.policy());
        let is_out = self.change(|state| {
            let forgiven = now.since(state.at) / FORGIVEN_AFTER;
            let times = state.times.saturating_sub(u8::try_from(forgiven).unwrap_or(u8::MAX));
            due = now.after(policy.rest_after(times));
            (state.phase == Phase::In).then_some(State { phase: Phase::Out, times, at: due })
        });
        if is_out {
            peers.ejected_until(due);
        } else {
            // Another failure at the same time was quicker.
            peers.release();
        }
    }

    fn end_probe(&self, peers: &Peers, now: Moment, failed: bool) {
        let (mut due, policy) = (now, self.rules.policy());
        let most = policy.most();
        self.change(|state| {
            let times = if failed { state.times.saturating_add(1).min(most) } else { state.times };
            due = if failed { now.after(policy.rest_after(times)) } else { now };
            (state.phase == Phase::Probing).then_some(State { phase: Phase::Out, times, at: due })
        });
        peers.probe_at(due);
    }

    fn take_in(&self, now: Moment) -> bool {
        let most = self.rules.policy().most();
        self.change(|state| {
            let is_probing = state.phase == Phase::Probing;
            let times = state.times.saturating_add(1).min(most);
            is_probing.then_some(State { phase: Phase::In, times, at: now })
        })
    }

    #[inline]
    fn count(&self, failed: bool, now: Moment) {
        let half = (now.nanos() / HALF_WINDOW) as u32;
        let tally = &self.tallies[half as usize % 2];
        let known = Tally::unpack(tally.load(Relaxed));
        if known.half == half && known.all < u16::MAX / 2 {
            // So far from full that all who do this at once do not fill it.
            tally.fetch_add(Tally::default().plus(failed).pack(), Relaxed);
            return;
        }
        let add = |word| Some(Tally::unpack(word).of(half).plus(failed).pack());
        // Always some, so it never fails.
        let _ = tally.fetch_update(Relaxed, Relaxed, add);
    }

    /// Whether too few attempts of the window were answered.
    fn is_poor(&self, now: Moment) -> bool {
        let half = (now.nanos() / HALF_WINDOW) as u32;
        let tallies = self.tallies.iter().map(|tally| Tally::unpack(tally.load(Relaxed)));
        let recent = tallies.filter(|tally| tally.half == half || tally.half + 1 == half);
        let (all, failed) = recent.fold((0, 0), |(all, failed), tally| {
            (all + u32::from(tally.all), failed + u32::from(tally.failed))
        });
        self.rules.policy().is_poor(all, failed)
    }

    fn state(&self) -> State {
        State::unpack(self.state.load(Relaxed))
    }

    fn change(&self, mut to: impl FnMut(State) -> Option<State>) -> bool {
        let change = |word| to(State::unpack(word)).map(State::pack);
        self.state.fetch_update(Relaxed, Relaxed, change).is_ok()
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    In,
    Out,
    Probing,
    Gone,
}

/// Where a node is in its life.
#[derive(Clone, Copy, Debug)]
struct State {
    phase: Phase,
    /// How often it was out not long ago.
    times: u8,
    /// In: since when. Out: until when.
    at: Moment,
}

impl State {
    /// Two bits of phase, six of times, and 56 of microseconds: 2 000 years.
    fn pack(self) -> u64 {
        let micros = (self.at.nanos() / 1_000).min((1 << 56) - 1);
        (self.phase as u64) << 62 | u64::from(self.times & 63) << 56 | micros
    }

    fn unpack(word: u64) -> Self {
        let phase = [Phase::In, Phase::Out, Phase::Probing, Phase::Gone][(word >> 62) as usize];
        let micros = word & ((1 << 56) - 1);
        let times = (word >> 56) as u8 & 63;
        Self { phase, times, at: Moment::from_nanos(micros.saturating_mul(1_000)) }
    }
}

/// What happened in one half of the window.
#[derive(Clone, Copy, Debug, Default)]
struct Tally {
    half: u32,
    all: u16,
    failed: u16,
}

impl Tally {
    /// The tally of this half, empty when what there is belongs to an earlier one.
    fn of(self, half: u32) -> Self {
        if self.half == half { self } else { Self { half, ..Self::default() } }
    }

    fn plus(mut self, failed: bool) -> Self {
        if self.all == u16::MAX {
            (self.all, self.failed) = (self.all / 2, self.failed / 2);
        }
        self.all += 1;
        self.failed += u16::from(failed);
        self
    }

    fn pack(self) -> u64 {
        u64::from(self.half) << 32 | u64::from(self.all) << 16 | u64::from(self.failed)
    }

    fn unpack(word: u64) -> Self {
        Self { half: (word >> 32) as u32, all: (word >> 16) as u16, failed: word as u16 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::time::Instant;

    fn at(millis: u64) -> Moment {
        Moment::from_nanos(millis * 1_000_000)
    }

    fn peers(size: usize) -> Peers {
        let peers = Peers::new(Instant::now());
        peers.resize(size);
        peers
    }

    fn fail(node: &Ejection, peers: &Peers, times: u32, millis: u64) {
        (0..times).for_each(|_| node.failed(false, peers, at(millis)));
    }

    fn answer(node: &Ejection, peers: &Peers, times: u32, millis: u64) {
        for _ in 0..times {
            assert!(!node.answered(false, peers, at(millis)), "it was no probe");
        }
    }

    /// Five failures in a row put a node out; answers in between, of whatever kind, do not let it
    /// come to that.
    #[test]
    fn five_in_a_row() {
        let (node, peers) = (Ejection::new(), peers(10));
        for _ in 0..3 {
            answer(&node, &peers, 40, 0);
            fail(&node, &peers, 4, 0);
        }
        answer(&node, &peers, 1, 0);
        assert!(!node.is_out());
        fail(&node, &peers, 5, 0);
        assert!(node.is_out());
        assert_eq!(peers.ejected(), 1);
    }

    /// Fewer than 80 % answered of at least ten in the last seconds put a node out.
    #[test]
    fn a_poor_rate() {
        let mixed = |millis: u64| {
            let (node, peers) = (Ejection::new(), peers(10));
            for turn in 0..12 {
                match turn % 4 {
                    0 => fail(&node, &peers, 1, turn * millis),
                    _ => answer(&node, &peers, 1, turn * millis),
                }
            }
            node.is_out()
        };
        assert!(!mixed(10), "three of twelve failed, the last one as the ninth");
        let (node, peers) = (Ejection::new(), peers(10));
        for turn in 0..12 {
            fail(&node, &peers, 1, turn * 10);
            answer(&node, &peers, 1, turn * 10);
        }
        assert!(node.is_out());
        let (node, peers) = (Ejection::new(), self::peers(10));
        for turn in 0..12 {
            fail(&node, &peers, 1, turn * 10_000);
            answer(&node, &peers, 1, turn * 10_000);
        }
        assert!(!node.is_out(), "too few at a time to tell");
    }

    /// A node is out for a second, twice as long each further time, up to a minute, ± 25 %; one
    /// attempt probes it then, and an answer takes it in again.
    #[test]
    fn probed_after_ever_longer_rests() {
        let (node, peers) = (Ejection::new(), peers(10));
        let mut now = 0;
        fail(&node, &peers, 5, now);
        for seconds in [1, 2, 4, 8, 16, 32, 60, 60, 60] {
            let due = node.due().expect("it is out");
            let rest = due.since(at(now)) as f64 / 1e9;
            let expected = f64::from(seconds);
            assert!((0.74 * expected..1.26 * expected).contains(&rest), "{rest} of {expected}");
            assert!(!node.begin_probe(at(now)));
            now = due.nanos() / 1_000_000 + 1;
            assert!(node.begin_probe(at(now)));
            assert!(!node.begin_probe(at(now)), "one probe at a time");
            node.failed(true, &peers, at(now));
        }
        now = node.due().expect("it is out").nanos() / 1_000_000 + 1;
        assert!(node.begin_probe(at(now)));
        assert!(node.answered(true, &peers, at(now)));
        assert!(!node.is_out());
        assert_eq!(peers.ejected(), 0);
    }

    /// A probe that was cancelled is made again at once; a node that has left gives its place back.
    #[test]
    fn probes_and_places_are_given_back() {
        let (node, peers) = (Ejection::new(), peers(10));
        fail(&node, &peers, 5, 0);
        assert!(node.begin_probe(at(2_000)));
        node.probe_told_nothing(&peers, at(2_100));
        assert!(node.begin_probe(at(2_100)));
        node.retire(&peers);
        assert_eq!(peers.ejected(), 0);
        node.failed(true, &peers, at(2_200));
        fail(&node, &peers, 10, 2_300);
        node.retire(&peers);
        assert_eq!(peers.ejected(), 0, "it takes none any more");
    }

    /// Half of the nodes at most are out, never the last; the next one to fail means panic, which
    /// passes.
    #[test]
    fn at_most_half() {
        for size in 0..8 {
            let (nodes, peers): (Vec<_>, _) =
                ((0..size).map(|_| Ejection::new()).collect(), peers(size));
            nodes.iter().for_each(|node| fail(node, &peers, 5, 0));
            assert_eq!(nodes.iter().filter(|node| node.is_out()).count(), size / 2);
            assert_eq!(peers.is_in_panic(at(0)), size > 0);
            assert!(!peers.is_in_panic(at(2_000)));
        }
    }

    /// What is packed is unpacked.
    #[test]
    fn states_survive_packing() {
        for phase in [Phase::In, Phase::Out, Phase::Probing, Phase::Gone] {
            for micros in [0, 1, 77_000_000, (1 << 54) - 1] {
                let state = State { phase, times: 6, at: Moment::from_nanos(micros * 1_000) };
                let same = State::unpack(state.pack());
                assert_eq!((same.phase, same.times, same.at), (phase, 6, state.at));
            }
        }
    }

    /// A node and a half-failed set that threads share.
    struct Shared {
        nodes: [Ejection; 2],
        peers: Peers,
    }

    /// Two nodes that each are one failure from being put out, of a set in which one may be.
    fn shared() -> Shared {
        let shared = Shared { nodes: [Ejection::new(), Ejection::new()], peers: peers(2) };
        shared.nodes.iter().for_each(|node| fail(node, &shared.peers, 4, 0));
        shared
    }

    /// Plays the threads in every order; in the end as many places are taken as nodes are out, and
    /// never more than there are.
    fn always(fresh: impl Fn() -> Shared, thread: impl Fn(&Shared, usize) + Sync) {
        let orders = crate::interleave::explore(2, fresh, thread, |shared| {
            let is_out =
                |node: &&Ejection| matches!(node.state().phase, Phase::Out | Phase::Probing);
            let out = shared.nodes.iter().filter(is_out).count();
            assert_eq!(out, shared.peers.ejected() as usize);
            assert!(shared.peers.ejected() <= shared.peers.cap());
        });
        assert!(orders > 10, "{orders}");
    }

    /// Two nodes that fail at once do not both get the last place, and one that fails twice at once
    /// does not take two.
    #[test]
    fn places_are_counted_in_every_order() {
        let fails = |node: &Ejection, shared: &Shared| {
            node.failed(false, &shared.peers, at(1));
            assert!(shared.peers.ejected() <= 1);
        };
        always(shared, |shared, thread| fails(&shared.nodes[thread], shared));
        always(shared, |shared, _| fails(&shared.nodes[0], shared));
    }

    /// One attempt alone is the probe; its end, whichever, a further failure and the node's leaving
    /// at the same time leave no place taken for ever.
    #[test]
    fn probes_end_in_every_order() {
        let out = || {
            let shared = shared();
            fail(&shared.nodes[0], &shared.peers, 1, 0);
            shared
        };
        let probe = |shared: &Shared, end: usize| {
            let (node, peers) = (&shared.nodes[0], &shared.peers);
            if node.begin_probe(at(2_000)) {
                match end {
                    0 => _ = node.answered(true, peers, at(2_001)),
                    1 => node.failed(true, peers, at(2_001)),
                    _ => node.probe_told_nothing(peers, at(2_001)),
                }
            }
        };
        for end in 0..3 {
            always(out, |shared, _| probe(shared, end));
            always(out, |shared, thread| match thread {
                0 => probe(shared, end),
                _ => shared.nodes[0].retire(&shared.peers),
            });
            always(out, |shared, thread| match thread {
                0 => probe(shared, end),
                _ => shared.nodes[0].failed(false, &shared.peers, at(2_001)),
            });
        }
        always(shared, |shared, thread| match thread {
            0 => shared.nodes[0].failed(false, &shared.peers, at(1)),
            _ => shared.nodes[0].retire(&shared.peers),
        });
    }
}
