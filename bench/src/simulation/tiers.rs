//! Services that call one another in a row, the last of which is down.

use std::time::Duration;

use micro::selector::{Budget, Class, Decision, RetryPolicy};
use tokio::time::Instant;

/// Attempts that reach the last service, for each call of the first.
pub fn load_of_the_leaf(tiers: Tiers, middle: Middle, seed: u64) -> f64 {
    fastrand::seed(seed);
    let mut now = Instant::now();
    let mut row: Vec<_> = (0..TIERS).map(|_| Budget::new(0.2, 10, now)).collect();
    let mut reached = 0;
    for _ in 0..CALLS {
        now += EVERY;
        // What the answer is does not matter here: the leaf fails them all.
        let _ = Call { tiers, middle, now }.to(&mut row, false, &mut reached);
    }
    f64::from(reached) / f64::from(CALLS)
}

/// How a tier treats the failure of the one behind it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tiers {
    /// With our retries and budgets, and calls on behalf of a retry marked as such.
    Micro,
    /// The same without the mark.
    Unmarked,
    /// Three attempts, whatever went wrong.
    Naive,
}

/// How the tiers before the last one end a call that failed behind them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Middle {
    /// Their handlers answer with an error of their own: that was executed.
    Answers,
    /// They break off, so that nobody knows what was executed.
    Breaks,
}

const TIERS: usize = 4;
const CALLS: u32 = 30_000;
const EVERY: Duration = Duration::from_millis(1);

#[derive(Clone, Copy)]
struct Call {
    tiers: Tiers,
    middle: Middle,
    now: Instant,
}

impl Call {
    /// Calls the first of these tiers; `is_retry` is the mark that it is told.
    fn to(self, row: &mut [Budget], is_retry: bool, reached: &mut u32) -> Result<(), Class> {
        let Some((budget, behind)) = row.split_first_mut() else {
            *reached += 1;
            return Err(Class::MaybeExecuted);
        };
        if !is_retry {
            budget.deposit();
        }
        for attempt in 1.. {
            let is_marked = self.tiers == Tiers::Micro && (is_retry || attempt > 1);
            let Err(class) = self.to(behind, is_marked, reached) else { return Ok(()) };
            if self.gives_up(class, attempt, is_retry, budget) {
                break;
            }
        }
        Err(match self.middle {
            Middle::Answers => Class::Executed,
            Middle::Breaks => Class::MaybeExecuted,
        })
    }

    fn gives_up(self, class: Class, attempt: u32, is_retry: bool, budget: &Budget) -> bool {
        if self.tiers == Tiers::Naive {
            return attempt == 3;
        }
        if is_retry && !class.is_free() {
            return true;
        }
        let retry = RetryPolicy::default();
        let decision = retry.decide(class, attempt, attempt as usize, true, budget, self.now);
        decision == Decision::GiveUp
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// With the mark each tier adds its fifth of the calls to the load of the leaf, without it each
    /// adds a fifth of what comes from the tier before; where handlers answer only the last tier adds.
    #[test]
    fn the_mark_keeps_retries_from_multiplying() {
        let load = |tiers, middle| load_of_the_leaf(tiers, middle, 1);
        let answered = load(Tiers::Micro, Middle::Answers);
        assert!((1.2..1.25).contains(&answered), "{answered}");
        let (marked, unmarked) =
            (load(Tiers::Micro, Middle::Breaks), load(Tiers::Unmarked, Middle::Breaks));
        assert!((1.7..1.9).contains(&marked), "{marked}");
        assert!((2.0..2.3).contains(&unmarked), "{unmarked}");
    }
}
