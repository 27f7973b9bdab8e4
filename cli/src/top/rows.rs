//! The rows of the table: services, below them nodes, below them methods; sorted, filtered, folded.

use std::cmp::Ordering;

use super::board::{Health, Load, Method, Node, Service};
use super::figures::Traffic;
use super::state::{Sort, State};

/// A row of the table.
#[derive(Clone, Debug)]
pub(super) struct Row {
    /// The names from its service down to it, by which it is known however rows move.
    pub(super) path: Vec<String>,
    pub(super) name: String,
    /// Empty for methods.
    pub(super) version: String,
    /// Whether the nodes of a service are of several versions.
    pub(super) is_skewed: bool,
    pub(super) health: String,
    pub(super) grade: Grade,
    pub(super) traffic: Traffic,
    pub(super) load: Option<Load>,
    pub(super) fold: Fold,
}

/// How good what a row says of health is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Grade {
    Good,
    /// Some nodes serve, or soon will.
    Doubtful,
    Bad,
}

/// Whether there is something below a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fold {
    Leaf,
    Folded,
    Unfolded,
}

/// The rows to show, from the top.
pub(super) fn rows(report: &[Service], state: &State) -> Vec<Row> {
    let needle = state.filter.to_lowercase();
    let branches = report.iter().map(of_service).filter_map(|branch| branch.filtered(&needle));
    let mut branches: Vec<_> = branches.collect();
    sort(&mut branches, state.sort);
    let mut rows = Vec::new();
    for branch in branches {
        branch.flatten(state, &mut rows);
    }
    rows
}

/// A row with what is below it.
struct Branch {
    row: Row,
    children: Vec<Branch>,
    /// Whether it is there for what is below it.
    is_open: bool,
}

impl Branch {
    fn new(row: Row, children: Vec<Self>) -> Self {
        Self { row, children, is_open: false }
    }

    /// All of it if its own text has what is looked for, else that part of it which has.
    fn filtered(self, needle: &str) -> Option<Self> {
        let Row { name, version, health, .. } = &self.row;
        if [name, version, health].iter().any(|text| text.to_lowercase().contains(needle)) {
            return Some(self);
        }
        let children = self.children.into_iter().filter_map(|child| child.filtered(needle));
        let children: Vec<_> = children.collect();
        (!children.is_empty()).then_some(Self { row: self.row, children, is_open: true })
    }

    fn flatten(self, state: &State, rows: &mut Vec<Row>) {
        let Self { mut row, children, is_open } = self;
        let is_open = is_open || state.is_unfolded(&row.path);
        row.fold = match is_open {
            _ if children.is_empty() => Fold::Leaf,
            true => Fold::Unfolded,
            false => Fold::Folded,
        };
        rows.push(row);
        if is_open {
            children.into_iter().for_each(|child| child.flatten(state, rows));
        }
    }
}

/// By name, or the busiest, the worst, the slowest first.
fn sort(branches: &mut [Branch], by: Sort) {
    let figure = |row: &Row| match by {
        Sort::Name => None,
        Sort::Calls => row.traffic.calls_per_second,
        Sort::Errors => row.traffic.errors_per_second,
        Sort::P99 => row.traffic.p99_ms,
    };
    branches.sort_by(|a, b| {
        let (a, b) = (&a.row, &b.row);
        let by_figure = figure(b).partial_cmp(&figure(a)).unwrap_or(Ordering::Equal);
        by_figure.then_with(|| a.name.cmp(&b.name))
    });
    branches.iter_mut().for_each(|branch| sort(&mut branch.children, by));
}

fn of_service(service: &Service) -> Branch {
    let serving = service.nodes.iter().filter(|node| node.health == Health::Serving).count();
    let all = service.nodes.len();
    let path = vec![service.name.clone()];
    let load = service.nodes.iter().map(|node| node.load).fold(Load::default(), Load::plus);
    let row = Row {
        name: service.name.clone(),
        version: service.versions.join(" "),
        is_skewed: service.versions.len() > 1,
        health: format!("{serving}/{all} serving"),
        grade: match serving {
            0 => Grade::Bad,
            serving if serving < all => Grade::Doubtful,
            _ => Grade::Good,
        },
        traffic: service.traffic,
        load: Some(load),
        fold: Fold::Leaf,
        path,
    };
    let nodes = service.nodes.iter().map(|node| of_node(node, &service.name));
    Branch::new(row, nodes.collect())
}

