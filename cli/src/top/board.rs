//! What is known of all services: who is registered, and what each node said of itself.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use micro::registry::{NodeState, Registration, Update, View};
use serde::Serialize;
use tokio::time::Instant;

use super::figures::{Calls, Figures, Traffic};
use crate::print::rounded;

/// What is known of all services.
#[derive(Debug, Default)]
pub(super) struct Board {
    view: View,
    known: BTreeMap<Key, Known>,
    /// Why the registry cannot be reached, while it cannot.
    pub(super) stale: Option<String>,
}

/// A node: its service and its id.
pub(super) type Key = (String, String);

/// What a node said of itself.
#[derive(Debug, Default)]
struct Known {
    last: Option<(Instant, Figures)>,
    /// The time between the last two answers, and what happened in it.
    between: Option<Between>,
    problem: Option<Problem>,
}

#[derive(Debug)]
struct Between {
    time: Duration,
    calls: BTreeMap<String, Calls>,
    shed: u64,
}

/// Why a node said nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Problem {
    /// It lets itself be asked, and does not answer.
    Hung,
    /// Nobody is there.
    Unreachable,
    /// Another answers at its address.
    Stranger,
}

impl Board {
    pub(super) fn apply(&mut self, update: &Update) {
        match update {
            Update::Stale { cause, .. } => self.stale = Some(cause.clone()),
            _ => self.stale = None,
        }
        self.view.apply(update);
        let view = &self.view;
        self.known.retain(|(service, id), _| view.node(service, id).is_some());
    }

    /// The nodes there are, with their addresses.
    pub(super) fn nodes(&self) -> impl Iterator<Item = (Key, &str)> {
        self.view.iter().map(|registration| (key(registration), &*registration.node.address))
    }

    /// Takes in what a node answered, or why it did not.
    pub(super) fn hear(&mut self, key: Key, at: Instant, answer: Result<Figures, Problem>) {
        if self.view.node(&key.0, &key.1).is_none() {
            return;
        }
        let known = self.known.entry(key).or_default();
        match answer {
            Ok(figures) => {
                known.problem = None;
                known.between = known.last.as_ref().map(|(then, last)| Between {
                    time: at.saturating_duration_since(*then),
                    calls: figures.since(last),
                    shed: figures.shed.saturating_sub(last.shed),
                });
                known.last = Some((at, figures));
            }
            Err(problem) => (known.problem, known.between) = (Some(problem), None),
        }
    }

    /// All of it, in order of names.
    pub(super) fn report(&self) -> Vec<Service> {
        let each = self.view.list().into_iter().map(|summary| {
            let of_it = self.view.iter().filter(|one| one.service == summary.name);
            let (nodes, calls): (Vec<_>, Vec<_>) = of_it.map(|one| self.node(one)).unzip();
            let versions: BTreeSet<_> = nodes.iter().map(|node| node.version.clone()).collect();
            Service {
                name: summary.name,
                versions: versions.into_iter().collect(),
                traffic: together(&nodes, &Calls::sum(&calls)),
                nodes,
            }
        });
        each.collect()
    }

    fn node(&self, registration: &Registration) -> (Node, Calls) {
        let unknown = Known::default();
        let known = self.known.get(&key(registration)).unwrap_or(&unknown);
        let node = &registration.node;
        let last = known.last.as_ref().filter(|_| known.problem.is_none());
        let figures = last.map(|(_, figures)| figures);
        let all = known.between.as_ref().map(|between| Calls::sum(between.calls.values()));
        let node = Node {
            id: node.id.clone(),
            address: node.address.clone(),
            version: registration.version.clone(),
            health: known.health(node.state),
            traffic: match (&all, &known.between) {
                (Some(all), Some(between)) => all.within(between.time),
                _ => Traffic::default(),
            },
            load: Load {
                running: figures.map(|figures| figures.running),
                queued: figures.map(|figures| figures.queued),
                shed_per_second: known.between.as_ref().map(Between::shed_per_second),
            },
            methods: known.between.as_ref().map(Between::methods).unwrap_or_default(),
        };
        (node, all.unwrap_or_default())
    }
}

