//! Whether an attempt is worth sending, to a service that has too much to do.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use tokio::time::Instant;

use crate::Invalid;
use crate::moment::Moment;

/// When a [`Throttle`] ends attempts. [`Default`] is what the fields name.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub struct ThrottlePolicy {
    /// So many attempts a service gets for each that it accepts: more than 1.0, at most 100.0,
    /// default 1.7. Less spares the service more, and misses more of what it could do.
    pub k: f64,
    /// How long it looks back: 100 ms to 2 min, default 1 s.
    pub window: Duration,
}

impl Default for ThrottlePolicy {
    fn default() -> Self {
        Self::new(1.7, Duration::from_secs(1))
    }
}

impl ThrottlePolicy {
    /// So many attempts for each that is accepted, over so long.
    pub const fn new(k: f64, window: Duration) -> Self {
        Self { k, window }
    }

    /// Whether it makes sense.
    ///
    /// # Errors
    ///
    /// For a value out of its range.
    pub fn check(&self) -> Result<(), Invalid> {
        if !(self.k > 1.0 && self.k <= MOST_K) {
            return Err(Invalid::new("k", self.k.to_string(), ATTEMPTS));
        }
        if !(SHORTEST..=LONGEST).contains(&self.window) {
            return Err(Invalid::new(
                "window",
                format!("{:?}", self.window),
                "a window of 100ms to 2m",
            ));
        }
        Ok(())
    }

    /// With every value in its range.
    pub(crate) fn clamped(self) -> Self {
        // Less than that is as good as 1, and keeps out what is no number.
        let k = if self.k > 1.001 { self.k.min(MOST_K) } else { 1.001 };
        Self { k, window: self.window.clamp(SHORTEST, LONGEST) }
    }
}

const ATTEMPTS: &str = "more than 1 attempt, and at most 100, for each that is accepted";
const MOST_K: f64 = 100.0;
const SHORTEST: Duration = Duration::from_millis(100);
const LONGEST: Duration = Duration::from_secs(120);

/// Ends attempts before they are sent while a service refuses many of them as overloaded.
///
/// Google's SRE book, chapter "Handling Overload": an attempt ends here with the probability
/// `(requests - K × accepts) / (requests + 1)`, over the window of its [policy](ThrottlePolicy) and
/// with what ended here among the requests. A service that is overloaded then gets about K attempts for
/// each it accepts, rather than all of them, and at least one in ten of them, so that it is seen to
/// recover. Only the answer *overloaded* counts against it; whatever else goes wrong is not mended
/// by sending less. Callers of fewer than [`ENOUGH`](Self::ENOUGH) attempts in that time are let be.
///
/// The book's figures are K = 2 over two minutes. Our defaults are smaller by the goals: with refusals that
/// cost a node a tenth of serving, K = 2 leaves it at most 1 / 1.1 of its capacity; and a long
/// memory notices an overload of seconds when it is over, and goes on refusing then.
#[derive(Debug)]
pub struct Throttle {
    k: f64,
    /// Nanoseconds of a slice.
    slice: u64,
    /// Slices in a nanosecond.
    per_nano: f64,
    start: Instant,
    /// Nanoseconds after `start`; zero before the first.
    last_overload: AtomicU64,
    ended: AtomicU64,
    /// A [`Slice`] of the window each, packed.
    slices: [AtomicU64; SLICES],
}

const SLICES: usize = 16;

impl Throttle {
    /// Fewer attempts than these tell nothing.
    pub const ENOUGH: u32 = 10;
    /// The largest share of attempts that end here.
    pub const CAP: f64 = 0.9;

    /// A throttle by the default policy, which lets everything pass at first.
    pub fn new(now: Instant) -> Self {
        Self::by(&ThrottlePolicy::default(), now)
    }

    /// The same by another policy; values out of range count as the nearest that is in it.
    pub fn by(policy: &ThrottlePolicy, now: Instant) -> Self {
        let ThrottlePolicy { k, window } = policy.clamped();
        // One slice more than the window has: the one that fills.
        let slice = window.as_nanos() as u64 / (SLICES as u64 - 1);
        Self {
            k,
            slice,
            per_nano: 1.0 / slice as f64,
            start: now,
            last_overload: AtomicU64::new(0),
            ended: AtomicU64::new(0),
            slices: Default::default(),
        }
    }

