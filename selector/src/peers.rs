//! What the nodes of one service share.

use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use tokio::time::Instant;

use crate::atomic::{AtomicU32, AtomicU64};
use crate::cost::Median;
use crate::methods::Methods;
use crate::moment::Moment;

/// What the nodes of one service share: the clock, what is normal among them, and how many of them
/// are ejected.
#[derive(Debug)]
pub(crate) struct Peers {
    start: Instant,
    pub(crate) median: Median,
    /// That of the nodes outside the caller's zone.
    pub(crate) far: Median,
    pub(crate) methods: Methods,
    size: AtomicU32,
    ejected: AtomicU32,
    /// How many ever were. For people alone, so no order of threads matters to it.
    ejections: std::sync::atomic::AtomicU64,
    panic_until: AtomicU64,
    probe_at: AtomicU64,
    /// Picks since the last probe, while any node is ejected; counted as far as they matter.
    picks: AtomicU32,
}

/// How long a set is in panic after a node was too many to be ejected.
const PANIC: Duration = Duration::from_secs(1);
/// Between two probes lie so many other picks, so that those who call seldom do not meet the bad
/// nodes most of the time.
const APART: u32 = 10;
/// Before a call that must not be repeated becomes a probe, so many do: the others go first.
const APART_ONCE: u32 = 2 * APART;
/// How long after nobody was due, or could be probed, the nodes are looked over again at the latest.
const LOOK_AGAIN: Duration = Duration::from_millis(100);

impl Peers {
    pub(crate) fn new(start: Instant) -> Self {
        Self {
            start,
            median: Median::new(),
            far: Median::new(),
            methods: Methods::new(),
            size: AtomicU32::new(0),
            ejected: AtomicU32::new(0),
            ejections: Default::default(),
            panic_until: AtomicU64::new(0),
            probe_at: AtomicU64::new(0),
            picks: AtomicU32::new(0),
        }
    }

    #[inline]
    pub(crate) fn at(&self, now: Instant) -> Moment {
        Moment::of(self.start, now)
    }

    /// Says how many nodes there are.
    pub(crate) fn resize(&self, size: usize) {
        self.size.store(u32::try_from(size).unwrap_or(u32::MAX), Relaxed);
    }

    /// How many nodes may be ejected at once: half of them, and so never the last.
    pub(crate) fn cap(&self) -> u32 {
        self.size.load(Relaxed) / 2
    }

    #[inline]
    pub(crate) fn ejected(&self) -> u32 {
        self.ejected.load(Relaxed)
    }

    /// A node that took its place is ejected, and due for its probe then.
    pub(crate) fn ejected_until(&self, then: Moment) {
        self.ejections.fetch_add(1, Relaxed);
        self.probe_at(then);
    }

    /// How often a node was ejected.
    pub(crate) fn ejections(&self) -> u64 {
        self.ejections.load(Relaxed)
    }

    /// Takes a place among the ejected, if there is one left; if not, the set is in panic.
    pub(crate) fn reserve(&self, now: Moment) -> bool {
        let cap = self.cap();
        let take = |ejected: u32| (ejected < cap).then_some(ejected + 1);
        let is_reserved = self.ejected.fetch_update(Relaxed, Relaxed, take).is_ok();
        if !is_reserved {
            self.panic_until.fetch_max(now.after(PANIC).nanos(), Relaxed);
        }
        is_reserved
    }

    /// Gives a place among the ejected back.
    pub(crate) fn release(&self) {
        self.ejected.fetch_sub(1, Relaxed);
    }

    /// Whether so many nodes fail that the ejected are picked as well: with what is left alone, the
    /// rest would fail under the load.
    #[inline]
    pub(crate) fn is_in_panic(&self, now: Moment) -> bool {
        now.nanos() < self.panic_until.load(Relaxed) || self.ejected() > self.cap()
    }

    /// Whether an ejected node may be due for its probe, and may have it of this call.
    #[inline]
    pub(crate) fn may_probe(&self, is_idempotent: bool, now: Moment) -> bool {
        let apart = if is_idempotent { APART } else { APART_ONCE };
        self.ejected() > 0
            && self.picks.load(Relaxed) >= apart
            && now.nanos() >= self.probe_at.load(Relaxed)
    }

    /// A node is picked, for its probe or not.
    #[inline]
    pub(crate) fn picked(&self, is_probe: bool) {
        if is_probe {
            self.picks.store(0, Relaxed);
        } else if self.ejected() > 0 && self.picks.load(Relaxed) < APART_ONCE {
            self.picks.fetch_add(1, Relaxed);
        }
    }

    /// The nodes are being looked over: the next look is a while away, but for those told from now
    /// on, by who looks and by who puts one out meanwhile.
    pub(crate) fn look_again(&self, now: Moment) {
        self.probe_at.store(now.after(LOOK_AGAIN).nanos(), Relaxed);
    }

    /// A node is due then.
    pub(crate) fn probe_at(&self, then: Moment) {
        self.probe_at.fetch_min(then.nanos(), Relaxed);
    }
}
