//! Services that call one another in a row, the last of which is down.

use std::time::Duration;

use micro::selector::{Budget, Class, Decision, RetryPolicy};
use tokio::time::Instant;

/// Attempts that reach the last service, for each call of the first.
pub fn load_of_the_leaf(tiers: Tiers, seed: u64) -> f64 {
    fastrand::seed(seed);
    let mut now = Instant::now();
    let mut row: Vec<_> = (0..TIERS).map(|_| Budget::new(0.2, 10, now)).collect();
    let mut reached = 0;
    for _ in 0..CALLS {
        now += EVERY;
        // What the answer is does not matter here: the leaf fails them all.
        let _ = call(&mut row, tiers, &mut reached, now);
    }
    f64::from(reached) / f64::from(CALLS)
}

/// How a tier treats the failure of the one behind it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tiers {
    /// With our retries and budgets. A handler that fails has executed its call.
    Micro,
    /// Three attempts, whatever went wrong.
    Naive,
}

const TIERS: usize = 4;
const CALLS: u32 = 30_000;
const EVERY: Duration = Duration::from_millis(1);

fn call(row: &mut [Budget], tiers: Tiers, reached: &mut u32, now: Instant) -> Result<(), Class> {
    let Some((budget, behind)) = row.split_first_mut() else {
        *reached += 1;
        return Err(Class::MaybeExecuted);
    };
    budget.deposit();
    for attempt in 1.. {
        let Err(class) = call(behind, tiers, reached, now) else { return Ok(()) };
        let is_last = match tiers {
            Tiers::Naive => attempt == 3,
            Tiers::Micro => {
                let retry = RetryPolicy::default();
                let decision = retry.decide(class, attempt, attempt as usize, true, budget, now);
                decision == Decision::GiveUp
            }
        };
        if is_last {
            break;
        }
    }
    // The handler of this tier answers with an error of its own.
    Err(Class::Executed)
}
