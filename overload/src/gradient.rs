//! How many calls may run at once, by how much longer they take than without load: a plain structure
//! over what was measured.
//!
//! The rule is that of Netflix's concurrency-limits (`Gradient2Limit`) and of Envoy's adaptive
//! concurrency filter: the limit is multiplied by the ratio of the latency without load, times a
//! tolerance, to the latency now, and gets its square root as headroom.

/// The limit, which moves between two bounds and begins at the upper one.
#[derive(Debug)]
pub(crate) struct Gradient {
    min: f64,
    max: f64,
    limit: f64,
    /// Windows in a row that were congested.
    congested: u32,
}

/// What was measured for a while.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Window {
    /// The most calls that ran at once.
    pub(crate) peak: usize,
    /// How long the calls that ended took, all together.
    pub(crate) spent: f64,
    /// How long the same calls would have taken without load, in the same unit.
    pub(crate) unloaded: f64,
}

/// Calls may take so many times as long as without load.
const TOLERANCE: f64 = 2.0;
/// The most that one window changes the limit by.
const STEPS: (f64, f64) = (0.5, 1.5);
/// One window may be bad luck; the limit shrinks from this one on.
const CONVINCED: u32 = 2;

impl Gradient {
    pub(crate) fn new(min: usize, max: usize) -> Self {
        let max = max.max(1) as f64;
        Self { min: (min.max(1) as f64).min(max), max, limit: max, congested: 0 }
    }

    pub(crate) fn limit(&self) -> usize {
        self.limit as usize
    }

    /// Whether calls took too long when last seen.
    pub(crate) fn is_congested(&self) -> bool {
        self.congested > 0
    }

    /// Moves the limit.
    pub(crate) fn observe(&mut self, window: Window) {
        let gradient = TOLERANCE * window.unloaded / window.spent.max(f64::MIN_POSITIVE);
        let gradient = gradient.clamp(STEPS.0, STEPS.1);
        // With so few at once they do not wait for each other.
        let congested = gradient < 1.0 && window.peak as f64 > self.min;
        self.congested = if congested { self.congested + 1 } else { 0 };
        if self.congested >= CONVINCED {
            // What nobody used of the limit says nothing.
            let used = self.limit.min(window.peak as f64);
            self.set(used * gradient + used.sqrt());
        } else if gradient >= 1.0 {
            self.grow(gradient, window.peak);
        }
    }

    /// Grows fast where calls use the limit, and otherwise slowly: the next rush may be the last
    /// one's continuation.
    fn grow(&mut self, gradient: f64, peak: usize) {
        let is_used = 2.0 * peak as f64 >= self.limit;
        let factor = if is_used { gradient } else { 1.0 };
        self.set(self.limit * factor + self.limit.sqrt());
    }

    fn set(&mut self, limit: f64) {
        self.limit = limit.clamp(self.min, self.max);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn windows() -> impl Strategy<Value = Vec<(usize, f64, f64)>> {
        prop::collection::vec((0..100_000_usize, 0.0..1e12_f64, 0.0..1e12_f64), 0..100)
    }

    /// What a node measures that runs `capacity` calls at once, and has `offered` to run.
    fn window(limit: usize, capacity: usize, offered: usize) -> Window {
        let peak = limit.min(offered);
        let spent = (peak as f64 / capacity as f64).max(1.0);
        Window { peak, spent, unloaded: 1.0 }
    }

    proptest! {
        /// Whatever is measured, the limit stays between its bounds.
        #[test]
        fn keeps_its_bounds(min in 0..2000_usize, max in 0..2000_usize, windows in windows()) {
            let mut gradient = Gradient::new(min, max);
            for (peak, spent, unloaded) in windows {
                gradient.observe(Window { peak, spent, unloaded });
                let (least, most) = (min.min(max).max(1), max.max(1));
                prop_assert!((least..=most).contains(&gradient.limit()), "{gradient:?}");
            }
        }

        /// In an overload of any size the limit comes near what keeps the node busy: no less than
        /// its capacity, and not much more than the tolerated multiple of it.
        #[test]
        fn finds_the_capacity(capacity in 10..1000_usize, times in 3..50_usize) {
            let mut gradient = Gradient::new(8, 65_536);
            for _ in 0..50 {
                gradient.observe(window(gradient.limit(), capacity, times * capacity));
            }
            let (limit, headroom) = (gradient.limit(), (3.0 * (capacity as f64).sqrt()) as usize);
            prop_assert!(limit >= capacity && limit <= 3 * capacity + headroom, "{limit}");
        }

        /// After an overload the limit grows back to where it was.
        #[test]
        fn grows_back(capacity in 10..1000_usize) {
            let mut gradient = Gradient::new(8, 65_536);
            for _ in 0..50 {
                gradient.observe(window(gradient.limit(), capacity, 10 * capacity));
            }
            prop_assert!(gradient.limit() < 65_536);
            for _ in 0..1000 {
                gradient.observe(window(gradient.limit(), capacity, capacity / 2));
            }
            prop_assert_eq!(gradient.limit(), 65_536);
        }

        /// Slow calls of which few run at once do not shrink the limit.
        #[test]
        fn few_calls_are_no_overload(peak in 0..=32_usize, spent in 1.0..1e9_f64) {
            let mut gradient = Gradient::new(32, 1000);
            for _ in 0..100 {
                gradient.observe(Window { peak, spent, unloaded: 1.0 });
            }
            prop_assert_eq!(gradient.limit(), 1000);
        }
    }

    /// One bad window among good ones changes nothing.
    #[test]
    fn bears_bad_luck() {
        let mut gradient = Gradient::new(1, 1000);
        for spent in [1.0, 100.0, 1.0, 100.0, 1.0] {
            gradient.observe(Window { peak: 500, spent, unloaded: 1.0 });
            assert_eq!(gradient.limit(), 1000);
        }
    }
}
