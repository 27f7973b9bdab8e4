//! The goals, the scenarios they are measured by, and what is measured.

use std::str::FromStr;

use super::policy::Policy;
use super::server::Mood;
use super::tiers::{Middle, Tiers, load_of_the_leaf};
use super::world::{Act, Record, Scenario, Sent, play};
use super::{MS, Nanos, S};
use crate::rows::Target::{Least, Most};
use crate::rows::{Figures, Row, sum_up};

/// A goal by its number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)] // What they say is in `rows`.
pub enum Goal {
    G1,
    G2,
    G3,
    G4,
    G5,
    G7,
    G9,
    G10,
    G12,
    G14,
    G15,
}

impl Goal {
    /// All that can be simulated.
    pub const ALL: [Self; 11] = [
        Self::G1,
        Self::G2,
        Self::G3,
        Self::G4,
        Self::G5,
        Self::G7,
        Self::G9,
        Self::G10,
        Self::G12,
        Self::G14,
        Self::G15,
    ];

    /// Plays the goal's scenarios once for each seed and policy.
    pub fn rows(self, seeds: u64) -> Vec<Row> {
        match self {
            Self::G1 => g1(seeds),
            Self::G2 => g2(seeds),
            Self::G3 => g3(seeds),
            Self::G4 => g4(seeds),
            Self::G5 => g5(seeds),
            Self::G7 => g7(seeds),
            Self::G9 => g9(seeds),
            Self::G10 => g10(seeds),
            Self::G12 => g12(seeds),
            Self::G14 => g14(seeds),
            Self::G15 => g15(seeds),
        }
    }
}

impl FromStr for Goal {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        let known =
            Self::ALL.into_iter().find(|goal| format!("{goal:?}").eq_ignore_ascii_case(name));
        known.ok_or_else(|| format!("expected one of {:?}", Self::ALL))
    }
}

/// Calls before this are warming up.
const WARM: Nanos = 5 * S;

/// Takes the figures of each compared policy, for each seed.
fn rows(goal: &'static str, seeds: u64, figures: impl Fn(Policy, u64) -> Figures) -> Vec<Row> {
    rows_of(&Policy::COMPARED, goal, seeds, figures)
}

fn rows_of(
    policies: &[Policy],
    goal: &'static str,
    seeds: u64,
    figures: impl Fn(Policy, u64) -> Figures,
) -> Vec<Row> {
    let rows = policies.iter().copied().flat_map(|policy| {
        let runs: Vec<_> = (1..=seeds).map(|seed| figures(policy, seed).into()).collect();
        let rows = sum_up(goal, &policy.to_string(), &runs);
        rows.into_iter().map(move |row| row.noted(policy.weakness(goal)))
    });
    rows.collect()
}

fn slow_nodes(count: usize, times: f64) -> Scenario {
    let mut scenario = Scenario::default();
    let capacity = scenario.capacity() * ((10 - count) as f64 + count as f64 / times);
    scenario.script = (0..count).map(|node| (0, Act::Mood(node, Mood::Serving(times)))).collect();
    scenario.script.push((0, Act::Rate(0.7 * capacity)));
    scenario
}

fn g1(seeds: u64) -> Vec<Row> {
    let scenario = slow_nodes(1, 20.0);
    rows("G1", seeds, |policy, seed| {
        let oracle = p99(&play(&scenario, Policy::Oracle, seed));
        let record = play(&scenario, policy, seed);
        vec![
            ("p99, × oracle", Most(1.10), p99(&record) / oracle),
            ("slow node's share, %", Most(0.1), 100.0 * share(&record, 0, WARM, u64::MAX)),
        ]
    })
}

fn g2(seeds: u64) -> Vec<Row> {
    let scenario = slow_nodes(3, 20.0);
    rows("G2", seeds, |policy, seed| {
        let oracle = p99(&play(&scenario, Policy::Oracle, seed));
        vec![("p99, × oracle", Most(1.15), p99(&play(&scenario, policy, seed)) / oracle)]
    })
}

fn g3(seeds: u64) -> Vec<Row> {
    let scenario = |clients| {
        let mut scenario = Scenario { clients, ..Scenario::default() };
        scenario.script = vec![(0, Act::Rate(0.9 * 10.0 * scenario.capacity()))];
        scenario
    };
    rows("G3", seeds, |policy, seed| {
        let against_oracle = |clients| {
            let scenario = scenario(clients);
            p99(&play(&scenario, policy, seed)) / p99(&play(&scenario, Policy::Oracle, seed))
        };
        vec![
            ("p99 with 20 clients, × oracle", Most(1.15), against_oracle(20)),
            ("p99 with 200 clients, × oracle", Most(1.30), against_oracle(200)),
        ]
    })
}

