//! The registry of a local network: its hosts find each other by multicast DNS, nothing to install.
//!
//! ```
//! use micro_registry::{Node, Registration, Registry};
//! use micro_registry_mdns::{MdnsConfig, MdnsRegistry};
//! use std::time::Duration;
//!
//! # async fn example(config: MdnsConfig) -> Result<(), micro_registry::Error> {
//! let registry = MdnsRegistry::new(config)?; // MdnsConfig::new() for all interfaces
//! let node = Node::new("greeter-1", "10.0.0.7:7000");
//! let registration = Registration::new("greeter", "1.0.0", node);
//!
//! registry.register(&registration, Duration::from_secs(30)).await?;
//! assert_eq!(registry.get("greeter").await?[0].nodes[0].id, "greeter-1");
//! # Ok(())
//! # }
//! # let mut config = MdnsConfig::new();
//! # config.interfaces = vec!["127.0.0.1".into()];
//! # config.port = std::net::UdpSocket::bind("0.0.0.0:0").unwrap().local_addr().unwrap().port();
//! # config.namespace = format!("t{:x}", fastrand::u64(..));
//! # let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
//! # runtime.block_on(example(config)).unwrap();
//! ```
//!
//! # What is announced
//!
//! Every registration is an instance of the type `_micro._tcp.local.`, with its service as subtype,
//! in which dots are `-`. The TXT record of the instance says all there is to know:
//!
//! | entry | what it says |
//! |---|---|
//! | `txtvers` | `1` |
//! | `ns` | the namespace; without it, `default` |
//! | `service` | the service |
//! | `stamp` | a number that grows with everything said about the node, renewals included |
//! | `ttl` | for how many milliseconds that counts |
//! | `parts`, `r0`, `r1`, … | the [stored form](micro_registry::encoding) of the registration, and of how many parts it is: without one of them it is incomplete, and ignored |
//! | `id`, `epoch`, `left` | of a node that left, instead of the two lines above; why: `deregistered` or `expired` |
//!
//! A record has at most 1 300 bytes, so that it travels in one frame. Endpoints that do not fit are
//! [omitted](micro_registry::Endpoints::Omitted), and a registration that does not fit without them
//! is refused.
//!
//! A program that knows only DNS-SD may announce an instance with `service`, and perhaps `id`,
//! `version`, `address` and `ns`. It is a node for as long as the record is there, by its instance's
//! name and its host's address where nothing else is said. A goodbye is told from a death only in
//! its first two minutes; later the reason is `Unknown`.
//!
//! # Leases
//!
//! The lifetimes of DNS records are too long to tell of a crash, so the leases are ours: `register`
//! announces a higher stamp, and who hears none for a TTL takes the node out. A process takes back
//! what nobody renewed in it.
//!
//! Of what is said about one epoch of a node the latest counts, whoever said it; of the epochs that
//! are there the highest does. So any process may say that a node left, and who announced it hears
//! that and stops. Whoever registers is told that it is fenced only when it heard of the newer node.
//!
//! Names of instances are new with each handle and unlike any other, so nothing is asked before one
//! is used. Should somebody else announce one all the same, as a machine does that was cloned while
//! it ran, it is given up for another, with a warning.
//!
//! # Tasks and threads
//!
//! The first call starts a task on its runtime, and a thread that speaks multicast DNS; both serve
//! all calls and watches of the handle and end with it. The first lookup waits 1.5 s, in which
//! everybody has time to answer; all that follow answer at once.
//!
//! # Outages
//!
//! Without an interface that is up, or when the port is taken by a program that does not share it,
//! calls are `Unavailable` and say so, and watches are stale; once it is over, everything is
//! announced and asked for again, and watches get a fresh `Reset`. The same happens when news came
//! faster than they could be read, or the process was stopped for a while. Of several interfaces one
//! may go away: who was reached over it stays until its TTL is over, or without one for two minutes.
//!
//! Nothing tells that a network drops multicast: it looks like one without others in it.

#![cfg_attr(docsrs, feature(doc_cfg))]

mod claim;
mod clock;
mod config;
mod error;
mod feeder;
mod link;
mod network;
mod outbox;
mod registry;
mod state;
mod text;
mod tracker;

pub use config::MdnsConfig;
pub use registry::MdnsRegistry;
