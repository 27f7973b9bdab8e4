//! Which node gets this attempt: status before load.

use std::sync::Arc;

use tokio::time::Instant;

use crate::cost::Median;
use crate::node::Begun;
use crate::peers::Peers;
use crate::{CallOptions, Candidates, Class, Member, Snapshot, Strategy, StrategyKind, Tried};

/// Picks a node for each attempt at one service, and learns from how the attempts end.
///
/// A plain structure over events and the time, which all callers share: no lock, no allocation, no
/// clock of its own. In this order it looks at
///
/// 1. the [filter](CallOptions::filter), and what the call has [tried](Tried);
/// 2. an ejected node whose probe is due: it goes first, unless fewer than ten picks went before
///    since the last probe, twenty for a call that is not [idempotent](CallOptions::idempotent);
/// 3. the nodes of the caller's zone, unless fewer than three of them are ready or the best of them
///    takes more than twice as long as is normal elsewhere; one call in a hundred looks around, to
///    know what is;
/// 4. all nodes that are fit;
/// 5. those to avoid, because they drain or make no progress;
/// 6. the ejected.
///
/// Within each the [`Strategy`] decides.
#[derive(Debug)]
pub struct Picker {
    strategy: Box<dyn Strategy>,
    peers: Arc<Peers>,
}

/// Whether a node is to be avoided at present, by what is kept for it.
pub type Avoid<T> = dyn Fn(&T) -> bool + Send + Sync;

/// With fewer ready nodes in its zone, a call may leave it.
const ENOUGH_NEAR: usize = 3;
/// A call leaves its zone when the best node there takes so many times what is normal elsewhere.
const TOO_SLOW: f32 = 2.0;
/// One call in so many looks around.
const LOOKS_AROUND: u32 = 100;

impl Picker {
    /// A picker for one service.
    pub fn new(strategy: &StrategyKind, now: Instant) -> Self {
        Self { strategy: strategy.build(), peers: Arc::new(Peers::new(now)) }
    }

    /// The node for the next attempt of a call, counted as in flight from now on. It does not hold
    /// on to the snapshot. `None` when there is no node that the call has not tried.
    pub fn pick<T>(
        &self,
        snapshot: &Snapshot<T>,
        options: &CallOptions,
        tried: &Tried,
        avoid: &Avoid<T>,
        now: Instant,
    ) -> Option<Picked<T>> {
        let now = self.peers.at(now);
        let median = self.peers.median.get(snapshot.stats(), now).unwrap_or(Median::UNKNOWN);
        let method = self.peers.methods.get(options.method, now);
        let look = Look { picker: self, snapshot, options, tried, avoid, median, now };
        let (index, is_probe) = match look.probe() {
            Some(index) => (index, true),
            None => (look.pick()?, false),
        };
        self.peers.picked(is_probe);
        let member = snapshot.members().get(index)?.clone();
        let begun = Begun { at: now, median, method, is_probe };
        member.stats().begin(&begun);
        Some(Picked { member, begun: Some(begun) })
    }

    pub(crate) fn peers(&self) -> &Arc<Peers> {
        &self.peers
    }

    pub(crate) fn strategy(&self) -> &dyn Strategy {
        &*self.strategy
    }
}

/// Whether an attempt may not go to the node of this index.
type Excluded<'a> = dyn Fn(usize) -> bool + 'a;

/// One pick.
struct Look<'a, T> {
    picker: &'a Picker,
    snapshot: &'a Snapshot<T>,
    options: &'a CallOptions,
    tried: &'a Tried,
    avoid: &'a Avoid<T>,
    median: f32,
    now: crate::moment::Moment,
}