/// As Finagle's authors have it in "Beyond Round Robin": 11 nodes behind one balancer.
fn g4(seeds: u64) -> Vec<Row> {
    let mut scenario = Scenario {
        nodes: 11,
        clients: 1,
        workers: 1_000,
        methods: vec![(1.0, 100 * MS)],
        deadline: Some(S),
        idempotent: false,
        length: 60 * S,
        ..Scenario::default()
    };
    scenario.script = vec![
        (0, Act::Rate(1_000.0)),
        (15 * S, Act::Mood(0, Mood::Stuck(2 * S))),
        (45 * S, Act::Mood(0, Mood::Serving(1.0))),
    ];
    rows("G4", seeds, |policy, seed| {
        let ok = 100.0 * success(&play(&scenario, policy, seed), 0, u64::MAX);
        vec![("in time, %", Least(99.9), ok)]
    })
}

fn g5(seeds: u64) -> Vec<Row> {
    let mut scenario = Scenario { length: 40 * S, ..Scenario::default() };
    scenario.script = vec![
        (0, Act::Rate(0.7 * 9.0 * scenario.capacity())),
        (10 * S, Act::Mood(0, Mood::Failing)),
    ];
    rows("G5", seeds, |policy, seed| {
        let record = play(&scenario, policy, seed);
        let errors = record.calls.iter().filter(|call| !call.is_ok).count() as f64;
        let share = 100.0 * share(&record, 0, 10 * S, u64::MAX);
        vec![("caller errors", Most(0.0), errors), ("failing node's share, %", Most(0.05), share)]
    })
}

fn g7(seeds: u64) -> Vec<Row> {
    let mut scenario = Scenario { length: 40 * S, deadline: Some(S), ..Scenario::default() };
    scenario.script = vec![
        (0, Act::Rate(0.7 * 9.0 * scenario.capacity())),
        (10 * S, Act::Mood(0, Mood::Hanging)),
    ];
    rows("G7", seeds, |policy, seed| {
        let record = play(&scenario, policy, seed);
        let lost = |client: usize, until: Nanos| {
            let is_lost = |sent: &&Sent| {
                sent.client == client && sent.node == 0 && (10 * S..until).contains(&sent.at)
            };
            record.sent.iter().filter(is_lost).count() as f64
        };
        let each =
            |until| (0..scenario.clients).map(|client| lost(client, until)).collect::<Vec<_>>();
        let mean = |until| each(until).iter().sum::<f64>() / scenario.clients as f64;
        vec![
            // By then a ping has told: see G6.
            ("lost attempts per client in 3 s", Most(2.0), mean(13 * S)),
            (
                "the same of the worst client",
                Most(2.0),
                each(13 * S).into_iter().fold(0.0, f64::max),
            ),
            ("the same in 30 s, without any ping", Most(2.0), mean(40 * S)),
        ]
    })
}

fn g9(seeds: u64) -> Vec<Row> {
    let mut scenario =
        Scenario { queue: 64, deadline: Some(S), length: 25 * S, ..Scenario::default() };
    let capacity = 10.0 * scenario.capacity();
    let (from, to) = (10 * S, 15 * S);
    scenario.script = vec![
        (0, Act::Rate(0.7 * capacity)),
        (from, Act::Rate(3.0 * capacity)),
        (to, Act::Rate(0.7 * capacity)),
    ];
    rows("G9", seeds, |policy, seed| {
        let record = play(&scenario, policy, seed);
        let during = record
            .calls
            .iter()
            .filter(|call| call.is_ok && (from..to).contains(&(call.at + call.took)));
        let served = 100.0 * during.count() as f64 / (capacity * 5.0);
        let offered = record.calls.iter().filter(|call| (from..to).contains(&call.at)).count();
        let sent = record.sent.iter().filter(|sent| (from..to).contains(&sent.at)).count();
        vec![
            ("served during overload, % of capacity", Least(90.0), served),
            ("ok from 1 s after it, %", Least(99.0), 100.0 * success(&record, to + S, to + 6 * S)),
            ("attempts per call during it", Most(1.25), sent as f64 / offered as f64),
        ]
    })
}