impl Known {
    fn health(&self, state: NodeState) -> Health {
        let is_healthy = self.last.as_ref().and_then(|(_, figures)| figures.is_healthy);
        match (self.problem, state) {
            (Some(Problem::Hung), _) => Health::Hung,
            (Some(Problem::Unreachable), _) => Health::Unreachable,
            (Some(Problem::Stranger), _) => Health::Stranger,
            (None, NodeState::Starting) => Health::Starting,
            (None, NodeState::Draining) => Health::Draining,
            // It knows before the registry does.
            (None, NodeState::Serving) if is_healthy != Some(false) => Health::Serving,
            (None, _) => Health::NotServing,
        }
    }
}

impl Between {
    fn methods(&self) -> Vec<Method> {
        let each = self
            .calls
            .iter()
            .map(|(name, calls)| Method { name: name.clone(), traffic: calls.within(self.time) });
        each.collect()
    }

    fn shed_per_second(&self) -> f64 {
        rounded(self.shed as f64 / self.time.as_secs_f64().max(0.001))
    }
}

/// What the nodes of a service do together; rates are added, since each is of its own time.
fn together(nodes: &[Node], calls: &Calls) -> Traffic {
    let sum = |of: fn(&Traffic) -> Option<f64>| {
        let known = nodes.iter().filter_map(|node| of(&node.traffic));
        known.reduce(|sum, one| sum + one).map(rounded)
    };
    Traffic {
        calls_per_second: sum(|traffic| traffic.calls_per_second),
        errors_per_second: sum(|traffic| traffic.errors_per_second),
        p50_ms: calls.quantile(0.5),
        p99_ms: calls.quantile(0.99),
    }
}

fn key(registration: &Registration) -> Key {
    (registration.service.clone(), registration.node.id.clone())
}

/// A service, in the shape that `-o json` promises.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Service {
    pub(super) name: String,
    pub(super) versions: Vec<String>,
    #[serde(flatten)]
    pub(super) traffic: Traffic,
    pub(super) nodes: Vec<Node>,
}

/// A node of it.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Node {
    pub(super) id: String,
    pub(super) address: String,
    pub(super) version: String,
    pub(super) health: Health,
    #[serde(flatten)]
    pub(super) traffic: Traffic,
    #[serde(flatten)]
    pub(super) load: Load,
    pub(super) methods: Vec<Method>,
}

/// What it does at this moment, and what it refuses; `None` while it does not say.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub(super) struct Load {
    pub(super) running: Option<u64>,
    pub(super) queued: Option<u64>,
    pub(super) shed_per_second: Option<f64>,
}

impl Load {
    /// Both together, of those that are known.
    pub(super) fn plus(self, other: Self) -> Self {
        fn sum<T: std::ops::Add<Output = T>>(a: Option<T>, b: Option<T>) -> Option<T> {
            match (a, b) {
                (Some(a), Some(b)) => Some(a + b),
                (a, b) => a.or(b),
            }
        }
        Self {
            running: sum(self.running, other.running),
            queued: sum(self.queued, other.queued),
            shed_per_second: sum(self.shed_per_second, other.shed_per_second),
        }
    }
}

/// A method that was called there.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Method {
    /// `contract/method`.
    pub(super) name: String,
    #[serde(flatten)]
    pub(super) traffic: Traffic,
}

/// How a node is: as the registry says, unless it is found to be otherwise.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Health {
    Serving,
    Starting,
    NotServing,
    Draining,
    Hung,
    Unreachable,
    Stranger,
}

impl Health {
    pub(super) fn text(self) -> &'static str {
        match self {
            Self::Serving => "serving",
            Self::Starting => "starting",
            Self::NotServing => "not_serving",
            Self::Draining => "draining",
            Self::Hung => "hung",
            Self::Unreachable => "unreachable",
            Self::Stranger => "stranger",
        }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use std::sync::Arc;

    use micro::registry::{EmptyReason, RemoveReason};

    use super::super::figures::tests::text;
    use super::*;

    fn registered(service: &str, version: &str, id: &str) -> Arc<Registration> {
        let node = micro::registry::Node::new(id, format!("10.0.0.1:{id}"));
        Arc::new(Registration::new(service, version, node))
    }

