//! How long the methods of a service take, so that what one of them tells of a node holds for all.

use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use crate::atomic::{AtomicU32, AtomicU64};
use crate::cost::LONGEST;
use crate::moment::Moment;

/// How long a call of each method takes in the mean, over all nodes of a service.
///
/// By it the times of all methods are put on one scale, that of a call in the mean over all of them.
/// The table has a fixed size: methods for which it has no place share one with the calls that name
/// no method. What is sampled is folded into the means ten times a second, by whoever picks then, so
/// that callers share little that is written.
///
/// Races lose samples of a fold at most.
#[derive(Debug)]
pub(crate) struct Methods {
    /// The last is that of all who have none of their own.
    places: [Place; PLACES + 1],
    /// Over all methods, in nanoseconds as the bits of an `f32`. Zero: unknown.
    mean: AtomicU32,
    due: AtomicU64,
}

/// A method as an attempt knows it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Method {
    place: u8,
    /// How many times as long it takes as a call in the mean over all methods. `None` as long as it
    /// was never answered while others were.
    pub(crate) length: Option<f32>,
    /// That mean, in nanoseconds.
    mean: f32,
}

/// So many methods have a place: a power of two.
const PLACES: usize = 64;
/// In so many places a method is looked for.
const PROBES: usize = 8;
/// A method of which so many samples are known is sampled now and then only.
const KNOWN: u32 = 128;
/// One call in so many is a sample then.
const ONE_IN: u32 = 8;
/// The part of a known mean that a fold renews at most: two seconds renew it, or [`KNOWN`] samples.
const RENEWED: f32 = 0.05;
/// A fold counts as so many times the mean at most: what is out of all proportion says little.
const OUTLIER: f32 = 10.0;
/// What a fold leaves of the earlier calls: about ten seconds decide how common a method is.
const KEPT: f32 = 0.99;
/// The scale is about right while it is within so many times the mean.
const RIGHT: f32 = 2.0;
/// No method is taken for more, or less, than so many times a mean call.
const EXTREME: f32 = 1e6;
/// What holds up a short call says little of its node, as long as it is not so many times its own
/// length: it waits behind a long one.
const BLURRED: f32 = 10.0;

impl Methods {
    const EVERY: Duration = Duration::from_millis(100);

    pub(crate) fn new() -> Self {
        let places = std::array::from_fn(|_| Place::new());
        Self { places, mean: AtomicU32::new(0), due: AtomicU64::new(0) }
    }

    /// The method of this key. Folds what was sampled into the means when it is time.
    #[inline]
    pub(crate) fn get(&self, key: Option<u64>, now: Moment) -> Method {
        let due = self.due.load(Relaxed);
        if now.nanos() >= due {
            self.measure(due, now);
        }
        let place = self.place(key.unwrap_or(0));
        let (length, mean) = (float(&self.places[place].length), float(&self.mean));
        let length = match length {
            // Before anything is known all are alike.
            0.0 => (mean == 0.0).then_some(1.0),
            known => Some(known),
        };
        Method { place: place as u8, length, mean }
    }

    /// A call of the method was answered after so many nanoseconds.
    #[inline]
    pub(crate) fn answered(&self, method: Method, took: f32) {
        let place = &self.places[usize::from(method.place)];
        if place.seen.load(Relaxed) < KNOWN || fastrand::u32(..ONE_IN) == 0 {
            place.sample(took.min(LONGEST));
        }
    }

    /// The place of a method: its own, or the last.
    #[inline]
    fn place(&self, key: u64) -> usize {
        if key == 0 {
            return PLACES;
        }
        let probed = (0..PROBES).map(|step| (key as usize).wrapping_add(step) % PLACES);
        for place in probed {
            let known = self.places[place].key.load(Relaxed);
            if known == key || (known == 0 && self.take(place, key)) {
                return place;
            }
        }
        PLACES
    }

    /// Makes a free place that of a method, unless another one is quicker.
    #[cold]
    fn take(&self, place: usize, key: u64) -> bool {
        let place = &self.places[place];
        match place.key.compare_exchange(0, key, Relaxed, Relaxed) {
            Ok(_) => true,
            Err(taken) => taken == key,
        }
    }

