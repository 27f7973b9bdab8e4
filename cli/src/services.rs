//! `micro services`: who is registered.

use std::collections::BTreeMap;

use clap::{Args, ValueEnum};
use clap_complete::engine::ArgValueCompleter;
use micro::registry::{Node, NodeState, Service};
use serde::Serialize;

use crate::completions;
use crate::failure::Failure;
use crate::print;
use crate::world::{self, World};

/// Lists the services that are registered.
#[derive(Args, Debug)]
pub(crate) struct Services {
    /// Service to list alone, with its nodes
    #[arg(value_name = "SERVICE", add = ArgValueCompleter::new(completions::services))]
    service: Option<String>,
    /// How to print them
    #[arg(short, long, value_enum, default_value_t)]
    output: Format,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
enum Format {
    /// Columns, for people
    #[default]
    Table,
    /// The same with more of them
    Wide,
    /// JSON, whose shape stays as the guide says
    Json,
    /// The same as YAML
    Yaml,
}

impl Services {
    pub(crate) async fn run(self, world: &World) -> Result<(), Failure> {
        let client = world.client().await?;
        let registry = client.registry();
        let versions = match &self.service {
            Some(service) => world::versions(registry, service).await?,
            None => world::all(registry).await?,
        };
        if versions.is_empty() && matches!(self.output, Format::Table | Format::Wide) {
            world::tell_of_nobody(registry);
            return Ok(());
        }
        let listed: Vec<_> = versions.iter().map(Version::from).collect();
        match self.output {
            Format::Table => table(&listed),
            Format::Wide => wide(&listed),
            Format::Json => print::json(&listed),
            Format::Yaml => print::yaml(&listed),
        }
    }
}

/// One version of a service, in the shape that `-o json` promises.
#[derive(Serialize)]
struct Version<'a> {
    name: &'a str,
    version: &'a str,
    metadata: &'a BTreeMap<String, String>,
    nodes: Vec<Instance<'a>>,
}

/// A node of it.
#[derive(Serialize)]
pub(crate) struct Instance<'a> {
    id: &'a str,
    address: &'a str,
    state: NodeState,
    weight: u16,
    zone: Option<&'a str>,
    /// Unix milliseconds at its start.
    epoch: u64,
    metadata: &'a BTreeMap<String, String>,
}

impl<'a> From<&'a Service> for Version<'a> {
    fn from(service: &'a Service) -> Self {
        Self {
            name: &service.name,
            version: &service.version,
            metadata: &service.metadata,
            nodes: service.nodes.iter().map(Instance::from).collect(),
        }
    }
}

impl<'a> From<&'a Node> for Instance<'a> {
    fn from(node: &'a Node) -> Self {
        Self {
            id: &node.id,
            address: &node.address,
            state: node.state,
            weight: node.weight,
            zone: node.zone.as_deref(),
            epoch: node.epoch,
            metadata: &node.metadata,
        }
    }
}

fn table(versions: &[Version<'_>]) -> Result<(), Failure> {
    let row = |version: &Version<'_>| {
        let nodes = version.nodes.len().to_string();
        [version.name.to_owned(), version.version.to_owned(), nodes, health(&version.nodes)]
    };
    let rows: Vec<_> = versions.iter().map(row).collect();
    print::table(["SERVICE", "VERSION", "NODES", "HEALTH"], &rows)
}

fn wide(versions: &[Version<'_>]) -> Result<(), Failure> {
    let row = |version: &Version<'_>, node: &Instance<'_>| {
        [
            version.name.to_owned(),
            version.version.to_owned(),
            node.id.to_owned(),
            node.address.to_owned(),
            node.state.to_string(),
            node.weight.to_string(),
            node.zone.unwrap_or("-").to_owned(),
        ]
    };
    let rows: Vec<_> = versions
        .iter()
        .flat_map(|version| version.nodes.iter().map(move |node| row(version, node)))
        .collect();
    print::table(["SERVICE", "VERSION", "NODE", "ADDRESS", "STATE", "WEIGHT", "ZONE"], &rows)
}

/// How many nodes are in which state: the state alone when it is that of all.
fn health(nodes: &[Instance<'_>]) -> String {
    let mut states = BTreeMap::<String, usize>::new();
    for node in nodes {
        *states.entry(node.state.to_string()).or_default() += 1;
    }
    match states.len() {
        1 => states.into_keys().collect(),
        _ => {
            let counted = states.iter().map(|(state, nodes)| format!("{nodes} {state}"));
            counted.collect::<Vec<_>>().join(", ")
        }
    }
}