    /// A board on which `shop` has the nodes 1 of 1.0.0, and 2 and 3 of 1.1.0, of which 2 hangs, and
    /// `till` a node 4 that nobody asked yet. A second passed.
    pub(in crate::top) fn board() -> Board {
        let mut board = Board::default();
        let nodes = vec![
            registered("shop", "1.0.0", "1"),
            registered("shop", "1.1.0", "2"),
            registered("shop", "1.1.0", "3"),
            registered("till", "2.0.0", "4"),
        ];
        board.apply(&Update::reset(nodes, EmptyReason::Unknown));
        let begun = Instant::now();
        for (seconds, calls, failed) in [(0, 100, 0), (1, 200, 5)] {
            let at = begun + Duration::from_secs(seconds);
            for (id, factor) in [("1", 1), ("3", 3)] {
                let calls = [("shop/price", calls * factor, 0.005), ("stock/count", 9, 0.05)];
                let figures = Figures::read(&text(id, &calls, failed)).unwrap();
                board.hear(("shop".into(), id.into()), at, Ok(figures));
            }
        }
        board.hear(("shop".into(), "2".into()), begun, Err(Problem::Hung));
        board
    }

    /// Rates add up from methods to nodes to services; versions stand side by side; who hangs is
    /// said to, and who was not asked yet has no rates.
    #[test]
    fn what_is_known_is_reported() {
        let report = board().report();
        let [shop, till] = &report[..] else { panic!("{report:?}") };
        assert_eq!(
            (&*shop.name, &shop.versions[..]),
            ("shop", &["1.0.0", "1.1.0"].map(String::from)[..])
        );
        assert_eq!(shop.traffic.calls_per_second, Some(410.0));
        assert_eq!(shop.traffic.errors_per_second, Some(10.0));
        assert!(shop.traffic.p50_ms.is_some_and(|p50| p50 > 1.0 && p50 < 10.0), "{shop:?}");
        let [one, two, three] = &shop.nodes[..] else { panic!("{shop:?}") };
        assert_eq!((one.health, two.health), (Health::Serving, Health::Hung));
        assert_eq!(two.traffic, Traffic::default());
        assert_eq!(three.traffic.calls_per_second, Some(305.0));
        assert_eq!((three.load.running, three.load.queued), (Some(3), Some(2)));
        assert_eq!(two.load, Load::default());
        let methods: Vec<_> = three.methods.iter().map(|method| &*method.name).collect();
        assert_eq!(methods, ["shop/price", "stock/count"]);
        assert_eq!(three.methods[1].traffic.calls_per_second, Some(0.0));
        assert_eq!((till.nodes[0].health, till.traffic), (Health::Serving, Traffic::default()));
    }

    /// A node that says that it is not well is not serving, before the registry knows; one that
    /// answers again is as it was; one that left is forgotten, and an answer of it that comes late.
    #[test]
    fn health_follows_what_nodes_say() {
        let mut board = board();
        let key = |id: &str| ("shop".to_owned(), id.to_owned());
        let health = |board: &Board, index: usize| board.report()[0].nodes[index].health;
        let ill = text("1", &[], 0).replace("micro_healthy 1", "micro_healthy 0");
        board.hear(key("1"), Instant::now(), Ok(Figures::read(&ill).unwrap()));
        assert_eq!(health(&board, 0), Health::NotServing);
        let well = || Ok(Figures::read(&text("2", &[], 0)).unwrap());
        board.hear(key("2"), Instant::now(), well());
        assert_eq!(health(&board, 1), Health::Serving);
        board.apply(&Update::remove(&registered("shop", "1.1.0", "2"), RemoveReason::Expired));
        board.hear(key("2"), Instant::now(), well());
        assert_eq!(board.report()[0].nodes.len(), 2);
        assert!(!board.known.contains_key(&key("2")));
    }

    /// While the registry is out of reach nobody is forgotten.
    #[test]
    fn a_registry_out_of_reach() {
        let mut board = board();
        board.apply(&Update::stale(std::time::SystemTime::now(), "no route"));
        assert_eq!((board.stale.as_deref(), board.report().len()), (Some("no route"), 2));
        board.apply(&Update::Put(registered("till", "2.0.0", "5")));
        assert_eq!(board.stale, None);
    }
}
