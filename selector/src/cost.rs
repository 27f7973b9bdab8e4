//! What a call to a node is expected to cost, from how its last ones went.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use crate::NodeStats;
use crate::atomic::{AtomicU32, AtomicU64};
use crate::methods::Method;
use crate::moment::Moment;
use crate::node::Begun;

/// The cost of one node: a peak-sensitive, exponentially weighted mean of its response times.
///
/// The mean is Finagle's `PeakEwma`: a sample above it replaces it, one below it pulls it down by
/// the weight `exp(-dt / τ)`, and the cost is the mean times the attempts in flight. Four repairs
/// make it hold under failure:
///
/// - a failure counts as a multiple of the set's median, however fast it came, and is kept apart from
///   what was measured: nothing that is derived from the median ever enters it;
/// - while attempts are in flight, the cost is at least the time since the last progress, so that a
///   node that hangs is seen before the first attempt to it times out;
/// - the estimate of an idle node decays towards the set's median, not towards zero;
/// - a node never heard of costs the median.
///
/// All times are those of a call in the mean over all methods, whatever was called: what another
/// method took is [put in relation](Method::relative). So the estimate says how slow the node is, not
/// what it was asked last.
///
/// Races between updates lose at most one sample's share of the mean.
#[derive(Debug)]
pub(crate) struct Cost {
    /// A [`Load`], packed.
    load: AtomicU64,
    /// The mean of what was measured, in nanoseconds as the bits of an `f32`. Zero: unknown.
    estimate: AtomicU32,
    /// What failures of late make of it, in the same way. Zero: none. The median leaves it out, or
    /// failures would raise their own measure.
    penalty: AtomicU32,
    /// When the estimate last took in a sample.
    updated: AtomicU64,
    /// A [`Progress`], packed.
    progress: AtomicU64,
}

/// The time constant of the mean: Finagle's default.
const TAU: f32 = 10e9;
/// The time constant by which an idle node's estimate forgets what sets it apart. Ours: shorter, and
/// slow nodes are asked too often; longer, and one that heals waits for its share.
const IDLE_TAU: f32 = 3e9;
/// How many times as long that is after no failure, after one, which may well be the first of many,
/// and after more in a row.
const LONGER: [f32; 4] = [1.0, 4.0, 8.0, 16.0];
/// A failure counts as so many medians, or as its own time if that was longer.
const FAILURE: f32 = 10.0;
/// No node is suspect for having made no progress for less than this.
const STALLED: f32 = 1e9;
/// So much an answer counts by which a node spares itself.
const SPARED: f32 = 2.0;
/// The part of a penalty that each answer takes back, besides what time does: a node that fails
/// seldom is not dear for long, else all would be alike as soon as all fail now and then.
const FORGIVEN: f32 = 0.1;
/// An attempt that takes so much less long than those under way is waited for by itself.
const SHORTER: f32 = 2.0;
/// No attempt counts as longer than an hour.
pub(crate) const LONGEST: f32 = 3.6e12;

/// What became of an attempt, for the node's cost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sample {
    /// It was answered, well or not.
    Answered,
    /// The node sent it away unexecuted.
    Spared,
    /// Infrastructure failed.
    Failed,
    /// Nobody waited for the answer.
    Cancelled,
}

impl Cost {
    pub(crate) fn new() -> Self {
        Self {
            load: AtomicU64::new(0),
            estimate: AtomicU32::new(0),
            penalty: AtomicU32::new(0),
            updated: AtomicU64::new(0),
            progress: AtomicU64::new(0),
        }
    }

    /// An attempt begins.
    #[inline]
    pub(crate) fn begin(&self, begun: &Begun, failures: u32) {
        let pace = pace(begun.method);
        // Before the count: others must not see an attempt in flight that made no progress for as
        // long as the node was idle.
        if self.in_flight() == 0 {
            self.settle(begun.median, failures, begun.at);
            self.advance(begun.at, pace);
        } else if SHORTER * pace < self.progress().pace {
            self.advance(begun.at, pace);
        }
        self.load.fetch_add(Load::of(pace), Relaxed);
    }

