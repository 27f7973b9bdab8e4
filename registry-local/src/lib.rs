//! The default registry: the processes of one user on one host find each other by a directory.
//!
//! Nothing to install, nothing to configure: each process leaves files, the kernel says who died.
//!
//! ```
//! use micro_registry::{Node, Registration, Registry};
//! use micro_registry_local::{LocalConfig, LocalRegistry};
//! use std::time::Duration;
//!
//! # async fn example(directory: &std::path::Path) -> Result<(), micro_registry::Error> {
//! let registry = LocalRegistry::new(LocalConfig::new(directory.join("micro")))?;
//! let node = Node::new("greeter-1", "127.0.0.1:7000");
//! let registration = Registration::new("greeter", "1.0.0", node);
//!
//! registry.register(&registration, Duration::from_secs(30)).await?;
//! assert_eq!(registry.get("greeter").await?[0].nodes[0].id, "greeter-1");
//! # Ok(())
//! # }
//! # let directory = tempfile::tempdir().unwrap();
//! # let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
//! # runtime.block_on(example(directory.path())).unwrap();
//! ```
//!
//! # Layout
//!
//! `<directory>/<namespace>/`, both of mode 0700 and made on demand. A directory that is a symlink,
//! belongs to somebody else or is open to group or others is refused: two users neither see nor
//! harm each other. In it:
//!
//! | file | what it is |
//! |---|---|
//! | `<owner>.lock` | one per [`LocalRegistry`], locked exclusively, through a writable descriptor, for as long as it lives. When the process dies the kernel closes it, which every watcher is told |
//! | `<service>@<node id>.json` | a node: `{"owner", "ttl_ms", "record"}`, the record in the [stored form](micro_registry::encoding). Its modification time is its last renewal |
//! | `<service>@<node id>.left` | a tombstone: `{"epoch", "reason"}`, why the node left; kept for a minute |
//! | `.guard` | locked for the moment of a read-check-write, so that it is atomic between processes |
//! | `.tmp-*` | a file being written; it gets its name by rename, so nobody reads half a file |
//!
//! # Leases
//!
//! A node is alive while its owner's lock is held **and** its last renewal is younger than its TTL.
//! A renewal of unchanged content writes no data, only the modification time. That time is
//! *not* the wall clock's: it is the time since boot, counted from 1970, so that setting the clock
//! neither expires nor keeps anybody.
//!
//! Whoever registers or rescans collects what the dead left behind. The files of a process that is
//! stopped rather than dead stay for ten times their TTL, and its next renewal brings it back.
//!
//! A child made by `fork` without `exec` inherits the lock and keeps its parent's nodes alive until
//! their TTL.
//!
//! # Watching
//!
//! All watches of a handle share one task, started by the first of them on its runtime, and
//! stopped by the end of the last, of the handle, or of that runtime. On Linux it is woken by
//! inotify; where that is exhausted or absent it looks every
//! [`rescan_interval`](LocalConfig::rescan_interval). Only those of a single node have another task,
//! which looks at its file that often: a process that calls nobody is not woken by the renewals of
//! all others, and takes none of the few inotify instances a user has.
//!
//! # When the file system hangs
//!
//! Work on files is done by threads that may block: one for each of lookups, renewals, other writes
//! and all watches of a handle. A call that has no answer after 5 s is `Unavailable`; its thread
//! stays until the system answers, and the next call waits for it, within its own 5 s. Watches are
//! told that they are stale.

#![cfg_attr(docsrs, feature(doc_cfg))]

mod changes;
mod clock;
mod collect;
mod config;
mod directory;
mod error;
mod guard;
mod lane;
mod name;
mod owner;
mod reader;
mod record;
mod registry;
mod session;
mod tracker;
mod watching;
mod writer;

pub use config::{LocalConfig, default_directory};
pub use registry::LocalRegistry;