    /// Counts an attempt about to be sent, and says whether to send it. One atomic addition while
    /// nothing is overloaded.
    #[inline]
    pub fn admit(&self, now: Instant) -> bool {
        let now = Moment::of(self.start, now);
        let is_sent = !self.was_overloaded(now) || fastrand::f64() >= self.share(now);
        self.count(u32::from(!is_sent), 1, now);
        if !is_sent {
            self.ended.fetch_add(1, Relaxed);
        }
        is_sent
    }

    /// Counts an attempt that was answered *overloaded*.
    pub fn overloaded(&self, now: Instant) {
        let now = Moment::of(self.start, now);
        self.last_overload.store(now.nanos().max(1), Relaxed);
        self.count(1, 0, now);
    }

    /// How many attempts ended here.
    pub fn ended(&self) -> u64 {
        self.ended.load(Relaxed)
    }

    /// The share of attempts that end here at present: 0.0 to [`CAP`](Self::CAP).
    pub fn refused_share(&self, now: Instant) -> f64 {
        self.share(Moment::of(self.start, now))
    }

    fn share(&self, now: Moment) -> f64 {
        let current = self.slice_at(now);
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
        ((requests - self.k * accepts) / (requests + 1.0)).clamp(0.0, Self::CAP)
    }

    fn was_overloaded(&self, now: Moment) -> bool {
        let last = self.last_overload.load(Relaxed);
        last > 0 && now.since(Moment::from_nanos(last)) < self.slice * (SLICES as u64 - 1)
    }

    #[inline]
    fn count(&self, refused: u32, requests: u32, now: Moment) {
        let number = self.slice_at(now);
        let slice = &self.slices[number as usize % SLICES];
        let known = Slice::unpack(slice.load(Relaxed));
        if known.number == number && known.requests.max(known.refused) < MOST / 2 {
            // So far from full that all who do this at once do not fill it.
            slice.fetch_add(Slice { number: 0, requests, refused }.pack(), Relaxed);
            return;
        }
        let add = |word| Some(Slice::unpack(word).at(number).plus(refused, requests).pack());
        // Always some, so it never fails.
        let _ = slice.fetch_update(Relaxed, Relaxed, add);
    }

    #[inline]
    fn slice_at(&self, now: Moment) -> u32 {
        // Every attempt asks: a product is quicker than a quotient.
        (now.nanos() as f64 * self.per_nano) as u64 as u32 & MOST
    }
}

/// What happened in one slice of the window.
#[derive(Clone, Copy, Debug)]
struct Slice {
    number: u32,
    requests: u32,
    refused: u32,
}

/// Numbers and counts have 21 bits: with a window of a second a day and a half of slices, and 30
/// million attempts a second; with one of two minutes half a year, and a quarter of a million.
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

    /// The policy says how much is let through, and for how long an overload is remembered.
    #[test]
    fn the_policy_counts() {
        let start = Instant::now();
        let share_after = |policy: ThrottlePolicy, wait: Duration| {
            let throttle = Throttle::by(&policy, start);
            for attempt in 0..1_000 {
                throttle.count(u32::from(attempt % 2 == 0), 1, Moment::of(start, start));
            }
            throttle.refused_share(start + wait)
        };
        let policy = |k, window| ThrottlePolicy::new(k, Duration::from_secs(window));
        assert!((0.39..0.41).contains(&share_after(policy(1.2, 1), Duration::ZERO)));
        assert_eq!(share_after(policy(2.0, 1), Duration::ZERO), 0.0);
        assert!(share_after(policy(1.2, 60), Duration::from_secs(59)) > 0.3);
        assert_eq!(share_after(policy(1.2, 1), Duration::from_secs(2)), 0.0);
        for absurd in [policy(f64::NAN, 0), policy(f64::INFINITY, u64::MAX), policy(-1.0, 1)] {
            assert!(absurd.check().is_err());
            assert!(share_after(absurd, Duration::ZERO).is_finite());
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
        let later = start + Duration::from_secs(10) + Duration::from_secs(2);
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