    /// The one of several who finds it due measures.
    #[cold]
    fn measure(&self, due: u64, now: Moment) {
        let next = now.after(Self::EVERY).nanos();
        if self.due.compare_exchange(due, next, Relaxed, Relaxed).is_err() {
            return;
        }
        let sampled: u32 = self.places.iter().map(Place::fold).sum();
        if sampled > 0 {
            self.relate();
        } else if float(&self.mean) == 0.0 {
            // Nothing to go by: look again with the next pick.
            self.due.store(now.nanos(), Relaxed);
        }
    }

    /// Sets each method in relation to all; there is one at least that was called.
    fn relate(&self) {
        let (mut calls, mut all) = (0.0, 0.0);
        for place in &self.places {
            let of_late = float(&place.calls) * KEPT;
            place.calls.store(of_late.to_bits(), Relaxed);
            calls += of_late;
            all += of_late * float(&place.mean);
        }
        let mean = self.scale(all / calls);
        self.mean.store(mean.to_bits(), Relaxed);
        self.places.iter().for_each(|place| place.relate(mean));
    }
}

impl Methods {
    /// The mean to go by. With several methods it stays what it was as long as that is about right,
    /// or nodes would look slower that were called at times at which more calls were long.
    fn scale(&self, mean: f32) -> f32 {
        let before = float(&self.mean);
        let is_about = (before / RIGHT..=before * RIGHT).contains(&mean);
        let called = self.places.iter().filter(|place| place.seen.load(Relaxed) > 0);
        if is_about && called.count() > 1 { before } else { mean }
    }
}

impl Method {
    /// How long a call in the mean over all methods would have taken where one of this method took
    /// so long, in nanoseconds. `None` when that cannot be told.
    ///
    /// In proportion. But of a short one only what goes beyond its own time counts, up to
    /// [`BLURRED`] times that time: next to long calls it has to wait now and then, on every node.
    #[inline]
    pub(crate) fn relative(&self, took: f32) -> Option<f32> {
        let length = self.length?;
        let blur = (1.0 - length).clamp(0.0, (BLURRED - 1.0) * length);
        Some((took + self.mean * blur) / (length + blur))
    }
}

#[cfg(test)]
impl Method {
    /// One that takes so many times as long as a mean call.
    pub(crate) const fn of_length(length: Option<f32>) -> Self {
        Self { place: 0, length, mean: 0.0 }
    }
}

/// What is known of one method.
#[derive(Debug)]
struct Place {
    /// Zero: it is free.
    key: AtomicU64,
    /// A [`Samples`], packed: what came since the last fold.
    samples: AtomicU64,
    /// How many samples came before. This and what follows is written by who folds alone.
    seen: AtomicU32,
    /// Nanoseconds as the bits of an `f32`, as all below. Zero: unknown.
    mean: AtomicU32,
    /// The calls of late.
    calls: AtomicU32,
    /// The mean in relation to that of all methods. Zero: unknown.
    length: AtomicU32,
}

impl Place {
    fn new() -> Self {
        Self {
            key: AtomicU64::new(0),
            samples: AtomicU64::new(0),
            seen: AtomicU32::new(0),
            mean: AtomicU32::new(0),
            calls: AtomicU32::new(0),
            length: AtomicU32::new(0),
        }
    }

    fn sample(&self, took: f32) {
        let add = |word| Samples::unpack(word).plus(took).map(Samples::pack);
        // None when there are more than it holds: those tell enough.
        let _ = self.samples.fetch_update(Relaxed, Relaxed, add);
    }

