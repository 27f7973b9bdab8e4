//! The trait every backend implements.

use std::fmt;
use std::time::Duration;

use async_trait::async_trait;

use crate::{Error, Registration, Scope, Service, ServiceSummary, Watch};

/// The namespace of a registry nobody gave another one.
pub const DEFAULT_NAMESPACE: &str = "default";

/// Knows which instances of which service exist right now.
///
/// It is the control plane: nothing on a call's path awaits it, hence boxed futures. A handle is
/// scoped to one namespace, fixed when it is made. The behaviour listed here is the contract, the
/// same for every backend.
///
/// # Behaviour of every method
///
/// - Honours a deadline (5 s unless the backend is told otherwise) and is cancel-safe: a dropped
///   future leaves the registry as before or as after the call, never in between.
/// - Checks what it is handed with [`validate`](crate::validate) before any I/O.
/// - Answers [`ErrorKind::Unavailable`](crate::ErrorKind::Unavailable) when the engine cannot be
///   reached; never `NotFound`, never an empty list.
/// - Errors and `Debug` never show a secret.
#[async_trait]
pub trait Registry: fmt::Debug + Send + Sync + 'static {
    /// The implementation's name, for logs: `memory`, `local`, `etcd`.
    fn name(&self) -> &str;

    /// Whether only processes of this host can find what is registered. A service then listens on
    /// the loopback unless it is told otherwise. A layer answers for the registry it is around.
    fn is_one_host(&self) -> bool {
        false
    }

    /// Announces a node, or renews it: an idempotent upsert, and the only heartbeat.
    ///
    /// # Behaviour
    ///
    /// - The same content again renews for another `ttl`, without a write where the engine allows.
    /// - Changed content, in any field, reaches watchers as a [`Put`](crate::Update::Put).
    /// - A lost lease is made anew; the caller need not know.
    /// - A node nobody renews leaves `get`, and watchers are told, at most `ttl + ttl/2 + 1 s`
    ///   after its last renewal, even when its neighbours in the same process live.
    ///
    /// # Errors
    ///
    /// `Invalid` for what breaks a rule of the model; `Fenced` when a higher epoch of this id is
    /// stored; `Unavailable`.
    async fn register(&self, registration: &Registration, ttl: Duration) -> Result<(), Error>;

    /// Removes exactly this node with this epoch.
    ///
    /// # Behaviour
    ///
    /// - Removing what is not there is `Ok`.
    /// - A slow old process never removes its successor: another epoch under the id stays.
    ///
    /// # Errors
    ///
    /// `Invalid`, `Unavailable`.
    async fn deregister(&self, registration: &Registration) -> Result<(), Error>;

    /// The nodes of a service, grouped by version.
    ///
    /// # Behaviour
    ///
    /// - A name never matches a longer one (`hello` and `hello2`).
    ///
    /// # Errors
    ///
    /// `NotFound` for an unknown name and for a service whose last node left; `Invalid` for what
    /// cannot be a name; `Unavailable`.
    async fn get(&self, service: &str) -> Result<Vec<Service>, Error>;

    /// The services there are, ordered by name.
    ///
    /// # Errors
    ///
    /// `Unavailable`.
    async fn list(&self) -> Result<Vec<ServiceSummary>, Error>;

    /// Follows a service, or all of them.
    ///
    /// # Behaviour
    ///
    /// - Does not fail because the engine cannot be reached; the watch starts with
    ///   [`Stale`](crate::Update::Stale) then.
    /// - Its first data is a [`Reset`](crate::Update::Reset) with everything now; then deltas, none
    ///   lost and none from before the reset.
    /// - When the engine is lost it yields `Stale` once, comes back by itself however long it
    ///   takes, and yields a fresh `Reset`. It ends only when its registry handle is gone.
    /// - A slow consumer gets state, not history: at most one pending update per node.
    /// - Dropping it stops whatever feeds it.
    ///
    /// # Errors
    ///
    /// `Invalid` for a scope whose name cannot be one.
    async fn watch(&self, scope: Scope) -> Result<Watch, Error>;
}
