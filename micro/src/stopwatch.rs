//! Where the time of a call goes.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use micro_rpc::QueuedAt;
use tokio::time::Instant;

/// Measures one call, whether it succeeds or fails: hand it to
/// [`Call::stopwatch`](crate::Call::stopwatch) and read it afterwards. Clones are the same.
///
/// ```no_run
/// # #[micro::service]
/// # pub trait Greeter { async fn hello(&self, name: String) -> String; }
/// # async fn example(greeter: GreeterClient) {
/// let stopwatch = micro::Stopwatch::default();
/// let greeting = greeter.hello("Ann").stopwatch(&stopwatch).await;
/// println!("{greeting:?} after {:?}", stopwatch.times().wait);
/// # }
/// ```
#[derive(Clone, Debug, Default)]
pub struct Stopwatch {
    marks: Arc<Mutex<Marks>>,
    queued: QueuedAt,
}

#[derive(Clone, Copy, Debug, Default)]
struct Marks {
    begun: Option<Instant>,
    /// When the first node was picked.
    picked: Option<Instant>,
    /// When the last one was.
    tried: Option<Instant>,
    ended: Option<Instant>,
}

/// How long each part of a call took; what it did not come to took no time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Times {
    /// Until a node was picked: the registry's first answer, layers.
    pub resolve: Duration,
    /// Attempts that failed before the last one, and the waits between.
    pub retry: Duration,
    /// Until the last attempt had its place on a connection.
    pub connect: Duration,
    /// Until the last attempt's answer was there: the network, and the method itself.
    pub wait: Duration,
    /// All of it.
    pub total: Duration,
}

impl Stopwatch {
    /// How long each part took, so far.
    pub fn times(&self) -> Times {
        let Marks { begun, picked, tried, ended } = *self.marks();
        let Some(begun) = begun else { return Times::default() };
        let ended = ended.unwrap_or_else(Instant::now);
        let picked = picked.unwrap_or(ended);
        let tried = tried.unwrap_or(picked);
        let queued = self.queued.get().unwrap_or(ended);
        Times {
            resolve: picked - begun,
            retry: tried - picked,
            connect: queued - tried,
            wait: ended - queued,
            total: ended - begun,
        }
    }

    pub(crate) fn begin(&self) {
        self.queued.clear();
        *self.marks() = Marks { begun: Some(Instant::now()), ..Marks::default() };
    }

    /// An attempt begins.
    pub(crate) fn attempt(&self) {
        self.queued.clear();
        let now = Instant::now();
        let mut marks = self.marks();
        marks.picked.get_or_insert(now);
        marks.tried = Some(now);
    }

    pub(crate) fn end(&self) {
        self.marks().ended = Some(Instant::now());
    }

    /// What tells it when a request was handed to a connection.
    pub(crate) fn queued(&self) -> &QueuedAt {
        &self.queued
    }

    fn marks(&self) -> MutexGuard<'_, Marks> {
        self.marks.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::advance;

    use super::*;

    /// What the attempts before the last one took is told apart, and the parts are the whole.
    #[tokio::test(start_paused = true)]
    async fn parts_of_a_call() {
        let millis = Duration::from_millis;
        let stopwatch = Stopwatch::default();
        stopwatch.begin();
        for (before, what) in [
            (10, Stopwatch::attempt as fn(&Stopwatch)),
            (20, Stopwatch::attempt),
            (40, Stopwatch::attempt),
            (5, Stopwatch::end),
        ] {
            advance(millis(before)).await;
            what(&stopwatch);
        }
        let expected = Times {
            resolve: millis(10),
            retry: millis(60),
            connect: millis(5),
            wait: millis(0),
            total: millis(75),
        };
        assert_eq!(stopwatch.times(), expected);
        stopwatch.begin();
        stopwatch.end();
        assert_eq!(stopwatch.times(), Times::default());
    }
}