fn g10(seeds: u64) -> Vec<Row> {
    let row = |(measure, most, middle), (policy, tiers, weakness)| {
        let loads = (1..=seeds).map(|seed| load_of_the_leaf(tiers, middle, seed)).collect();
        Row::new("G10", measure, policy, Most(most), loads).noted(weakness)
    };
    let multiplies = Some("each tier repeats what the one before it repeats");
    let policies = [
        ("micro", Tiers::Micro, None),
        ("no mark", Tiers::Unmarked, multiplies),
        ("naive", Tiers::Naive, multiplies),
    ];
    let measures = [
        ("attempts at the leaf per call", 1.3, Middle::Answers),
        // A fifth of the calls and ten a second for each of four tiers, and what was saved up.
        ("the same when the tiers before it break off", 1.9, Middle::Breaks),
    ];
    measures.iter().flat_map(|measure| policies.map(|policy| row(*measure, policy))).collect()
}

fn g12(seeds: u64) -> Vec<Row> {
    let mut scenario = Scenario { clients: 1_000, length: 15 * S, ..Scenario::default() };
    scenario.script = vec![(0, Act::Rate(0.7 * 10.0 * scenario.capacity())), (10 * S, Act::Join)];
    rows("G12", seeds, |policy, seed| {
        let record = play(&scenario, policy, seed);
        let share = share(&record, 10, 10 * S, 11 * S);
        vec![("newcomer's share in its first second, × fair", Most(2.0), 11.0 * share)]
    })
}

fn g14(seeds: u64) -> Vec<Row> {
    let mut scenario = slow_nodes(1, 20.0);
    scenario.length = 30 * S;
    scenario.script.push((10 * S, Act::Mood(0, Mood::Serving(1.0))));
    rows("G14", seeds, |policy, seed| {
        let record = play(&scenario, policy, seed);
        let halves = (0..40).map(|half| (10 * S + half * S / 2, 10 * S + (half + 1) * S / 2));
        let healed = halves.map(|(from, to)| (to, share(&record, 0, from, to)));
        let at = healed.filter(|(_, share)| *share >= 0.05).map(|(at, _)| at).next();
        let seconds = at.map_or(f64::INFINITY, |at| (at - 10 * S) as f64 / S as f64);
        vec![("seconds to half of its fair share", Most(6.0), seconds)]
    })
}

/// Most calls take a millisecond, the others a hundred.
fn g15(seeds: u64) -> Vec<Row> {
    let scenario = |long: f64, times: f64| {
        let methods = vec![(1.0 - long, MS), (long, 100 * MS)];
        let mut scenario = Scenario { methods, ..Scenario::default() };
        let rate = 0.7 * scenario.capacity() * (9.0 + 1.0 / times);
        scenario.script = vec![(0, Act::Mood(0, Mood::Serving(times))), (0, Act::Rate(rate))];
        scenario
    };
    let policies = [Policy::Micro, Policy::Unaware, Policy::Fewest, Policy::RoundRobin];
    rows_of(&policies, "G15", seeds, |policy, seed| {
        let against_oracle = |long, times| {
            let scenario = scenario(long, times);
            let p99 = |policy| p99(&play(&scenario, policy, seed).of_method(0));
            p99(policy) / p99(Policy::Oracle)
        };
        vec![
            ("short calls' p99, a tenth are long, × oracle", Most(1.3), against_oracle(0.1, 1.0)),
            ("the same with a node 5 × slow", Most(1.5), against_oracle(0.1, 5.0)),
            ("that with a hundredth long", Most(1.15), against_oracle(0.01, 5.0)),
        ]
    })
}

/// The 99th percentile of the time calls take, after warming up; a call that fails takes for ever.
fn p99(record: &Record) -> f64 {
    let warm = record.calls.iter().filter(|call| call.at >= WARM);
    let mut took: Vec<_> = warm.map(|call| if call.is_ok { call.took } else { u64::MAX }).collect();
    let index = took.len() * 99 / 100;
    *took.select_nth_unstable(index).1 as f64
}

/// A node's share of the attempts sent in that time.
fn share(record: &Record, node: usize, from: Nanos, to: Nanos) -> f64 {
    let sent = || record.sent.iter().filter(|sent| (from..to).contains(&sent.at));
    sent().filter(|sent| sent.node == node).count() as f64 / sent().count() as f64
}

/// The share of calls made in that time that were answered.
fn success(record: &Record, from: Nanos, to: Nanos) -> f64 {
    let made = || record.calls.iter().filter(|call| (from..to).contains(&call.at));
    made().filter(|call| call.is_ok).count() as f64 / made().count() as f64
}
