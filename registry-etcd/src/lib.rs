//! The registry of a cluster: processes on many hosts find each other by etcd, from 3.4 on.
//!
//! ```no_run
//! use micro_registry::{Node, Registration, Registry};
//! use micro_registry_etcd::EtcdConfig;
//! use std::time::Duration;
//!
//! # async fn example() -> Result<(), micro_registry::Error> {
//! let config = EtcdConfig::new(["10.0.0.1:2379", "10.0.0.2:2379", "10.0.0.3:2379"]);
//! let registry = micro_registry_etcd::open(&config)?;
//! let node = Node::new("greeter-1", "10.0.1.7:7000");
//! let registration = Registration::new("greeter", "1.0.0", node);
//!
//! registry.register(&registration, Duration::from_secs(30)).await?;
//! assert_eq!(registry.get("greeter").await?[0].nodes[0].id, "greeter-1");
//! # Ok(())
//! # }
//! ```
//!
//! By URL it is `etcd://user:password@10.0.0.1:2379,10.0.0.2:2379/micro?namespace=shop`; see
//! [`EtcdConfig::from_url`].
//!
//! # Layout
//!
//! A node is the key `/<prefix>/<namespace>/<service>/<node id>`, with its
//! [stored form](micro_registry::encoding), under a lease of its own. It is where go-micro keeps its
//! nodes, and as it writes them: with the default prefix, `micro`, the namespace `registry` is
//! go-micro's.
//!
//! # Leases
//!
//! A lease lives as long as its TTL in whole seconds, rounded up, and not less than 2 s, which is the
//! least that etcd grants. After etcd was restarted or has a new leader each lease has its whole TTL
//! again.
//!
//! # When servers fail
//!
//! A request that has no answer after [`request_timeout`](EtcdConfig::request_timeout), or whose
//! connection breaks, goes to the next endpoint, until
//! [`deadline`](EtcdConfig::deadline) has passed; when no endpoint can be connected to, the call fails
//! at once. A server that lost its leader is taken for one that failed.
//!
//! All watches of a handle share one stream to one server, which is asked once a second, if it has
//! nothing to say, whether it lives. When the stream ends, its server is silent, etcd has forgotten
//! the revision asked for, or has lost its data, watches are told that they are stale, and begin
//! again at the next server.
//!
//! # Permissions
//!
//! Where etcd asks for a user, that user has to have read and write permission for the keys that begin
//! with `/<prefix>/`; for reading, those of `/<prefix>/<namespace>/` will do.

#![cfg_attr(docsrs, feature(doc_cfg))]

mod client;
mod config;
mod etcd;
mod failure;
mod keys;
mod login;
mod proto;
mod server;
mod watch;
mod watchers;

use micro_registry::Error;
use micro_registry::directory::DirectoryRegistry;

pub use config::{EtcdConfig, EtcdIdentity, EtcdTls, EtcdUser};
pub use etcd::{Etcd, Lease};

/// The registry of an etcd cluster.
pub type EtcdRegistry = DirectoryRegistry<Etcd>;

/// A handle on the registry that the configuration names. Does no I/O and starts no task.
///
/// # Errors
///
/// `Invalid`, saying what would be right, for a namespace that cannot be one, and what
/// [`Etcd::new`] refuses.
pub fn open(config: &EtcdConfig) -> Result<EtcdRegistry, Error> {
    let registry = DirectoryRegistry::new(Etcd::new(config)?, &config.namespace)?;
    Ok(registry.with_deadline(config.deadline))
}