    /// Takes what was sampled into the mean; returns how many there were.
    fn fold(&self) -> u32 {
        let samples = Samples::unpack(self.samples.swap(0, Relaxed));
        if samples.count == 0 {
            return 0;
        }
        let (seen, count) = (self.seen.load(Relaxed), samples.count as f32);
        let took = (samples.sum as f32 / count).max(1.0);
        let (renewed, calls) = match seen {
            KNOWN.. => ((count / KNOWN as f32).min(RENEWED), count * ONE_IN as f32),
            _ => (count / (seen as f32 + count), count),
        };
        let mean = if seen == 0 { took } else { float(&self.mean) };
        let mean = mean + (took.min(OUTLIER * mean) - mean) * renewed;
        self.mean.store(mean.to_bits(), Relaxed);
        self.calls.store((float(&self.calls) + calls).to_bits(), Relaxed);
        self.seen.store(seen.saturating_add(samples.count), Relaxed);
        samples.count
    }

    fn relate(&self, all: f32) {
        let mean = float(&self.mean);
        if mean > 0.0 {
            let length = (mean / all).clamp(1.0 / EXTREME, EXTREME);
            self.length.store(length.to_bits(), Relaxed);
        }
    }
}

fn float(bits: &AtomicU32) -> f32 {
    f32::from_bits(bits.load(Relaxed))
}

/// How long some calls took.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Samples {
    count: u32,
    /// In nanoseconds.
    sum: u64,
}

impl Samples {
    /// Bits of the sum: three days.
    const SUM: u32 = 48;

    /// `None` when it is more than fits.
    fn plus(self, took: f32) -> Option<Self> {
        let (count, sum) = (self.count + 1, self.sum.saturating_add(took as u64));
        let fits = count < 1 << (64 - Self::SUM) && sum < 1 << Self::SUM;
        fits.then_some(Self { count, sum })
    }

    fn pack(self) -> u64 {
        u64::from(self.count) << Self::SUM | self.sum
    }