    /// An attempt has ended.
    #[inline]
    pub(crate) fn end(&self, sample: Sample, begun: &Begun, now: Moment) {
        let median = begun.median;
        let relative = begun.method.relative(now.since(begun.at) as f32);
        // A method of which nothing is known says nothing of its node but that it fails.
        let took = relative.unwrap_or(0.0).min(LONGEST);
        match sample {
            Sample::Answered if relative.is_some() => self.take_in(took, now),
            Sample::Answered => {}
            Sample::Spared => self.penalize(took.max(SPARED * median), now),
            Sample::Failed => self.penalize(took.max(FAILURE * median), now),
            // It would have taken at least as long as it did.
            Sample::Cancelled if took > self.price(median) => self.take_in(took, now),
            Sample::Cancelled => {}
        }
        let load = Load::of(pace(begun.method));
        // It is in there: nothing is taken off but what was added.
        let rest = Load::unpack(self.load.load(Relaxed).saturating_sub(load));
        // With the last one in flight the node begins to idle.
        if matches!(sample, Sample::Answered | Sample::Spared) || rest.count == 0 {
            self.advance(now, rest.pace());
        }
        self.load.fetch_sub(load, Relaxed);
    }

    #[inline]
    pub(crate) fn in_flight(&self) -> u32 {
        Load::unpack(self.load.load(Relaxed)).count
    }

    /// How long an attempt is expected to take if the node had nothing else to do, in nanoseconds.
    /// Failures in a row make an idle node's penalty last longer.
    #[inline]
    pub(crate) fn latency(&self, median: f32, failures: u32, now: Moment) -> f32 {
        let estimate = self.price(median);
        let is_idle = self.in_flight() == 0;
        if is_idle && estimate == median {
            return median;
        }
        let progress = self.progress();
        let still = now.since(progress.at) as f32;
        if is_idle {
            towards(median, estimate, still * decay(failures))
        } else {
            estimate.max(still / progress.pace)
        }
    }

    /// Whether nothing is in flight and attempts take no longer than is normal. Most nodes most of
    /// the time, and quick to tell.
    #[inline]
    pub(crate) fn is_idle_and_normal(&self, median: f32) -> bool {
        self.in_flight() == 0 && self.estimate() <= median && self.penalty() <= median
    }

    /// Whether the attempts in flight have waited for so long that something must be wrong.
    #[inline]
    pub(crate) fn is_stalled(&self, median: f32, now: Moment) -> bool {
        // Few have any in flight: asked first, since every node looked at is asked.
        if self.in_flight() == 0 {
            return false;
        }
        let progress = self.progress();
        let still = now.since(progress.at) as f32;
        still > STALLED && still > FAILURE * median.max(self.estimate()) * progress.pace
    }

    /// The mean of what was measured; `None` when nothing was.
    pub(crate) fn measured(&self) -> Option<f32> {
        Some(self.estimate()).filter(|estimate| *estimate > 0.0)
    }

    /// Forgets what is known, as of a node that comes back.
    pub(crate) fn forget(&self) {
        self.estimate.store(0, Relaxed);
        self.penalty.store(0, Relaxed);
    }

    /// How long an attempt takes by what was measured and what failed.
    fn price(&self, median: f32) -> f32 {
        match self.estimate() {
            0.0 => median.max(self.penalty()),
            known => known.max(self.penalty()),
        }
    }

    /// Makes what an idle node's estimate has decayed to its estimate.
    fn settle(&self, median: f32, failures: u32, now: Moment) {
        for known in [&self.estimate, &self.penalty] {
            let value = f32::from_bits(known.load(Relaxed));
            // Most nodes are where the median is, and need no exponential.
            if value > median {
                let still = now.since(self.progress().at) as f32;
                let settled = towards(median, value, still * decay(failures));
                known.store(settled.to_bits(), Relaxed);
            }
        }
    }

    fn take_in(&self, took: f32, now: Moment) {
        let dt = now.since(Moment::from_nanos(self.updated.load(Relaxed))) as f32;
        self.updated.store(now.nanos(), Relaxed);
        let known = self.estimate();
        // Never zero, which means unknown.
        let took = took.max(1.0);
        let estimate = if took >= known { took } else { towards(took, known, dt / TAU) };
        self.estimate.store(estimate.to_bits(), Relaxed);
        let penalty = self.penalty();
        if penalty > 0.0 {
            let less = towards(0.0, penalty, dt / TAU + FORGIVEN);
            let less = if less > estimate { less } else { 0.0 };
            self.penalty.store(less.to_bits(), Relaxed);
        }
    }

    fn penalize(&self, penalty: f32, now: Moment) {
        self.updated.store(now.nanos(), Relaxed);
        let penalty = penalty.max(self.penalty()).max(self.estimate());
        self.penalty.store(penalty.min(LONGEST).to_bits(), Relaxed);
    }

