//! Whether an attempt is worth sending, to a service that has too much to do.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use tokio::time::Instant;

use crate::moment::Moment;

/// Ends attempts before they are sent while a service refuses many of them as overloaded.
///
/// Google's SRE book, chapter "Handling Overload": an attempt ends here with the probability
/// `(requests - K × accepts) / (requests + 1)`, over the last [`WINDOW`](Self::WINDOW) and with
/// what ended here among the requests. A service that is overloaded then gets about K attempts for
/// each it accepts, rather than all of them, and at least one in ten of them, so that it is seen to
/// recover. Only the answer *overloaded* counts against it; whatever else goes wrong is not mended
/// by sending less. Callers of fewer than [`ENOUGH`](Self::ENOUGH) attempts in that time are let be.
///
/// The book's figures are K = 2 over two minutes. Ours are smaller by the goals: with refusals that
/// cost a node a tenth of serving, K = 2 leaves it at most 1 / 1.1 of its capacity; and a long
/// memory notices an overload of seconds when it is over, and goes on refusing then.
#[derive(Debug)]
pub struct Throttle {
    start: Instant,
    /// Nanoseconds after `start`; zero before the first.
    last_overload: AtomicU64,
    /// A [`Slice`] of the window each, packed.
    slices: [AtomicU64; SLICES],
}

const SLICES: usize = 16;
/// One slice more than the window has: the one that fills.
const SLICE: u64 = Throttle::WINDOW.as_nanos() as u64 / (SLICES as u64 - 1);

impl Throttle {
    /// What it looks back on.
    pub const WINDOW: Duration = Duration::from_secs(1);
    /// So many attempts a service gets for each that it accepts.
    pub const K: f64 = 1.7;
    /// Fewer attempts than these tell nothing.
    pub const ENOUGH: u32 = 10;
    /// The largest share of attempts that end here.
    pub const CAP: f64 = 0.9;

    /// A throttle that lets everything pass.
    pub fn new(now: Instant) -> Self {
        let slices = Default::default();
        Self { start: now, last_overload: AtomicU64::new(0), slices }
    }

    /// Counts an attempt about to be sent, and says whether to send it. One atomic addition while
    /// nothing is overloaded.
    #[inline]
    pub fn admit(&self, now: Instant) -> bool {
        let now = Moment::of(self.start, now);
        let is_sent = !self.was_overloaded(now) || fastrand::f64() >= self.share(now);
        self.count(u32::from(!is_sent), 1, now);
        is_sent
    }

    /// Counts an attempt that was answered *overloaded*.
    pub fn overloaded(&self, now: Instant) {
        let now = Moment::of(self.start, now);
        self.last_overload.store(now.nanos().max(1), Relaxed);
        self.count(1, 0, now);
    }

    /// The share of attempts that end here at present: 0.0 to [`CAP`](Self::CAP).
    pub fn refused_share(&self, now: Instant) -> f64 {
        self.share(Moment::of(self.start, now))
    }

    fn share(&self, now: Moment) -> f64 {
        let current = slice_at(now);
        let slices = self.slices.iter().map(|slice| Slice::unpack(slice.load(Relaxed)));
        let is_recent = |slice: &Slice| current.wrapping_sub(slice.number) & MOST < SLICES as u32;
        let recent = slices.filter(is_recent);
        let (requests, refused) = recent.fold((0.0, 0.0), |(requests, refused), slice| {
            (requests + f64::from(slice.requests), refused + f64::from(slice.refused))
        });
        if requests < f64::from(Self::ENOUGH) {
            return 0.0;
        }
        let accepts = (requests - refused).max(0.0);
        ((requests - Self::K * accepts) / (requests + 1.0)).clamp(0.0, Self::CAP)
    }

    fn was_overloaded(&self, now: Moment) -> bool {
        let last = self.last_overload.load(Relaxed);
        last > 0 && now.since(Moment::from_nanos(last)) < Self::WINDOW.as_nanos() as u64
    }

    #[inline]
    fn count(&self, refused: u32, requests: u32, now: Moment) {
        let number = slice_at(now);
        let add = |word| Some(Slice::unpack(word).at(number).plus(refused, requests).pack());
        // Always some, so it never fails.
        let _ = self.slices[number as usize % SLICES].fetch_update(Relaxed, Relaxed, add);
    }
}

fn slice_at(now: Moment) -> u32 {
    (now.nanos() / SLICE) as u32 & MOST
}

/// What happened in one slice of the window.
#[derive(Clone, Copy, Debug)]
struct Slice {
    number: u32,
    requests: u32,
    refused: u32,
}

/// Numbers and counts have 21 bits: a day and a half of slices, 30 million attempts a second.
const MOST: u32 = (1 << 21) - 1;

impl Slice {
    /// The slice of this number, empty when what there is belongs to an earlier one.
    fn at(self, number: u32) -> Self {
        if self.number == number { self } else { Self { number, requests: 0, refused: 0 } }
    }

    fn plus(self, refused: u32, requests: u32) -> Self {
        let requests = (self.requests + requests).min(MOST);
        Self { requests, refused: (self.refused + refused).min(MOST), ..self }
    }

    fn pack(self) -> u64 {
        u64::from(self.number) << 42 | u64::from(self.requests) << 21 | u64::from(self.refused)
    }

    fn unpack(word: u64) -> Self {
        let part = |shift| (word >> shift) as u32 & MOST;
        Self { number: part(42), requests: part(21), refused: part(0) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// A service that accepts what it is sent is sent everything.
    #[test]
    fn healthy_services_get_everything() {
        let throttle = Throttle::new(Instant::now());
        let start = Instant::now();
        for millis in 0..10_000 {
            let now = start + Duration::from_millis(millis);
            assert!(throttle.admit(now));
            // Fewer than K leaves alone.
            if millis % 4 == 0 {
                throttle.overloaded(now);
            }
        }
    }

    /// One refused call of a caller that seldom calls does not cost it the next.
    #[test]
    fn rare_callers_are_let_be() {
        let start = Instant::now();
        let throttle = Throttle::new(start);
        for second in 0..1_000 {
            let now = start + Duration::from_secs(second);
            for _ in 0..3 {
                assert!(throttle.admit(now));
                throttle.overloaded(now);
            }
        }
    }

    /// A service that refuses everything still gets one in ten, and everything again after the
    /// window.
    #[test]
    fn dead_services_get_a_tenth() {
        let start = Instant::now();
        let throttle = Throttle::new(start);
        let mut sent = 0;
        for micros in 0..10_000u64 {
            let now = start + Duration::from_micros(micros * 1_000);
            if throttle.admit(now) {
                sent += 1;
                throttle.overloaded(now);
            }
        }
        assert!((800..1_500).contains(&sent), "{sent}");
        let later = start + Duration::from_secs(10) + 2 * Throttle::WINDOW;
        assert!((0..1_000).all(|_| throttle.admit(later)));
    }

    proptest! {
        /// Whatever happens, and whatever clocks do, the share stays between zero and the cap.
        #[test]
        fn the_share_is_capped(events in proptest::collection::vec((0u8..3, 0u64..100_000), 0..300)) {
            let start = Instant::now();
            let throttle = Throttle::new(start);
            for (event, millis) in events {
                let now = start + Duration::from_millis(millis);
                match event {
                    0 => drop(throttle.admit(now)),
                    1 => (0..50).for_each(|_| throttle.overloaded(now)),
                    _ => {}
                }
                let share = throttle.refused_share(now);
                prop_assert!((0.0..=Throttle::CAP).contains(&share), "{share}");
            }
        }
    }
}
