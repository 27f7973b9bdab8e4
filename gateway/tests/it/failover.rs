//! Services that die and are replaced behind a gateway that is in use.

use super::*;
use crate::http::Kept;
use std::ffi::OsStr;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};
use testbed::{Process, Scene, Signal, eventually};
use tokio::task::JoinSet;

/// What the processes of these tests run: a shop, where the environment says so.
#[tokio::test]
#[ignore = "a process of the other tests"]
async fn node() {
    if std::env::var_os("MICRO_REGISTRY").is_none() {
        return;
    }
    let shop = ShopServer::new(Corner("process".into()));
    Service::new().name("shop").serve(shop).run().await.unwrap();
}

fn start(scene: &Scene, name: &str) -> Process {
    let program = std::env::current_exe().unwrap();
    let arguments = ["--ignored", "--exact", "failover::node", "--nocapture"];
    let environment = [("MICRO_REGISTRY", scene.url()), ("MICRO_DRAIN_DELAY", "300ms")];
    let environment = environment.map(|(variable, value)| (variable, OsStr::new(value)));
    scene.run_with(program.to_str().unwrap(), name, &arguments, &environment)
}

/// The nodes that the gateway lists.
async fn nodes(gateway: &Gateway) -> usize {
    let listed = get(gateway, "/services").await.json();
    let versions = listed[0]["versions"].as_array().cloned().unwrap_or_default();
    versions.iter().filter_map(|version| Some(version["nodes"].as_array()?.len())).sum()
}

async fn has_nodes(gateway: &Gateway, count: usize) {
    eventually("the nodes are known", async || (nodes(gateway).await == count).then_some(())).await;
}

/// Many who get a price over and over.
struct Load {
    tasks: JoinSet<Vec<String>>,
    stop: Arc<AtomicBool>,
    answered: Arc<AtomicUsize>,
}

impl Load {
    fn on(address: SocketAddr) -> Self {
        let (stop, answered) = (Arc::<AtomicBool>::default(), Arc::<AtomicUsize>::default());
        let mut tasks = JoinSet::new();
        for _ in 0..8 {
            tasks.spawn(get_prices(address, stop.clone(), answered.clone()));
        }
        Self { tasks, stop, answered }
    }

    /// Waits for so many more answers, so that the load is seen to go on.
    async fn more(&self, count: usize) {
        let end = self.answered.load(Relaxed) + count;
        let enough = async || (self.answered.load(Relaxed) >= end).then_some(());
        eventually("the load goes on", enough).await;
    }

    /// What failed.
    async fn end(self) -> Vec<String> {
        self.stop.store(true, Relaxed);
        self.tasks.join_all().await.concat()
    }
}

async fn get_prices(
    address: SocketAddr,
    stop: Arc<AtomicBool>,
    answered: Arc<AtomicUsize>,
) -> Vec<String> {
    let (mut kept, mut failed) = (Kept::to(address).await, Vec::new());
    while !stop.load(Relaxed) {
        match kept.get("/shop/price?thing=tea").await {
            (200, _) => drop(answered.fetch_add(1, Relaxed)),
            (status, body) => failed.push(format!("{status} {body}")),
        }
    }
    failed
}

/// Nodes that are killed, and nodes that are replaced one after the other, fail no idempotent
/// request, however many there are.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_idempotent_request_fails() {
    let scene = Scene::new();
    let mut processes: Vec<_> =
        (0..3).map(|number| start(&scene, &format!("node-{number}"))).collect();
    let settings = Settings::none().flag("registry", scene.url().to_owned()).unwrap();
    let client = Client::connect().settings(settings).await.unwrap();
    let gateway = serve(config(|_| ()), client).await.unwrap();
    has_nodes(&gateway, 3).await;
    let load = Load::on(gateway.address());
    load.more(500).await;
    for (number, signal) in [Signal::KILL, Signal::KILL, Signal::TERM, Signal::TERM, Signal::TERM]
        .into_iter()
        .enumerate()
    {
        let mut oldest = processes.remove(0);
        oldest.signal(signal);
        oldest.ended().await;
        has_nodes(&gateway, 2).await;
        load.more(100).await;
        processes.push(start(&scene, &format!("later-{number}")));
        has_nodes(&gateway, 3).await;
        load.more(100).await;
    }
    let failed = load.end().await;
    assert!(failed.is_empty(), "{} failed, such as {:?}", failed.len(), failed.first());
}
