//! Measures registries in one process: from a change to who watches it, and the first sight of many
//! nodes.

use std::fs::File;
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use clap::{Parser, ValueEnum};
use futures::{StreamExt, TryStreamExt, stream};
use micro::registry::{MemoryRegistry, Node, Registration, Registry, Scope, Update, Watch};
use micro_registry_etcd::EtcdConfig;
use micro_registry_local::{LocalConfig, LocalRegistry};
use serde::Serialize;
use tempfile::TempDir;
use testbed::etcd;

/// Measure registries: how soon a change is known to who watches, and how long it takes to see many
/// nodes for the first time.
#[derive(Debug, Parser)]
struct Arguments {
    /// Registries to measure, separated by commas; all of them if absent.
    #[arg(long, value_delimiter = ',')]
    only: Vec<Kind>,
    /// Changes of one node that are timed, one after the other.
    #[arg(long, default_value = "1000")]
    changes: NonZeroUsize,
    /// Nodes of the service that is seen for the first time.
    #[arg(long, default_value = "10000")]
    nodes: NonZeroUsize,
    /// How often it is.
    #[arg(long, default_value = "5")]
    repetitions: NonZeroUsize,
    /// File to write the rows to, as a JSON array.
    #[arg(long)]
    json: Option<PathBuf>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ValueEnum)]
#[serde(rename_all = "lowercase")]
enum Kind {
    /// In this process.
    Memory,
    /// A directory.
    Local,
    /// One etcd server with its data in memory.
    Etcd,
}

/// A figure, and what it is to be.
#[derive(Debug, Serialize)]
struct Row {
    registry: Kind,
    figure: &'static str,
    milliseconds: f64,
    target_milliseconds: Option<f64>,
    met: Option<bool>,
}

#[tokio::main]
async fn main() -> Result<()> {
    let arguments = Arguments::parse();
    let create = |path: &PathBuf| File::create(path).with_context(|| format!("writing {path:?}"));
    let json = arguments.json.as_ref().map(create).transpose()?;
    let kinds = match &arguments.only[..] {
        [] => Kind::value_variants(),
        only => only,
    };
    let mut rows = vec![];
    for kind in kinds {
        eprintln!("{kind:?}: {} changes, then {} nodes", arguments.changes, arguments.nodes);
        rows.extend(measure(*kind, &arguments).await.with_context(|| format!("{kind:?}"))?);
    }
    println!("{:<9} {:<34} {:>10} {:>9}", "registry", "figure", "ms", "target");
    for Row { registry, figure, milliseconds, target_milliseconds, met } in &rows {
        let target = target_milliseconds.map(|target| target.to_string()).unwrap_or_default();
        let missed = if *met == Some(false) { "  missed" } else { "" };
        let registry = format!("{registry:?}").to_lowercase();
        println!("{registry:<9} {figure:<34} {milliseconds:>10.2} {target:>9}{missed}");
    }
    if let Some(file) = json {
        serde_json::to_writer_pretty(file, &rows)?;
    }
    Ok(())
}

async fn measure(kind: Kind, arguments: &Arguments) -> Result<Vec<Row>> {
    let store = Store::of(kind)?;
    let mut changes = changes(&store, arguments.changes.get()).await?;
    changes.sort();
    let at = |share: f64| changes[((changes.len() - 1) as f64 * share).round() as usize];
    let mut sights = first_sights(&store, arguments).await?;
    sights.sort();
    // The goals are for the registry that is furthest away.
    let goal = |milliseconds| (kind == Kind::Etcd).then_some(milliseconds);
    let row = |figure, took: Duration, target: Option<f64>| {
        let milliseconds = took.as_secs_f64() * 1e3;
        let met = target.map(|target| milliseconds <= target);
        Row { registry: kind, figure, milliseconds, target_milliseconds: target, met }
    };
    Ok(vec![
        row("change to watcher, p50", at(0.5), None),
        row("change to watcher, p99", at(0.99), goal(20.0)),
        row("first sight of all nodes, median", sights[sights.len() / 2], goal(1_000.0)),
    ])
}

/// A store that handles are opened on.
enum Store {
    Memory(MemoryRegistry),
    Local(TempDir),
    Etcd(etcd::Server),
}

impl Store {
    fn of(kind: Kind) -> Result<Self> {
        Ok(match kind {
            Kind::Memory => Self::Memory(MemoryRegistry::new()),
            Kind::Local => Self::Local(tempfile::tempdir()?),
            Kind::Etcd => Self::Etcd(etcd::Server::start()),
        })
    }

    fn open(&self) -> Result<Arc<dyn Registry>> {
        Ok(match self {
            Self::Memory(registry) => Arc::new(registry.clone()),
            Self::Local(directory) => {
                Arc::new(LocalRegistry::new(LocalConfig::new(directory.path().join("registry")))?)
            }
            Self::Etcd(server) => {
                let config = EtcdConfig::new([server.address()]);
                Arc::new(micro_registry_etcd::open(&config)?)
            }
        })
    }
}

/// How long each change of a node took from the call that makes it to another handle's watch.
async fn changes(store: &Store, count: usize) -> Result<Vec<Duration>> {
    let (owner, other) = (store.open()?, store.open()?);
    let mut watch = other.watch(Scope::Service("changes".into())).await?;
    let mut node = registration("changes", 0);
    owner.register(&node, TTL).await?;
    until(&mut watch, |update| matches!(update, Update::Put(_)) || is_reset_of(update, 1)).await?;
    let mut took = vec![];
    for change in 1..=count {
        node.metadata.insert("change".into(), change.to_string());
        let start = Instant::now();
        let seen = async {
            let is_it = |update: &Update| matches!(update, Update::Put(put) if **put == node);
            until(&mut watch, is_it).await.map(|()| start.elapsed())
        };
        let registered = async { Ok(owner.register(&node, TTL).await?) };
        took.push(futures::try_join!(registered, seen)?.1);
    }
    owner.deregister(&node).await?;
    Ok(took)
}

/// How long a handle that knows nothing took each time until it had seen all nodes of a service.
async fn first_sights(store: &Store, arguments: &Arguments) -> Result<Vec<Duration>> {
    let nodes = arguments.nodes.get();
    let owner = store.open()?;
    let register = |index| {
        let owner = owner.clone();
        async move { owner.register(&registration("many", index), TTL).await }
    };
    stream::iter(0..nodes).map(register).buffer_unordered(64).try_collect::<()>().await?;
    let mut took = vec![];
    for _ in 0..arguments.repetitions.get() {
        let other = store.open()?;
        let start = Instant::now();
        let mut watch = other.watch(Scope::Service("many".into())).await?;
        until(&mut watch, |update| is_reset_of(update, nodes)).await?;
        took.push(start.elapsed());
    }
    Ok(took)
}

async fn until(watch: &mut Watch, mut found: impl FnMut(&Update) -> bool) -> Result<()> {
    let wait = async {
        while let Some(update) = watch.next().await {
            if found(&update) {
                return Ok(());
            }
        }
        bail!("the watch ended")
    };
    tokio::time::timeout(PATIENCE, wait).await.context("nothing was told")?
}

fn is_reset_of(update: &Update, nodes: usize) -> bool {
    matches!(update, Update::Reset { registrations, .. } if registrations.len() == nodes)
}

fn registration(service: &str, index: usize) -> Registration {
    let address = format!("10.{}.{}.{}:7000", index >> 16, index >> 8 & 255, index & 255);
    Registration::new(service, "1.0.0", Node::new(format!("node-{index}"), address))
}

const TTL: Duration = Duration::from_secs(600);
const PATIENCE: Duration = Duration::from_secs(60);