    fn unpack(word: u64) -> Self {
        Self { count: (word >> Self::SUM) as u32, sum: word & ((1 << Self::SUM) - 1) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::interleave::explore;
    use proptest::prelude::*;

    const MS: f32 = 1e6;

    fn at(millis: u64) -> Moment {
        Moment::from_nanos(millis * 1_000_000)
    }

    /// Methods that are called so often, and take so long, over ten seconds.
    fn after(calls: &[(u64, u32, f32)]) -> (Methods, u64) {
        let methods = Methods::new();
        let (mut now, end) = (0, 10_000);
        while now < end {
            for (key, count, millis) in calls {
                let method = methods.get(Some(*key), at(now));
                (0..*count).for_each(|_| methods.answered(method, millis * MS));
            }
            now += 100;
        }
        (methods, now)
    }

    fn length(methods: &Methods, key: u64, now: u64) -> Option<f32> {
        methods.get(Some(key), at(now)).length
    }

    /// Each method is as long as it takes, in relation to a mean call, however often it is called;
    /// one that was never answered while others were is unknown.
    #[test]
    fn methods_are_told_apart() {
        for count in [1, 10, 1_000] {
            let (methods, now) = after(&[(1, 9 * count, 1.0), (2, count, 100.0)]);
            let mean = float(&methods.mean) / MS;
            assert!((5.0..22.0).contains(&mean), "{mean} should be about 10.9");
            for (key, millis) in [(1, 1.0), (2, 100.0)] {
                let known = length(&methods, key, now).expect("it was answered");
                assert!((known * mean / millis - 1.0).abs() < 0.01, "{key}: {known}");
            }
            assert_eq!(length(&methods, 3, now), None);
        }
        assert_eq!(length(&Methods::new(), 1, 0), Some(1.0), "nobody was answered");
    }

    /// What is the only method takes as long as it does: nothing is made of its times.
    #[test]
    fn one_method_is_taken_as_it_comes() {
        let (methods, now) = after(&[(1, 3, 7.0)]);
        let relative = methods.get(Some(1), at(now)).relative(20.0 * MS).expect("it is known");
        assert!((relative / MS - 20.0).abs() < 0.001, "{relative}");
        let named = Methods::new().get(Some(1), at(0));
        assert_eq!(named.relative(20.0 * MS), Some(20.0 * MS), "nor before anything is known");
    }

    /// A node that takes five times as long looks so by its long calls; by its short ones no more
    /// than waiting behind a long one makes any node look.
    #[test]
    fn short_calls_say_less() {
        let (methods, now) = after(&[(1, 90, 1.0), (2, 10, 100.0)]);
        let relative = |key, millis: f32| {
            let method = methods.get(Some(key), at(now));
            method.relative(millis * MS).expect("it is known") / method.mean
        };
        assert!((0.8..1.2).contains(&relative(1, 1.0)));
        assert!((0.8..1.2).contains(&relative(2, 100.0)));
        assert!((4.0..6.0).contains(&relative(2, 500.0)));
        assert!((1.0..4.0).contains(&relative(1, 21.0)));
        assert!(relative(1, 500.0) > 20.0);
    }

    /// Calls that take out of all proportion long make a short method neither long nor unknown.
    #[test]
    fn outliers_say_little() {
        let (methods, now) = after(&[(1, 10, 1.0)]);
        let method = methods.get(Some(1), at(now));
        (0..100).for_each(|_| methods.answered(method, LONGEST));
        let method = methods.get(Some(1), at(now + 100));
        assert!(method.mean < 2.0 * MS, "{method:?}");
    }

    /// However many methods there are, the table does not grow: those without a place share one,
    /// with the calls that name none.
    #[test]
    fn methods_beyond_the_table_share_a_place() {
        let methods = Methods::new();
        let place = |key: u64| methods.get(Some(crate::hash::mix(key)), at(0)).place;
        let places: Vec<_> = (1..=1_000).map(place).collect();
        assert!(places.iter().filter(|place| usize::from(**place) < PLACES).count() > PLACES / 2);
        assert!(places.iter().filter(|place| usize::from(**place) == PLACES).count() > 800);
        assert_eq!(places, (1..=1_000).map(place).collect::<Vec<_>>(), "each keeps its place");
        assert_eq!(usize::from(methods.get(None, at(0)).place), PLACES);
    }

    /// Threads that meet a method, or two, for the first time agree on where it is.
    #[test]
    fn places_are_taken_in_every_order() {
        // Both are looked for in the same place first.
        let keys = [1, 1 + PLACES as u64];
        for second in keys {
            explore(
                2,
                || (Methods::new(), [const { AtomicU32::new(0) }; 2]),
                |(methods, found), thread| {
                    let place = methods.place([keys[0], second][thread]);
                    found[thread].store(place as u32, Relaxed);
                },
                |(methods, found)| {
                    let [first, other] = [&found[0], &found[1]].map(|it| it.load(Relaxed));
                    assert_eq!(first == other, second == keys[0]);
                    assert_eq!(methods.place(keys[0]), first as usize);
                    assert_eq!(methods.place(second), other as usize);
                },
            );
        }
    }

    /// No sample is lost or counted twice, whenever it comes while others are folded.
    #[test]
    fn samples_are_folded_in_every_order() {
        let orders = explore(
            3,
            || (Place::new(), AtomicU32::new(0)),
            |(place, folded), thread| match thread {
                0 => _ = folded.fetch_add(place.fold(), Relaxed),
                _ => place.sample(MS),
            },
            |(place, folded)| {
                assert_eq!(folded.load(Relaxed) + place.fold(), 2);
                assert_eq!(float(&place.mean), MS);
            },
        );
        assert!(orders > 20, "{orders}");
    }

    proptest! {
        /// Whatever clocks do, and whoever calls, times stay finite and above zero.
        #[test]
        fn times_stay_finite(events in proptest::collection::vec((0u64..80, any::<u64>(), any::<u64>()), 1..200)) {
            let methods = Methods::new();
            for (key, now, took) in events {
                let method = methods.get(Some(key), Moment::from_nanos(now));
                methods.answered(method, took as f32);
                if let Some(length) = method.length {
                    prop_assert!((1.0 / EXTREME..=EXTREME).contains(&length), "{length}");
                    let relative = method.relative(took as f32).expect("it is known");
                    prop_assert!(relative.is_finite() && relative >= 0.0, "{relative}");
                }
            }
        }
    }
}