    fn penalty(&self) -> f32 {
        f32::from_bits(self.penalty.load(Relaxed))
    }

    fn estimate(&self) -> f32 {
        f32::from_bits(self.estimate.load(Relaxed))
    }

    fn progress(&self) -> Progress {
        Progress::unpack(self.progress.load(Relaxed))
    }

    fn advance(&self, at: Moment, pace: f32) {
        self.progress.store(Progress { at, pace }.pack(), Relaxed);
    }
}

/// How long a call of this method takes in relation to all, where that counts against its node: one
/// that was never answered may take for ever.
fn pace(method: Method) -> f32 {
    method.length.unwrap_or(Load::LONGEST)
}

/// The attempts under way.
#[derive(Clone, Copy, Debug)]
struct Load {
    count: u32,
    /// How long they take together, in [`UNITS`](Self::UNITS) to a mean call.
    units: u64,
}

impl Load {
    /// 20 bits of count: a million.
    const COUNT: u32 = 20;
    const BITS: u32 = 64 - Self::COUNT;
    const UNITS: f32 = 256.0;
    /// So many times as long as a mean call one counts at most: a million of them fill the bits.
    const LONGEST: f32 = 65_535.0;

    /// One attempt, packed. Packed ones are added and taken off.
    fn of(pace: f32) -> u64 {
        let units = (pace.min(Self::LONGEST) * Self::UNITS).max(1.0);
        1 << Self::BITS | units as u64
    }

    fn unpack(word: u64) -> Self {
        Self { count: (word >> Self::BITS) as u32, units: word & ((1 << Self::BITS) - 1) }
    }

    /// The mean of theirs.
    fn pace(self) -> f32 {
        match self.count {
            0 => 1.0,
            count => (self.units.max(1) as f32 / Self::UNITS) / count as f32,
        }
    }
}

/// Since when nothing was heard of a node that should have been.
#[derive(Clone, Copy, Debug)]
struct Progress {
    /// When an attempt was last answered, the first one in flight or a much shorter one than those
    /// began, or the last one ended.
    at: Moment,
    /// How long what is in flight since then takes in relation to a mean call.
    pace: f32,
}

impl Progress {
    /// The upper half of an `f32`.
    const PACE: u32 = 16;

    /// 48 bits of microseconds, or nearly: nine years.
    fn pack(self) -> u64 {
        let micros = (self.at.nanos() >> 10).min((1 << 48) - 1);
        micros << Self::PACE | u64::from(self.pace.to_bits() >> Self::PACE)
    }

    fn unpack(word: u64) -> Self {
        let at = Moment::from_nanos(word >> Self::PACE << 10);
        Self { at, pace: f32::from_bits((word as u32) << Self::PACE) }
    }
}

/// The time constants in a nanosecond, of an idle node that failed so often in a row. Every node that
/// is looked at asks for it, and a table is quicker than a division.
fn decay(failures: u32) -> f32 {
    const DECAY: [f32; LONGER.len()] = [
        1.0 / (LONGER[0] * IDLE_TAU),
        1.0 / (LONGER[1] * IDLE_TAU),
        1.0 / (LONGER[2] * IDLE_TAU),
        1.0 / (LONGER[3] * IDLE_TAU),
    ];
    DECAY[(failures as usize).min(DECAY.len() - 1)]
}

/// What remains of `from` after it approached `to` for so many time constants.
fn towards(to: f32, from: f32, constants: f32) -> f32 {
    // Between calls in quick succession next to nothing decays, and a straight line is as good. For
    // the rest nothing less than an exponential will do: after a timeout it has decades to cross.
    let remains = if constants < 1e-3 { 1.0 - constants } else { (-constants).exp() };
    to + (from - to) * remains
}

/// The median of what the nodes of a set measure: what is normal there. Measured again ten times a
/// second, by whoever picks then.
#[derive(Debug)]
pub(crate) struct Median {
    /// Nanoseconds as the bits of an `f32`.
    value: AtomicU32,
    due: AtomicU64,
}

impl Median {
    /// What is taken for normal before anything was measured, in nanoseconds.
    pub(crate) const UNKNOWN: f32 = 1e6;
    const EVERY: std::time::Duration = std::time::Duration::from_millis(100);
    /// So many nodes of a large set are enough.
    const SAMPLE: usize = 64;