impl<T> Look<'_, T> {
    /// The ejected node whose probe this attempt becomes.
    fn probe(&self) -> Option<usize> {
        let peers = &self.picker.peers;
        if !peers.may_probe(self.options.idempotent, self.now) {
            return None;
        }
        peers.look_again(self.now);
        let mut probed = None;
        for (index, node) in self.snapshot.stats().iter().enumerate() {
            let Some(due) = node.probe_due() else { continue };
            // Who is due and cannot go waits for the next look, or every pick would look.
            let is_due = due <= self.now;
            if !is_due || probed.is_some() {
                peers.probe_at(due);
            } else if !self.is_excluded(index)
                && !self.is_suspect(index)
                && node.begin_probe(self.now)
            {
                probed = Some(index);
            }
        }
        probed
    }

    fn pick(&self) -> Option<usize> {
        let peers = &self.picker.peers;
        let are_some_out = peers.ejected() > 0 && !peers.is_in_panic(self.now);
        let nodes = self.snapshot.stats();
        let is_unfit =
            |index: usize| self.is_excluded(index) || (are_some_out && nodes[index].is_ejected());
        let is_worse = |index: usize| is_unfit(index) || self.is_suspect(index);
        let near = self.near(&is_worse);
        // Most first attempts may go anywhere, and then no node is looked at for this.
        let unfit = (are_some_out || self.excludes()).then_some(&is_unfit as &Excluded);
        // Few nodes are suspect: only the one picked is asked, and all when that one is.
        near.or_else(|| self.ask(nodes.len(), unfit).filter(|index| !self.is_suspect(*index)))
            .or_else(|| self.ask(nodes.len(), Some(&is_worse)))
            .or_else(|| self.ask(nodes.len(), unfit))
            .or_else(|| self.ask(nodes.len(), Some(&|index| self.is_excluded(index))))
    }

    /// A node of the caller's zone, unless that has too few, or none that is quick enough.
    fn near(&self, excluded: &Excluded) -> Option<usize> {
        let (nodes, near) = (self.snapshot.stats(), self.snapshot.near());
        if near < ENOUGH_NEAR || near == nodes.len() || fastrand::u32(..LOOKS_AROUND) == 0 {
            return None;
        }
        if (0..near).filter(|index| !excluded(*index)).take(ENOUGH_NEAR).count() < ENOUGH_NEAR {
            return None;
        }
        let best = self.ask(near, Some(excluded))?;
        let takes = nodes[best].expected(self.median, self.now);
        let elsewhere = self.picker.peers.far.get(&nodes[near..], self.now);
        elsewhere.is_none_or(|elsewhere| takes <= TOO_SLOW * elsewhere).then_some(best)
    }

    fn ask(&self, among: usize, excluded: Option<&Excluded>) -> Option<usize> {
        self.picker.strategy.pick(&self.candidates(among, excluded))
    }

    fn candidates<'b>(&'b self, among: usize, excluded: Option<&'b Excluded>) -> Candidates<'b> {
        Candidates {
            nodes: &self.snapshot.stats()[..among],
            sums: self.snapshot.sums(),
            excluded,
            key: self.options.key,
            median: self.median,
            now: self.now,
        }
    }

    /// Whether there may be nodes that the call must not go to.
    fn excludes(&self) -> bool {
        !self.tried.is_empty() || self.options.filter.is_some()
    }

    /// Whether the call must not go there.
    fn is_excluded(&self, index: usize) -> bool {
        (!self.tried.is_empty() && self.tried.contains(self.snapshot.stats()[index].key()))
            || self.options.filter.as_ref().is_some_and(|filter| {
                let member = &self.snapshot.members()[index];
                !filter.allows(member)
            })
    }

    /// Whether the call should rather go elsewhere.
    fn is_suspect(&self, index: usize) -> bool {
        self.snapshot.stats()[index].cost().is_stalled(self.median, self.now)
            || (self.avoid)(self.snapshot.members()[index].target())
    }
}

/// A node picked for one attempt, which counts as in flight until it is
/// [finished](Self::finish). Dropped before, the attempt was cancelled.
#[derive(Debug)]
#[must_use = "dropping it says that the attempt was cancelled"]
pub struct Picked<T> {
    member: Arc<Member<T>>,
    /// `None` once it is over.
    begun: Option<Begun>,
}

impl<T> Picked<T> {
    /// The node.
    pub fn member(&self) -> &Member<T> {
        &self.member
    }

    /// Says how the attempt ended, by the class of its failure.
    pub fn finish(mut self, outcome: Result<(), Class>, now: Instant) {
        if let Some(begun) = self.begun.take() {
            self.member.stats().end(begun, outcome, now);
        }
    }

    /// Says that the caller's deadline ended the attempt, with a failure of this class. With less
    /// time than a healthy node may take, that is no failure of the node.
    pub fn expire(mut self, class: Class, now: Instant) {
        if let Some(begun) = self.begun.take() {
            self.member.stats().expire(begun, class, now);
        }
    }

    /// Says that nobody waits for the attempt any more, which tells of its node that it took at
    /// least as long. Dropping does the same, at the time it is dropped.
    pub fn cancel(mut self, now: Instant) {
        self.end(now);
    }

    fn end(&mut self, now: Instant) {
        if let Some(begun) = self.begun.take() {
            self.member.stats().cancel(begun, now);
        }
    }
}

impl<T> Drop for Picked<T> {
    fn drop(&mut self) {
        if self.begun.is_some() {
            self.end(Instant::now());
        }
    }
}