fn of_node(node: &Node, service: &str) -> Branch {
    let path = vec![service.to_owned(), node.id.clone()];
    let methods = node.methods.iter().map(|method| of_method(method, &path)).collect();
    let row = Row {
        name: format!("{} {}", node.address, node.id),
        version: node.version.clone(),
        is_skewed: false,
        health: node.health.text().to_owned(),
        grade: match node.health {
            Health::Serving => Grade::Good,
            Health::Starting | Health::Draining => Grade::Doubtful,
            _ => Grade::Bad,
        },
        traffic: node.traffic,
        load: Some(node.load),
        fold: Fold::Leaf,
        path,
    };
    Branch::new(row, methods)
}

fn of_method(method: &Method, node: &[String]) -> Branch {
    // Most contracts are called as their service is, which stands above.
    let own = method.name.strip_prefix(&node[0]).and_then(|rest| rest.strip_prefix('/'));
    let name = match &*method.name {
        "_OTHER" => "(no method)",
        whole => own.unwrap_or(whole),
    };
    let row = Row {
        path: [node, std::slice::from_ref(&method.name)].concat(),
        name: name.to_owned(),
        version: String::new(),
        is_skewed: false,
        health: String::new(),
        grade: Grade::Good,
        traffic: method.traffic,
        load: None,
        fold: Fold::Leaf,
    };
    Branch::new(row, Vec::new())
}

#[cfg(test)]
mod tests {
    use super::super::board::tests::board;
    use super::*;

    fn names(state: &State) -> Vec<String> {
        rows(&board().report(), state).into_iter().map(|row| row.name).collect()
    }

    /// Folded there are services; unfolded, nodes and methods below them, each known by its path.
    #[test]
    fn what_is_unfolded_is_shown() {
        let mut state = State::default();
        assert_eq!(names(&state), ["shop", "till"]);
        state.unfolded = [vec!["shop".to_owned()], vec!["shop".to_owned(), "3".to_owned()]].into();
        let shown = rows(&board().report(), &state);
        let (names, folds): (Vec<_>, Vec<_>) =
            shown.iter().map(|row| (&*row.name, row.fold)).unzip();
        let nodes = ["10.0.0.1:1 1", "10.0.0.1:2 2", "10.0.0.1:3 3"];
        assert_eq!(names, ["shop", nodes[0], nodes[1], nodes[2], "price", "stock/count", "till"]);
        use Fold::{Folded, Leaf, Unfolded};
        assert_eq!(folds, [Unfolded, Folded, Leaf, Unfolded, Leaf, Leaf, Folded]);
        assert_eq!(shown[4].path, ["shop", "3", "shop/price"]);
        assert_eq!((shown[0].is_skewed, &*shown[0].version), (true, "1.0.0 1.1.0"));
        assert_eq!((&*shown[0].health, shown[0].grade), ("2/3 serving", Grade::Doubtful));
    }

    /// What is sorted by a figure has the greatest first, at every depth, and what is unknown last.
    #[test]
    fn the_greatest_first() {
        let mut state = State::everything();
        state.sort = Sort::Calls;
        let by_calls = names(&state);
        let busiest = ["shop", "10.0.0.1:3 3", "price", "stock/count", "10.0.0.1:1 1"];
        assert_eq!(by_calls[..5], busiest);
        assert_eq!(by_calls[7..], ["10.0.0.1:2 2", "till", "10.0.0.1:4 4"]);
    }

    /// A filter keeps what has its text, with what is above and below that, whatever is folded.
    #[test]
    fn a_filter_keeps_what_matches() {
        let filtered = |text: &str| {
            let mut state = State::default();
            state.filter = text.to_owned();
            names(&state)
        };
        assert_eq!(filtered("SHOP"), ["shop"]);
        assert_eq!(filtered("hung"), ["shop", "10.0.0.1:2 2"]);
        let counts = ["shop", "10.0.0.1:1 1", "stock/count", "10.0.0.1:3 3", "stock/count"];
        assert_eq!(filtered("count"), counts);
        assert_eq!(filtered("nothing"), [""; 0]);
    }
}
