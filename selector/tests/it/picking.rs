//! Which node is picked: the picker over plain events and times, without runtime or registry.

use std::collections::{BTreeMap, HashSet, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use micro_registry::{EmptyReason, Node, NodeState, Registration, RemoveReason, Update};
use micro_selector::{
    Cache, CallOptions, Class, Filter, Picked, Picker, Snapshot, StrategyKind, Tried, hash,
};
use proptest::prelude::*;
use tokio::time::Instant;

/// A service whose nodes are numbered, as one of its callers sees it.
struct Caller {
    picker: Picker,
    cache: Cache<usize>,
    snapshot: Snapshot<usize>,
    options: CallOptions,
    tried: Tried,
    now: Instant,
}

fn node(number: usize) -> Registration {
    Registration::new("s", "1.0.0", Node::new(format!("n{number}"), "127.0.0.1:1"))
}

impl Caller {
    fn new(strategy: StrategyKind, nodes: impl IntoIterator<Item = Registration>) -> Self {
        // What is drawn is the same in every run: the bounds below are on chances.
        fastrand::seed(7);
        let now = Instant::now();
        let picker = Picker::new(&strategy, now);
        let mut cache = Cache::new(&picker);
        let nodes = nodes.into_iter().map(Into::into).collect();
        cache.apply(&Update::reset(nodes, EmptyReason::Unknown), now);
        let snapshot = cache.snapshot(number, now);
        let (options, tried) = (CallOptions::default(), Tried::default());
        Self { picker, cache, snapshot, options, tried, now }
    }

    fn of(strategy: &str, nodes: usize) -> Self {
        Self::new(strategy.parse().expect("a known strategy"), (0..nodes).map(node))
    }

    fn apply(&mut self, update: Update) {
        self.cache.apply(&update, self.now);
        self.snapshot = self.cache.snapshot(number, self.now);
    }

    fn wait(&mut self, millis: u64) {
        self.now += Duration::from_millis(millis);
    }

    fn pick(&self) -> Option<Picked<usize>> {
        let avoid = |_: &usize| false;
        self.picker.pick(&self.snapshot, &self.options, &self.tried, &avoid, self.now)
    }

    /// An attempt that takes ten milliseconds; returns where it went.
    fn call(&mut self, outcome: impl Fn(usize) -> Result<(), Class>) -> usize {
        let picked = self.pick().expect("there are nodes");
        let node = *picked.member().target();
        self.wait(10);
        picked.finish(outcome(node), self.now);
        node
    }

    fn ejected(&self) -> usize {
        self.snapshot.members().iter().filter(|member| member.stats().is_ejected()).count()
    }
}

fn number(registration: &Registration) -> Option<usize> {
    registration.node.id.strip_prefix('n')?.parse().ok()
}

fn strategies() -> impl Iterator<Item = StrategyKind> {
    StrategyKind::NAMES.iter().map(|name| name.parse().expect("it is named"))
}

proptest! {
    /// Whatever happened to the nodes, each attempt of a call goes to another one of the snapshot,
    /// until all were tried; and at most half are ejected.
    #[test]
    fn never_a_tried_node_never_a_strange_one(
        count in 0usize..12,
        history in proptest::collection::vec((0u8..5, 0u64..3_000), 0..80),
    ) {
        for strategy in strategies() {
            let mut caller = Caller::new(strategy, (0..count).map(node));
            for (outcome, millis) in &history {
                caller.wait(*millis);
                let Some(picked) = caller.pick() else { break };
                match outcome {
                    0 => picked.finish(Ok(()), caller.now),
                    1 => picked.cancel(caller.now),
                    2 => picked.finish(Err(Class::Overloaded), caller.now),
                    _ => picked.finish(Err(Class::MaybeExecuted), caller.now),
                }
                prop_assert!(caller.ejected() <= count / 2);
            }
            let mut seen = HashSet::new();
            let mut under_way = Vec::new();
            while seen.len() < count.min(Tried::CAPACITY) {
                let picked = caller.pick().expect("one is not tried yet");
                caller.tried.insert(picked.member().stats().key());
                prop_assert!(seen.insert(*picked.member().target()), "tried twice");
                under_way.push(picked);
            }
            if count <= Tried::CAPACITY {
                prop_assert!(caller.pick().is_none());
            }
            under_way.into_iter().for_each(|picked| picked.cancel(caller.now));
            let in_flight = caller.snapshot.members().iter().map(|m| m.stats().in_flight());
            prop_assert_eq!(in_flight.sum::<u32>(), 0);
        }
    }
}

/// The nodes of a service that answer alike get traffic by their weights, within two per cent over
/// 100 000 picks; with one attempt at a time, and with several.
#[test]
fn weights_are_kept() {
    for (strategy, nodes, at_once) in [
        ("ewma", 4, 1),
        ("ewma", 4, 40),
        ("ewma", 7, 1),
        ("ewma", 7, 40),
        ("least-loaded", 7, 40),
        ("weighted", 7, 1),
    ] {
        let weights = &[100, 200, 50, 400, 250, 100, 100][..nodes];
        let all: u16 = weights.iter().sum();
        for (share, weight) in shares(strategy, weights, at_once).into_iter().zip(weights) {
            let fair = f64::from(*weight) / f64::from(all);
            let off = (share - fair).abs();
            assert!(off <= 0.02, "{strategy}, {at_once} at once: {share} of {fair}");
        }
    }
}

/// What part of 100 000 picks each node gets, when so many attempts are under way and each takes ten
/// milliseconds.
fn shares(strategy: &str, weights: &[u16], at_once: u64) -> Vec<f64> {
    const PICKS: usize = 100_000;
    let weighted = weights.iter().enumerate().map(|(number, weight)| {
        let mut registration = node(number);
        registration.node.weight = *weight;
        registration
    });
    let mut caller = Caller::new(strategy.parse().expect("a known strategy"), weighted);
    let mut counts = vec![0usize; weights.len()];
    let mut under_way = VecDeque::new();
    for _ in 0..PICKS {
        let picked = caller.pick().expect("there are nodes");
        counts[*picked.member().target()] += 1;
        under_way.push_back((picked, caller.now + Duration::from_millis(10)));
        caller.now += Duration::from_micros(10_000 / at_once);
        while under_way.front().is_some_and(|(_, done)| *done <= caller.now) {
            let (picked, done) = under_way.pop_front().expect("it was there");
            picked.finish(Ok(()), done);
        }
    }
    counts.into_iter().map(|count| count as f64 / PICKS as f64).collect()
}

/// A node that fails is left out after a few attempts and probed first in line, by one caller; when
/// it answers it comes back, with little at first.
#[test]
fn failing_nodes_are_left_out_and_probed() {
    for strategy in ["ewma", "round-robin", "random", "least-loaded", "weighted"] {
        let mut caller = Caller::of(strategy, 4);
        let fails = |number| if number == 2 { Err(Class::MaybeExecuted) } else { Ok(()) };
        while caller.ejected() == 0 {
            caller.call(fails);
        }
        let left_out = |caller: &Caller| caller.snapshot.members()[2].stats().is_ejected();
        assert!(left_out(&caller));
        for _ in 0..30 {
            assert_ne!(caller.call(fails), 2, "{strategy}");
        }
        caller.wait(2_000);
        let probe = caller.pick().unwrap();
        assert_eq!(*probe.member().target(), 2, "{strategy}: the probe goes first");
        for _ in 0..30 {
            assert_ne!(caller.call(fails), 2, "{strategy}: one probe at a time");
        }
        probe.finish(Ok(()), caller.now);
        assert!(!left_out(&caller));
    }
}

/// Who calls seldom meets a node that fails with one call in ten at most, with one in twenty when
/// the calls are not to be repeated.
#[test]
fn rare_callers_probe_rarely() {
    for (idempotent, most) in [(true, 20), (false, 10)] {
        let mut caller = Caller::of("round-robin", 4);
        caller.options.idempotent = idempotent;
        let fails = |number| if number == 2 { Err(Class::MaybeExecuted) } else { Ok(()) };
        while caller.ejected() == 0 {
            caller.call(fails);
        }
        let met = |caller: &mut Caller| {
            caller.wait(120_000);
            caller.call(fails) == 2
        };
        let met = (0..200).filter(|_| met(&mut caller)).count();
        assert!((most / 2..=most).contains(&met), "{met}");
    }
}

/// While a node is due for its probe and to be avoided, most picks do not look for it.
#[test]
fn who_cannot_be_probed_is_not_looked_for_all_the_time() {
    let mut caller = Caller::of("random", 4);
    while caller.ejected() == 0 {
        caller.call(|number| if number == 2 { Err(Class::MaybeExecuted) } else { Ok(()) });
    }
    caller.wait(60_000);
    let asked = Arc::new(AtomicU32::new(0));
    let counted = asked.clone();
    let avoid = move |number: &usize| {
        counted.fetch_add(u32::from(*number == 2), Ordering::Relaxed);
        *number == 2
    };
    for _ in 0..1_000 {
        caller.now += Duration::from_millis(1);
        let (options, tried) = (&caller.options, &caller.tried);
        let picked = caller.picker.pick(&caller.snapshot, options, tried, &avoid, caller.now);
        picked.expect("there are others").finish(Ok(()), caller.now);
    }
    let asked = asked.load(Ordering::Relaxed);
    assert!((1..=10).contains(&asked), "{asked}");
}

/// What an application answers, overload and refusals never eject a node.
#[test]
fn answers_never_eject() {
    for class in [Class::Executed, Class::Overloaded, Class::Refused, Class::NotSent] {
        let mut caller = Caller::of("ewma", 3);
        for _ in 0..200 {
            caller.call(|_| Err(class));
        }
        assert_eq!(caller.ejected(), 0, "{class:?}");
    }
    // An error that a method answers is an answer: what failed before is forgiven.
    let mut caller = Caller::of("round-robin", 3);
    for turn in 0..300 {
        let class = if turn % 30 < 3 { Class::MaybeExecuted } else { Class::Executed };
        caller.call(|_| Err(class));
    }
    assert_eq!(caller.ejected(), 0);
}

/// A deadline that leaves a node less time than it may take says nothing against it; one that
/// leaves it enough does.
#[test]
fn short_deadlines_eject_nobody() {
    for (class, millis, ejected) in [
        (Class::MaybeExecuted, 2, false),
        (Class::NotSent, 0, false),
        (Class::MaybeExecuted, 90, false),
        (Class::MaybeExecuted, 200, true),
    ] {
        let mut caller = Caller::of("round-robin", 4);
        (0..40).for_each(|_| _ = caller.call(|_| Ok(())));
        for _ in 0..40 {
            let picked = caller.pick().expect("there are nodes");
            caller.wait(millis);
            picked.expire(class, caller.now);
        }
        assert_eq!(caller.ejected() > 0, ejected, "{class:?} after {millis} ms");
        let latency = caller.snapshot.members()[0].stats().latency();
        assert!(latency <= Some(Duration::from_millis(millis.max(20))), "{latency:?}");
    }
}

/// An ejected node that leaves, and one that comes back under its name, take nobody's place among
/// the ejected.
#[test]
fn nodes_that_leave_give_their_place_back() {
    let mut caller = Caller::of("round-robin", 2);
    let fails = |number| if number == 1 { Err(Class::MaybeExecuted) } else { Ok(()) };
    for _ in 0..5 {
        // A newcomer gets little at first, so that it takes a while to fail often.
        (0..400).for_each(|_| _ = caller.call(fails));
        assert_eq!(caller.ejected(), 1);
        caller.apply(Update::remove(&node(1), RemoveReason::Deregistered));
        assert_eq!(caller.ejected(), 0);
        caller.apply(Update::Put(node(1).into()));
    }
}

/// An ejected node that wants no traffic for a while takes nobody's place among the ejected
/// meanwhile, and is picked again when it is back, whenever its probe was due.
#[test]
fn ejected_nodes_that_rest_come_back() {
    let resting = |number, weight| {
        let mut resting = node(number);
        resting.node.weight = weight;
        Update::Put(resting.into())
    };
    let mut caller = Caller::of("round-robin", 10);
    (0..200).for_each(|_| _ = caller.call(|number| fails_below(number, 4)));
    assert_eq!(caller.ejected(), 4);
    (0..4).for_each(|number| caller.apply(resting(number, 0)));
    assert_eq!(caller.ejected(), 0);
    // Time for every probe to fall due while nobody can make it.
    for _ in 0..100 {
        caller.wait(1_000);
        caller.call(|_| Ok(()));
    }
    (0..200).for_each(|_| _ = caller.call(|number| fails_below(number, 7)));
    let out = |caller: &Caller, number: usize| {
        let members = caller.snapshot.members();
        members.iter().any(|m| *m.target() == number && m.stats().is_ejected())
    };
    assert!((4..7).all(|number| out(&caller, number)), "the places are theirs");
    (0..4).for_each(|number| caller.apply(resting(number, 100)));
    let called: HashSet<_> = (0..2_000).map(|_| caller.call(|_| Ok(()))).collect();
    assert_eq!(called.len(), 10);
    assert_eq!(caller.ejected(), 0);
}

fn fails_below(number: usize, least: usize) -> Result<(), Class> {
    if number < least { Err(Class::MaybeExecuted) } else { Ok(()) }
}

/// When most nodes fail they are all picked from: half of them would not bear the load.
#[test]
fn panic_picks_among_everything() {
    let mut caller = Caller::of("random", 4);
    let mut called = HashSet::new();
    for turn in 0..2_000 {
        let node = caller.call(|_| Err(Class::MaybeExecuted));
        assert!(caller.ejected() <= 2);
        if turn > 1_000 {
            called.insert(node);
        }
    }
    assert_eq!(called.len(), 4);
}

/// A node that hangs gets nothing while there are others, whatever the strategy.
#[test]
fn hanging_nodes_are_suspect() {
    for strategy in strategies() {
        let mut caller = Caller::new(strategy, (0..4).map(node));
        (0..100).for_each(|_| _ = caller.call(|_| Ok(())));
        // Each of them once, so that the one that hangs has an attempt in flight.
        let mut stuck = None;
        while stuck.is_none() {
            let picked = caller.pick().unwrap();
            caller.wait(10);
            match *picked.member().target() {
                2 => stuck = Some(picked),
                _ => picked.finish(Ok(()), caller.now),
            }
            caller.options.key = Some(fastrand::u64(..));
        }
        caller.wait(3_000);
        for key in 0..200 {
            caller.options.key = Some(key);
            assert_ne!(caller.call(|_| Ok(())), 2);
        }
    }
}

/// The node that served a long call gets its share of the short ones after it; a node that is slow
/// gets next to none.
#[test]
fn long_methods_do_not_make_their_node_look_slow() {
    // The shares of the node that served the last long call, and of the first.
    let shares = |slow: f64| {
        let mut caller = Caller::of("ewma", 3);
        let (mut short, mut after_long, mut first, mut served) = (0.0, 0.0, 0.0, 0);
        for turn in 0..3_000 {
            let is_long = turn % 100 == 99;
            caller.options.method = Some(1 + u64::from(is_long));
            let picked = caller.pick().expect("there are nodes");
            let node = *picked.member().target();
            let seconds = if is_long { 0.1 } else { 0.001 } * if node == 0 { slow } else { 1.0 };
            caller.now += Duration::from_secs_f64(seconds);
            picked.finish(Ok(()), caller.now);
            if is_long {
                served = node;
            } else if turn > 500 {
                short += 1.0;
                after_long += f64::from(node == served);
                first += f64::from(node == 0);
            }
        }
        (after_long / short, first / short)
    };
    let (after_long, _) = shares(1.0);
    assert!((0.25..0.45).contains(&after_long), "{after_long}");
    let (_, slow) = shares(20.0);
    assert!(slow < 0.05, "{slow}");
}

/// A node that works on a call which takes a minute on any node is not suspect.
#[test]
fn long_polls_are_no_stall() {
    for strategy in ["round-robin", "random", "weighted"] {
        let mut caller = Caller::of(strategy, 4);
        let poll = |caller: &mut Caller| {
            caller.options.method = Some(2);
            let picked = caller.pick().expect("there are nodes");
            caller.options.method = Some(1);
            picked
        };
        (0..100).for_each(|_| _ = caller.call(|_| Ok(())));
        let first = poll(&mut caller);
        caller.wait(60_000);
        first.finish(Ok(()), caller.now);
        (0..100).for_each(|_| _ = caller.call(|_| Ok(())));
        let second = poll(&mut caller);
        caller.wait(30_000);
        let busy = *second.member().target();
        let called = (0..400).filter(|_| caller.call(|_| Ok(())) == busy).count();
        assert!(called > 50, "{strategy}: {called} of 400");
    }
}

/// The nodes of the caller's zone are preferred, until they are too few or much too slow.
#[test]
fn zones_are_preferred_and_left() {
    let zoned = |number: usize| {
        let mut registration = node(number);
        registration.node.zone =
            Some(if number.is_multiple_of(2) { "here" } else { "there" }.to_owned());
        registration
    };
    for strategy in ["ewma", "round-robin", "random"] {
        let mut caller = Caller::new(strategy.parse().unwrap(), []);
        caller.cache =
            Cache::new(&caller.picker).within(Some("here".to_owned()), Filter::default());
        let nodes = (0..8).map(|number| zoned(number).into()).collect();
        caller.apply(Update::reset(nodes, EmptyReason::Unknown));
        let away = (0..500).filter(|_| caller.call(|_| Ok(())) % 2 == 1).count();
        assert!((1..20).contains(&away), "{strategy}: {away}");
        // All of the zone become slow.
        let slow = |caller: &mut Caller| {
            let picked = caller.pick().unwrap();
            let node = *picked.member().target();
            caller.wait(if node.is_multiple_of(2) { 500 } else { 10 });
            picked.finish(Ok(()), caller.now);
            node
        };
        let away = (0..500).filter(|_| slow(&mut caller) % 2 == 1).count();
        assert!(away > 50, "{strategy}: {away}");
        // They heal, and two of the four leave.
        caller.wait(60_000);
        (0..500).for_each(|_| _ = caller.call(|_| Ok(())));
        let away = (0..500).filter(|_| caller.call(|_| Ok(())) % 2 == 1).count();
        assert!(away < 20, "{strategy}: {away}");
        for number in [0, 2] {
            let mut draining = zoned(number);
            draining.node.state = NodeState::Draining;
            caller.apply(Update::Put(draining.into()));
        }
        let away = (0..500).filter(|_| caller.call(|_| Ok(())) % 2 == 1).count();
        assert!(away > 250, "{strategy}: {away}");
    }
}

/// A call goes to the versions, zone and labels it asks for alone, and to none when none has them.
#[test]
fn filters_are_kept() {
    let described = ["1.4.0", "1.4.2", "2.0.0", "latest"].into_iter().enumerate();
    let nodes = described.map(|(number, version)| {
        let mut registration = node(number);
        registration.version = version.to_owned();
        registration.metadata.insert("team".to_owned(), "a".to_owned());
        registration.node.zone = (number == 1).then(|| "z".to_owned());
        if number == 2 {
            registration.node.metadata.insert("team".to_owned(), "b".to_owned());
        }
        registration
    });
    let mut caller = Caller::of("ewma", 0);
    caller.apply(Update::reset(nodes.map(Into::into).collect(), EmptyReason::Unknown));
    let version = |version: &str| Filter::default().version(version).expect("it is one");
    for (filter, expected) in [
        (Filter::default(), vec![0, 1, 2, 3]),
        (version("1.4.2"), vec![1]),
        (version("1.4"), vec![0, 1]),
        (version(">=1.4.1, <3"), vec![1, 2]),
        (version("latest"), vec![3]),
        (version("*"), vec![0, 1, 2, 3]),
        (version("3"), vec![]),
        (Filter::default().zone("z"), vec![1]),
        (Filter::default().label("team", "a"), vec![0, 1, 3]),
        (version("2").label("team", "b"), vec![2]),
    ] {
        caller.options.filter = Some(filter.clone().into());
        let mut called = HashSet::new();
        for _ in 0..200 {
            called.extend(caller.pick().map(|picked| *picked.member().target()));
        }
        assert_eq!(called, expected.into_iter().collect(), "{filter:?}");
    }
    let (calver, range) = (version("2026.01.05"), version("^2026.1"));
    assert!(calver.allows_version("2026.01.05") && range.allows_version("2026.01.05"));
    assert!(!range.allows_version("2025.12.05"));
    let error = Filter::default().version("1.x.y").unwrap_err().to_string();
    assert!(error.contains("\"1.x.y\"") && error.contains("^1.4"), "{error}");
}

/// The same key goes to the same node in every process; when a node leaves, its keys alone move.
#[test]
fn consistent_hashing_moves_little() {
    const KEYS: usize = 20_000;
    let placed = |caller: &mut Caller| -> Vec<usize> {
        let place = |name: usize| {
            caller.options.key = Some(hash(format!("user-{name}").as_bytes()));
            *caller.pick().unwrap().member().target()
        };
        (0..KEYS).map(place).collect()
    };
    let mut caller = Caller::of("consistent-hash", 10);
    let before = placed(&mut caller);
    assert_eq!(before, placed(&mut Caller::of("consistent-hash", 10)));
    let mut counts = BTreeMap::new();
    before.iter().for_each(|node| *counts.entry(node).or_insert(0) += 1);
    assert!(counts.values().all(|count| (1_800..2_200).contains(count)), "{counts:?}");
    let mut leaving = node(3);
    leaving.node.state = NodeState::Draining;
    caller.apply(Update::Put(leaving.into()));
    let after = placed(&mut caller);
    let moved = before.iter().zip(&after).filter(|(before, after)| before != after);
    assert!(moved.clone().all(|(before, _)| *before == 3), "only its keys move");
    assert!(moved.count() as f64 <= KEYS as f64 * (0.1 + 0.02));
}

/// With little to do, calls of one key at once keep to its node.
#[test]
fn consistent_hashing_keeps_to_its_node_at_low_load() {
    let mut caller = Caller::of("consistent-hash", 10);
    for key in 0..50 {
        caller.options.key = Some(key);
        let under_way: Vec<_> = (0..4).filter_map(|_| caller.pick()).collect();
        let places: HashSet<_> = under_way.iter().map(|picked| *picked.member().target()).collect();
        assert_eq!(places.len(), 1);
    }
}

/// A key that all calls have does not break its node: 1.25 times the mean is what it takes.
#[test]
fn consistent_hashing_is_bounded() {
    let mut caller = Caller::of("consistent-hash", 10);
    caller.options.key = Some(1);
    let under_way: Vec<_> = (0..1_000).filter_map(|_| caller.pick()).collect();
    let most = caller.snapshot.members().iter().map(|member| member.stats().in_flight()).max();
    assert!(most <= Some(126), "{most:?}");
    assert_eq!(under_way.len(), 1_000);
}

/// A node that joins gets little at first and its share later; the first ones get it at once.
#[test]
fn newcomers_start_slowly() {
    for strategy in ["ewma", "least-loaded", "weighted", "random", "round-robin"] {
        let mut caller = Caller::of(strategy, 9);
        (0..1_000).for_each(|_| _ = caller.call(|_| Ok(())));
        caller.apply(Update::Put(node(9).into()));
        let newcomers = |caller: &mut Caller| {
            (0..2_000)
                .filter(|_| {
                    let picked = caller.pick().unwrap();
                    let is_new = *picked.member().target() == 9;
                    caller.now += Duration::from_micros(50);
                    picked.finish(Ok(()), caller.now);
                    is_new
                })
                .count()
        };
        let first = newcomers(&mut caller);
        assert!((1..80).contains(&first), "{strategy}: {first} of 2000");
        caller.wait(60_000);
        let later = newcomers(&mut caller);
        assert!((140..360).contains(&later), "{strategy}: {later} of 2000");
    }
}

/// Each node in turn, whoever calls, without leaving one out; the loaded is passed over.
#[test]
fn round_robin_goes_round_and_least_loaded_avoids_the_loaded() {
    let caller = Caller::of("round-robin", 3);
    let picks: Vec<_> = (0..6).map(|_| *caller.pick().unwrap().member().target()).collect();
    assert_eq!(picks, [0, 1, 2, 0, 1, 2]);
    for count in [3, 50] {
        let mut caller = Caller::of("least-loaded", count);
        let mut under_way = Vec::new();
        // All but the first are loaded.
        while under_way.len() < count - 1 {
            let picked = caller.pick().unwrap();
            caller.tried.insert(picked.member().stats().key());
            match *picked.member().target() {
                0 => picked.cancel(caller.now),
                _ => under_way.push(picked),
            }
            caller.tried = Tried::default();
        }
        let loaded = caller.snapshot.members().iter().map(|member| member.stats().in_flight());
        assert!(loaded.max() <= Some(2), "nodes with nothing in flight come first");
    }
}
