//! Plays every order in which threads can get at what they share.
//!
//! Each access to an atomic is a step, before which another thread may go on; [`explore`] repeats a
//! scenario until each order with at most [`PREEMPTIONS`] of such changes was played. Few are
//! enough: Musuvathi and Qadeer, "Iterative context bounding". Steps are sequentially consistent,
//! which is all that counts on a single word need. Outside a scenario the atomics are the standard
//! library's.

use std::cell::RefCell;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Condvar, Mutex, MutexGuard};

/// So often a thread is interrupted in one order.
const PREEMPTIONS: usize = 3;

/// Runs `thread` in as many threads at once, in every order, each time on a fresh `S`, and then
/// `check`. Returns how many orders there are.
pub(crate) fn explore<S: Sync>(
    threads: usize,
    fresh: impl Fn() -> S,
    thread: impl Fn(&S, usize) + Sync,
    check: impl Fn(&S),
) -> usize {
    let mut path = Some(Vec::new());
    let mut orders = 0;
    while let Some(choices) = path.take() {
        let shared = fresh();
        let order = Arc::new(Order::new(threads, choices));
        std::thread::scope(|scope| {
            for number in 0..threads {
                let (order, shared, thread) = (order.clone(), &shared, &thread);
                scope.spawn(move || {
                    let turn = Turn::take(order, number);
                    thread(shared, number);
                    drop(turn);
                });
            }
        });
        check(&shared);
        orders += 1;
        path = order.next();
    }
    orders
}

/// One order, as it is played.
struct Order {
    played: Mutex<Played>,
    changed: Condvar,
}

struct Played {
    /// Whose turn it is.
    current: usize,
    are_over: Vec<bool>,
    /// What to choose first; after these, always the first.
    path: Vec<usize>,
    /// What was chosen, and of how many.
    chosen: Vec<(usize, usize)>,
    preemptions: usize,
}

impl Order {
    fn new(threads: usize, path: Vec<usize>) -> Self {
        let (current, chosen, preemptions) = (0, Vec::new(), 0);
        let are_over = vec![false; threads];
        let played = Played { current, are_over, path, chosen, preemptions };
        Self { played: Mutex::new(played), changed: Condvar::new() }
    }

    fn step(&self, number: usize) {
        let mut played = self.played.lock().expect("no thread panics with it");
        played.choose(Some(number));
        self.changed.notify_all();
        self.wait(played, number);
    }

    fn wait(&self, mut played: MutexGuard<'_, Played>, number: usize) {
        while played.current != number {
            played = self.changed.wait(played).expect("no thread panics with it");
        }
    }

    fn over(&self, number: usize) {
        let mut played = self.played.lock().expect("no thread panics with it");
        played.are_over[number] = true;
        played.choose(None);
        self.changed.notify_all();
    }

    /// The choices of the next order, if there is one.
    fn next(&self) -> Option<Vec<usize>> {
        let played = self.played.lock().expect("no thread panics with it");
        let last = played.chosen.iter().rposition(|(choice, of)| choice + 1 < *of)?;
        let mut path: Vec<_> = played.chosen[..=last].iter().map(|(choice, _)| *choice).collect();
        path[last] += 1;
        Some(path)
    }
}

impl Played {
    /// Chooses who goes on; `current` is the one that could.
    fn choose(&mut self, current: Option<usize>) {
        let others = (0..self.are_over.len())
            .filter(|number| !self.are_over[*number] && Some(*number) != current);
        let may_change = current.is_none() || self.preemptions < PREEMPTIONS;
        let mut options: Vec<_> = current.into_iter().collect();
        options.extend(others.filter(|_| may_change));
        if options.is_empty() {
            return;
        }
        let choice = self.path.get(self.chosen.len()).copied().unwrap_or(0);
        self.chosen.push((choice, options.len()));
        self.preemptions += usize::from(current.is_some() && choice > 0);
        self.current = options[choice];
    }
}

/// A thread's part in an order, until it is dropped.
struct Turn(Arc<Order>, usize);

thread_local! {
    static TURN: RefCell<Option<(Arc<Order>, usize)>> = const { RefCell::new(None) };
}

impl Turn {
    fn take(order: Arc<Order>, number: usize) -> Self {
        order.wait(order.played.lock().expect("no thread panics with it"), number);
        TURN.set(Some((order.clone(), number)));
        Self(order, number)
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        TURN.set(None);
        self.0.over(self.1);
    }
}

/// An atomic is about to be accessed.
fn step() {
    let turn = TURN.with_borrow(Clone::clone);
    if let Some((order, number)) = turn {
        order.step(number);
    }
}

macro_rules! atomic {
    ($name:ident, $integer:ty) => {
        #[derive(Debug, Default)]
        pub(crate) struct $name(std::sync::atomic::$name);

        impl $name {
            pub(crate) const fn new(value: $integer) -> Self {
                Self(std::sync::atomic::$name::new(value))
            }

            pub(crate) fn fetch_update(
                &self,
                set: Ordering,
                fetch: Ordering,
                mut to: impl FnMut($integer) -> Option<$integer>,
            ) -> Result<$integer, $integer> {
                let mut known = self.load(fetch);
                while let Some(next) = to(known) {
                    match self.compare_exchange(known, next, set, fetch) {
                        Ok(before) => return Ok(before),
                        Err(other) => known = other,
                    }
                }
                Err(known)
            }
        }

        atomic!($name, $integer, load() -> $integer);
        atomic!($name, $integer, store(value: $integer) -> ());
        atomic!($name, $integer, swap(value: $integer) -> $integer);
        atomic!($name, $integer, fetch_add(value: $integer) -> $integer);
        atomic!($name, $integer, fetch_sub(value: $integer) -> $integer);
        atomic!($name, $integer, fetch_min(value: $integer) -> $integer);
        atomic!($name, $integer, fetch_max(value: $integer) -> $integer);

        impl $name {
            pub(crate) fn compare_exchange(
                &self,
                from: $integer,
                to: $integer,
                set: Ordering,
                fetch: Ordering,
            ) -> Result<$integer, $integer> {
                step();
                self.0.compare_exchange(from, to, set, fetch)
            }
        }
    };
    ($name:ident, $integer:ty, $access:ident($($value:ident: $type:ty)?) -> $result:ty) => {
        impl $name {
            #[allow(dead_code)] // Both have all of them.
            pub(crate) fn $access(&self, $($value: $type,)? order: Ordering) -> $result {
                step();
                self.0.$access($($value,)? order)
            }
        }
    };
}

atomic!(AtomicU32, u32);
atomic!(AtomicU64, u64);

mod tests {
    use super::*;
    use std::sync::atomic::Ordering::Relaxed;

    /// Every order is played: a count that is read and written in two steps is once counted wrong,
    /// and once right.
    #[test]
    fn finds_a_lost_update() {
        let seen = Mutex::new(std::collections::BTreeSet::new());
        let add = |count: &AtomicU32, _| count.store(count.load(Relaxed) + 1, Relaxed);
        let orders = explore(
            2,
            || AtomicU32::new(0),
            add,
            |count| {
                seen.lock().expect("no thread panics").insert(count.0.load(Relaxed));
            },
        );
        assert_eq!(
            seen.into_inner().expect("no thread panics").into_iter().collect::<Vec<_>>(),
            [1, 2]
        );
        assert!(orders >= 6, "{orders}");
    }
}
