//! How much a service may be asked again.

use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::Duration;

use tokio::time::Instant;

use crate::Invalid;

/// How much a service may be asked again: see [`Budget`]. [`Default`] is what the fields name.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub struct BudgetPolicy {
    /// Retries that a call pays in: 0.0..=1.0, to a millionth, default 0.2.
    pub share: f64,
    /// Retries that time pays in, per second, so that those who call seldom may retry as well.
    /// Default 10.
    pub per_second: u32,
}

impl Default for BudgetPolicy {
    fn default() -> Self {
        Self::new(0.2, 10)
    }
}

impl BudgetPolicy {
    /// A share of the calls, and so many per second besides.
    pub const fn new(share: f64, per_second: u32) -> Self {
        Self { share, per_second }
    }

    /// Whether it makes sense.
    ///
    /// # Errors
    ///
    /// For a share out of its range.
    pub fn check(&self) -> Result<(), Invalid> {
        match self.share {
            0.0..=1.0 => Ok(()),
            share => Err(Invalid::new(
                "share",
                share.to_string(),
                "0.0 to 1.0 of the calls, which is 0% to 100%",
            )),
        }
    }
}

/// A budget for retries that cost the servers work: every call pays a share in, every such retry
/// takes one out, so that a service that fails is never asked much more than it would be anyway.
///
/// The idea and the two figures are Finagle's `RetryBudget`: 20 % of the calls, and 10 a second so
/// that rare callers may retry as well. At most [`CAP`](Self::CAP) retries are saved up.
#[derive(Debug)]
pub struct Budget {
    /// In millionths of a retry.
    balance: AtomicI64,
    per_call: i64,
    per_second: i64,
    started: Instant,
    /// Milliseconds after `started` up to which `per_second` has been paid in.
    paid_until: AtomicU64,
    refused: AtomicU64,
}

impl Budget {
    /// The most retries that can be saved up; it bounds the burst when a busy node dies with all
    /// its calls in flight.
    pub const CAP: u32 = 1_000;

    /// A budget of `share` retries a call (0.0..=1.0) plus `per_second`; it starts with what ten
    /// seconds of the latter give.
    ///
    /// # Panics
    ///
    /// When `share` is not between 0 and 1.
    pub fn new(share: f64, per_second: u32, now: Instant) -> Self {
        assert!((0.0..=1.0).contains(&share), "share {share} is invalid: expected 0.0 to 1.0");
        let per_second = i64::from(per_second) * UNIT;
        Self {
            balance: AtomicI64::new((per_second * 10).min(CAP_UNITS)),
            per_call: (share * UNIT as f64).round() as i64,
            per_second,
            started: now,
            paid_until: AtomicU64::new(0),
            refused: AtomicU64::new(0),
        }
    }

    /// Pays a call in. On every call's path: one atomic addition, none when it is full.
    pub fn deposit(&self) {
        self.add(self.per_call);
    }

    /// Takes a retry out, if there is one.
    pub fn withdraw(&self, now: Instant) -> bool {
        self.pay_for_time(now);
        let take = |balance: i64| (balance >= UNIT).then_some(balance - UNIT);
        let is_taken =
            self.balance.fetch_update(Ordering::Relaxed, Ordering::Relaxed, take).is_ok();
        if !is_taken {
            self.refused.fetch_add(1, Ordering::Relaxed);
        }
        is_taken
    }

    /// How many retries it had nothing left for.
    pub fn refused(&self) -> u64 {
        self.refused.load(Ordering::Relaxed)
    }

    /// How many retries are saved up.
    pub fn left(&self, now: Instant) -> u32 {
        self.pay_for_time(now);
        u32::try_from(self.balance.load(Ordering::Relaxed) / UNIT).unwrap_or(0)
    }

    fn pay_for_time(&self, now: Instant) {
        let elapsed = now.saturating_duration_since(self.started);
        let until = u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX);
        let paid = self.paid_until.fetch_max(until, Ordering::Relaxed);
        // Ten seconds more than fill it; the bound keeps the product small.
        let unpaid =
            Duration::from_millis(until.saturating_sub(paid)).min(Duration::from_secs(1_000));
        self.add(self.per_second.saturating_mul(unpaid.as_millis() as i64) / 1_000);
    }

    /// Several callers at once may pass the cap by one payment each, which does no harm.
    fn add(&self, units: i64) {
        let room = CAP_UNITS - self.balance.load(Ordering::Relaxed);
        if room > 0 {
            self.balance.fetch_add(units.min(room), Ordering::Relaxed);
        }
    }
}

const UNIT: i64 = 1_000_000;
const CAP_UNITS: i64 = Budget::CAP as i64 * UNIT;

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Without calls the budget is what time alone gives.
    #[test]
    fn time_alone_gives_a_floor() {
        let start = Instant::now();
        let budget = Budget::new(0.2, 10, start);
        let take_all = |now| std::iter::from_fn(|| budget.withdraw(now).then_some(())).count();
        assert_eq!(budget.left(start), 100);
        assert_eq!(take_all(start), 100);
        assert_eq!(budget.left(start + Duration::from_millis(500)), 5);
        assert_eq!(take_all(start + Duration::from_secs(1)), 10);
        assert_eq!(take_all(start + Duration::from_secs(3_600)), Budget::CAP as usize);
    }

    /// A small share is what it says, and the largest rate is no more than the cap.
    #[test]
    fn counts_small_shares() {
        let start = Instant::now();
        let budget = Budget::new(0.000_1, 0, start);
        (0..20_000).for_each(|_| budget.deposit());
        assert!(budget.withdraw(start) && budget.withdraw(start) && !budget.withdraw(start));
        let later = start + Duration::from_secs(1_000_000);
        let budget = Budget::new(1.0, u32::MAX, start);
        assert_eq!((0..2_000).filter(|_| budget.withdraw(later)).count(), Budget::CAP as usize);
    }

    proptest! {
        /// Over any run, retries stay within start + share of the calls + rate × time.
        #[test]
        fn never_exceeds_what_was_paid(steps in proptest::collection::vec((0u32..50, 0u32..20, 0u64..500), 1..40)) {
            let start = Instant::now();
            let budget = Budget::new(0.2, 10, start);
            let (mut calls, mut retries, mut elapsed) = (0u32, 0u32, 0u64);
            for (called, wanted, millis) in steps {
                (0..called).for_each(|_| budget.deposit());
                calls += called;
                elapsed += millis;
                let now = start + Duration::from_millis(elapsed);
                retries += (0..wanted).filter(|_| budget.withdraw(now)).count() as u32;
                let allowed = 100.0 + f64::from(calls) * 0.2 + elapsed as f64 / 100.0;
                prop_assert!(f64::from(retries) <= allowed + 0.001, "{retries} of {allowed}");
            }
        }
    }
}
