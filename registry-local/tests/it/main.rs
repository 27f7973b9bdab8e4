//! The local registry within a process, between processes, and when its directory suffers.

#![allow(clippy::unwrap_used, reason = "helpers of tests are tests")]

mod basics;
mod child;
mod conformance;
mod log;
mod processes;
mod suffering;
mod watching;

use std::path::Path;
use std::time::Duration;

use micro_registry::{Error, ErrorKind, Node, Registration, Registry, Scope};
use micro_registry_local::{LocalConfig, LocalRegistry};
use micro_registry_testkit::wait::{PATIENCE, eventually, next, until};

const HOUR: Duration = Duration::from_secs(3_600);

fn directory() -> tempfile::TempDir {
    tempfile::tempdir().unwrap()
}

fn config(directory: &Path) -> LocalConfig {
    LocalConfig::new(directory.join("micro"))
}

fn registry(directory: &Path) -> LocalRegistry {
    LocalRegistry::new(config(directory)).unwrap()
}

fn registration(service: &str, id: &str, epoch: u64) -> Registration {
    let mut node = Node::new(id, "127.0.0.1:7000");
    node.epoch = epoch;
    Registration::new(service, "1.0.0", node)
}

fn greeter() -> Scope {
    Scope::Service("greeter".into())
}

/// The ids of a service's nodes; none when there is no such service.
async fn ids(registry: &LocalRegistry, service: &str) -> Vec<String> {
    match registry.get(service).await {
        Ok(services) => services.into_iter().flat_map(|s| s.nodes).map(|n| n.id).collect(),
        Err(error) if error.kind() == ErrorKind::NotFound => vec![],
        Err(error) => panic!("{error:?}"),
    }
}

fn kind<T: std::fmt::Debug>(result: Result<T, Error>) -> ErrorKind {
    result.unwrap_err().kind()
}