    pub(crate) fn new() -> Self {
        Self { value: AtomicU32::new(0), due: AtomicU64::new(0) }
    }

    /// In nanoseconds; `None` when nothing was measured yet.
    pub(crate) fn get(&self, nodes: &[Arc<NodeStats>], now: Moment) -> Option<f32> {
        let due = self.due.load(Relaxed);
        if now.nanos() >= due {
            self.measure(nodes, due, now);
        }
        Some(f32::from_bits(self.value.load(Relaxed))).filter(|known| *known > 0.0)
    }

    /// The one of several who finds it due measures.
    fn measure(&self, nodes: &[Arc<NodeStats>], due: u64, now: Moment) {
        let next = now.after(Self::EVERY).nanos();
        if self.due.compare_exchange(due, next, Relaxed, Relaxed).is_err() {
            return;
        }
        match median(nodes) {
            Some(median) => self.value.store(median.to_bits(), Relaxed),
            // Nothing to go by: look again with the next pick.
            None if self.value.load(Relaxed) == 0 => self.due.store(now.nanos(), Relaxed),
            None => {}
        }
    }
}

/// The lower median, in place, of up to [`Median::SAMPLE`] nodes.
fn median(nodes: &[Arc<NodeStats>]) -> Option<f32> {
    let mut measured = [0.0; Median::SAMPLE];
    let stride = nodes.len().div_ceil(Median::SAMPLE).max(1);
    let from = fastrand::usize(..stride);
    let known = nodes.iter().skip(from).step_by(stride).filter_map(|node| node.cost().measured());
    let mut count = 0;
    for (place, known) in measured.iter_mut().zip(known) {
        *place = known;
        count += 1;
    }
    let measured = &mut measured[..count];
    measured.sort_unstable_by(f32::total_cmp);
    measured.get(count.saturating_sub(1) / 2).copied()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const MS: u64 = 1_000_000;
    const MEDIAN: f32 = 10e6;
    /// What is called if nothing else is said.
    const ALIKE: Method = Method::of_length(Some(1.0));

    fn at(millis: u64) -> Moment {
        Moment::from_nanos(millis * MS)
    }

    fn begun(method: Method, median: f32, at: Moment) -> Begun {
        Begun { at, median, method, is_probe: false }
    }

    fn begin(cost: &Cost, method: Method, now: u64) -> Begun {
        let begun = begun(method, MEDIAN, at(now));
        cost.begin(&begun, 0);
        begun
    }

    /// One attempt after the other, each of so many milliseconds.
    fn after(attempts: &[(u64, Sample)]) -> (Cost, u64) {
        let (cost, mut now) = (Cost::new(), 1_000);
        for (took, sample) in attempts {
            let begun = begin(&cost, ALIKE, now);
            cost.end(*sample, &begun, at(now + took));
            now += took;
        }
        (cost, now)
    }

    fn latency(cost: &Cost, now: u64) -> f32 {
        // Up to what a packed moment leaves out.
        (cost.latency(MEDIAN, 0, at(now)) / 1e3).round() / 1e3
    }

    /// A longer answer counts at once, a shorter one little by little.
    #[test]
    fn peaks_count_at_once() {
        let (cost, now) = after(&[(10, Sample::Answered), (200, Sample::Answered)]);
        assert_eq!(latency(&cost, now), 200.0);
        let (cost, now) = after(&[(200, Sample::Answered), (10, Sample::Answered)]);
        assert!((190.0..200.0).contains(&latency(&cost, now)));
    }

    /// A node that fails fast is dearer than one that answers, not cheaper.
    #[test]
    fn fast_failures_are_dear() {
        for (sample, least) in [(Sample::Failed, 100.0), (Sample::Spared, 20.0)] {
            let (cost, now) = after(&[(10, Sample::Answered), (0, sample)]);
            assert!(latency(&cost, now) >= least, "{sample:?}");
            assert_eq!(cost.measured(), Some(10e6), "no measure of what is normal");
        }
        let (cost, now) = after(&[(1_000, Sample::Failed)]);
        assert_eq!(latency(&cost, now), 1_000.0, "its own time when that is longer");
    }

    /// A node that hangs gets dearer while it does, before anything times out; one that was idle
    /// for long is not taken for hanging.
    #[test]
    fn hanging_is_seen() {
        let (cost, now) = after(&[(10, Sample::Answered)]);
        let now = now + 60_000;
        begin(&cost, ALIKE, now);
        assert!(latency(&cost, now) <= 10.0);
        assert!((500.0..500.1).contains(&latency(&cost, now + 500)));
        assert!(!cost.is_stalled(MEDIAN, at(now + 500)));
        assert!(cost.is_stalled(MEDIAN, at(now + 1_500)));
    }

    /// A node that works on what takes long is neither dear nor stalled for it, though something
    /// short waits there that has just begun; if that hangs, it is.
    #[test]
    fn long_calls_take_long() {
        let (poll, short) = (Method::of_length(Some(1_000.0)), Method::of_length(Some(0.1)));
        let cost = Cost::new();
        begin(&cost, poll, 1_000);
        assert_eq!(latency(&cost, 10_000), 10.0);
        assert!(!cost.is_stalled(MEDIAN, at(60_000)));
        for now in [30_000, 60_000] {
            let begun = begin(&cost, short, now);
            assert!(latency(&cost, now + 1) <= 11.0);
            assert!(!cost.is_stalled(MEDIAN, at(now + 900)));
            assert!(cost.is_stalled(MEDIAN, at(now + 1_100)), "it hangs");
            cost.end(Sample::Answered, &begun, at(now + 1));
            assert!(!cost.is_stalled(MEDIAN, at(now + 29_000)), "the long one is left");
        }
        assert!(cost.is_stalled(MEDIAN, at(200_000)));
        let unknown = Cost::new();
        begin(&unknown, Method::of_length(None), 1_000);
        assert!(!unknown.is_stalled(MEDIAN, at(60_000)), "who knows how long it takes");
    }

    /// An attempt of a long method says no more against its node than one of a short method that
    /// took as many times its normal time.
    #[test]
    fn methods_are_put_in_relation() {
        for (length, took) in [(1.0, 20), (100.0, 2_000)] {
            let cost = Cost::new();
            let begun = begin(&cost, Method::of_length(Some(length)), 1_000);
            cost.end(Sample::Answered, &begun, at(1_000 + took));
            assert_eq!(latency(&cost, 1_000 + took), 20.0);
        }
        let cost = Cost::new();
        let begun = begin(&cost, Method::of_length(None), 1_000);
        cost.end(Sample::Answered, &begun, at(9_000));
        assert_eq!(cost.measured(), None, "nothing to relate it to");
    }

    /// What is known of an idle node is forgotten towards what is normal, from above; after failures
    /// in a row it takes longer. A node never heard of is normal.
    #[test]
    fn idle_nodes_become_normal() {
        assert_eq!(latency(&Cost::new(), 1_000), 10.0);
        let (cost, now) = after(&[(200, Sample::Answered)]);
        let later = latency(&cost, now + 3_000);
        assert!((70.0..90.0).contains(&later), "{later}");
        assert!((10.0..10.5).contains(&latency(&cost, now + 60_000)));
        assert!(cost.latency(MEDIAN, 3, at(now + 3_000)) > 150e6);
    }

    /// A node that timed out is as good as any two minutes later, however quick the others are.
    #[test]
    fn timeouts_are_forgotten() {
        let (cost, now) = after(&[(10_000, Sample::Failed)]);
        let quick = 1_000.0;
        assert!(cost.latency(quick, 0, at(now + 20_000)) > 2.0 * quick);
        assert_eq!(cost.latency(quick, 0, at(now + 120_000)), quick);
    }

    /// A node whose only attempt of late timed out costs half a minute later still more than nodes
    /// with calls waiting, and after two minutes no more than any.
    #[test]
    fn one_timeout_is_remembered() {
        let (cost, now) = after(&[(10, Sample::Answered), (1_000, Sample::Failed)]);
        assert!(cost.latency(MEDIAN, 1, at(now + 30_000)) > 5.0 * MEDIAN);
        assert!(cost.latency(MEDIAN, 1, at(now + 120_000)) < 1.01 * MEDIAN);
    }

    /// An attempt nobody waited for took at least as long as somebody did.
    #[test]
    fn cancelled_attempts_tell_something() {
        let (cost, now) = after(&[(10, Sample::Answered), (700, Sample::Cancelled)]);
        assert_eq!(latency(&cost, now), 700.0);
        let (cost, now) = after(&[(10, Sample::Answered), (1, Sample::Cancelled)]);
        assert_eq!(latency(&cost, now), 10.0);
        assert_eq!(cost.in_flight(), 0);
    }

    fn nodes(count: usize) -> Vec<Arc<NodeStats>> {
        let peers = Arc::new(crate::peers::Peers::new(tokio::time::Instant::now()));
        let node = |id: usize| micro_registry::Node::new(format!("n{id}"), "127.0.0.1:1");
        (0..count).map(|id| Arc::new(NodeStats::new(&node(id), &peers))).collect()
    }

    proptest! {
        /// Whatever share of the attempts at some nodes fails or is refused, for minutes: what is
        /// normal among them stays within what was measured, and a slow node stays dearer than
        /// nodes that are as quick as most.
        #[test]
        fn failures_never_enter_the_median(failing in 0u32..60, refusing in 0u32..40, count in 1usize..6) {
            let (nodes, normal) = (nodes(count + 1), Median::new());
            let mut now = 1_000;
            let mut turn = |fails: u32, spared: u32| {
                let node = fastrand::usize(..=count);
                // The last one is slow.
                let took = if node == count { 500 } else { fastrand::u64(5..=10) };
                let median = normal.get(&nodes, at(now)).unwrap_or(Median::UNKNOWN);
                let cost = nodes[node].cost();
                let begun = begun(ALIKE, median, at(now));
                cost.begin(&begun, 0);
                let (sample, took) = match fastrand::u32(..100) {
                    drawn if drawn < fails => (Sample::Failed, fastrand::u64(..=took)),
                    drawn if drawn < fails + spared => (Sample::Spared, 0),
                    _ => (Sample::Answered, took),
                };
                cost.end(sample, &begun, at(now + took));
                now += took;
                (median, now)
            };
            for _ in 0..5_000 {
                let (median, _) = turn(failing, refusing);
                prop_assert!(median == Median::UNKNOWN || (5e6..=500e6).contains(&median), "{median}");
            }
            let (mut median, mut now) = (0.0, 0);
            for _ in 0..2_000 {
                (median, now) = turn(0, 0);
            }
            let price = |node: &Arc<NodeStats>| node.cost().latency(median, 0, at(now));
            let slow = nodes[count].cost();
            let begun = begun(ALIKE, median, at(now));
            slow.begin(&begun, 0);
            slow.end(Sample::Answered, &begun, at(now + 500));
            prop_assert!(nodes[..count].iter().all(|node| price(node) < 0.1 * price(&nodes[count])));
        }

        /// Whatever clocks do, costs stay finite and above zero, and no attempt is lost.
        #[test]
        fn costs_stay_finite(events in proptest::collection::vec((0usize..5, any::<u64>(), any::<u64>()), 1..60)) {
            let cost = Cost::new();
            let mut begun = Vec::new();
            for (event, now, then) in events {
                let methods = [None, Some(1.0), Some(1e-6), Some(1e6)];
                let length = methods[now as usize % methods.len()];
                let method = Method::of_length(length);
                let (now, then) = (Moment::from_nanos(now), Moment::from_nanos(then));
                match (event, begun.pop()) {
                    (0, before) => {
                        let next = self::begun(method, MEDIAN, now);
                        cost.begin(&next, 3);
                        begun.extend(before);
                        begun.push(next);
                    }
                    (event, Some(before)) => {
                        let sample = [Sample::Answered, Sample::Spared, Sample::Failed, Sample::Cancelled];
                        cost.end(sample[event - 1], &before, now);
                    }
                    (_, None) => {}
                }
                prop_assert_eq!(cost.in_flight() as usize, begun.len());
                for failures in [0, 1, u32::MAX] {
                    let latency = cost.latency(MEDIAN, failures, then);
                    prop_assert!(latency.is_finite() && latency > 0.0, "{latency}");
                }
            }
        }
    }

    /// In whatever order threads come, no attempt in flight is lost or counted twice, and none is
    /// ever negative.
    #[test]
    fn in_flight_is_never_lost() {
        let orders = crate::interleave::explore(
            3,
            Cost::new,
            |cost, thread| match thread {
                0 | 1 => {
                    let begun = begin(cost, Method::of_length(Some([1.0, 0.01][thread])), 1);
                    let sample = [Sample::Answered, Sample::Failed][thread];
                    cost.end(sample, &begun, at(2));
                }
                _ => assert!(cost.in_flight() <= 2),
            },
            |cost| assert_eq!(cost.load.load(Relaxed), 0),
        );
        assert!(orders > 1_000, "{orders}");
    }
}
