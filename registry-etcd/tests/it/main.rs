//! The etcd registry against real etcd servers, whole and hurt.

#![allow(clippy::unwrap_used, reason = "helpers of tests are tests")]

mod access;
mod cluster;
mod conformance;
mod engine;
mod faults;
mod foreign;
mod leaks;
mod proxy;

use std::time::Duration;

use futures::StreamExt;
use micro_registry::{Node, Registration, Scope, Update, View, Watch};
use micro_registry_etcd::{Etcd, EtcdConfig, EtcdRegistry};
use testbed::etcd::Server;

/// Generous: nothing here measures time.
const PATIENCE: Duration = Duration::from_secs(30);

fn etcd(server: &Server) -> Etcd {
    Etcd::new(&EtcdConfig::new([server.address()])).unwrap()
}

fn open(endpoints: &[String]) -> EtcdRegistry {
    micro_registry_etcd::open(&EtcdConfig::new(endpoints)).unwrap()
}

/// A node of `shop`.
fn node(id: &str, weight: u16) -> Registration {
    let mut node = Node::new(id, "127.0.0.1:7000");
    node.weight = weight;
    Registration::new("shop", "1.0.0", node)
}

fn service() -> Scope {
    Scope::Service("shop".into())
}

/// Waits, and not for ever.
async fn soon<T>(what: &str, future: impl Future<Output = T>) -> T {
    let done = tokio::time::timeout(PATIENCE, future).await;
    done.unwrap_or_else(|_| panic!("not within {PATIENCE:?}: {what}"))
}

/// Looks until it is so.
async fn eventually(what: &str, mut is_so: impl AsyncFnMut() -> bool) {
    let looking = async {
        while !is_so().await {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    soon(what, looking).await;
}

async fn next(watch: &mut Watch) -> Update {
    soon("an update", watch.next()).await.expect("the watch goes on")
}

/// Applies updates until the view is so; gives all of them.
async fn until(watch: &mut Watch, view: &mut View, is_so: impl Fn(&View) -> bool) -> Vec<Update> {
    let mut updates = vec![];
    while !is_so(view) {
        let update = next(watch).await;
        view.apply(&update);
        updates.push(update);
    }
    updates
}
