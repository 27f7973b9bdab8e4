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
/// same for every backend; the numbers are those of its lines.
///
/// # Behaviour of every method
///
/// - Answers [`ErrorKind::Unavailable`](crate::ErrorKind::Unavailable) when the engine cannot be
///   reached; never `NotFound`, never an empty list (5).
/// - A name never matches a longer one: `hello` and `hello2` are strangers (11).
/// - Honours a deadline (5 s unless the backend is told otherwise) and is cancel-safe: a dropped
///   future leaves the registry as before or as after the call, never in between (12).
/// - Errors are typed: [`kind`](Error::kind), [`is_retryable`](Error::is_retryable), `source`.
///   Neither they nor `Debug` ever show a secret, also not that of a URL (13).
/// - Ten thousand nodes of one service work, in `get`, in a `Reset` and with a thousand changes a
///   second (14).
/// - Checks what it is handed with [`validate`](crate::validate) before any I/O.
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
    /// - No backend renews by itself, and one registration's lease is its own: a node that nobody
    ///   renews expires although its neighbours in the process live (1).
    /// - The same content again renews for another `ttl`, without a write where the engine allows,
    ///   and watchers hear nothing (1).
    /// - Changed content, in any field, endpoints and metadata included, reaches watchers as a
    ///   [`Put`](crate::Update::Put) (1).
    /// - A lost lease is made anew; the caller need not know (1).
    /// - After a crash a node leaves `get`, and watchers are told, at most `ttl + ttl/2 + 1 s` after
    ///   its last renewal (2).
    /// - A lower epoch than the stored one is refused as
    ///   [`Fenced`](crate::ErrorKind::Fenced) (4).
    ///
    /// # Errors
    ///
    /// `Invalid` for what breaks a rule of the model; `Fenced` when a higher epoch of this id is
    /// stored; `Denied` when the registry takes no such node; `Unavailable`.
    ///
    /// # Cancel safety
    ///
    /// A dropped future has registered the node or not; registering it again is right either way.
    async fn register(&self, registration: &Registration, ttl: Duration) -> Result<(), Error>;

    /// Removes exactly this node with this epoch.
    ///
    /// # Behaviour
    ///
    /// - A slow old process never removes its successor: another epoch under the id stays, and so
    ///   does another id at the same address (3).
    /// - Removing what is not there is `Ok` (3).
    /// - Watchers are told that it was [`Deregistered`](crate::RemoveReason::Deregistered) (8).
    ///
    /// # Errors
    ///
    /// `Invalid`, `Unavailable`.
    ///
    /// # Cancel safety
    ///
    /// A dropped future has removed the node or not; removing it again is right either way.
    async fn deregister(&self, registration: &Registration) -> Result<(), Error>;

    /// The nodes of a service, grouped by version.
    ///
    /// # Errors
    ///
    /// `NotFound` for an unknown name and for a service whose last node left (5); `Invalid` for
    /// what cannot be a name; `Unavailable`.
    ///
    /// # Cancel safety
    ///
    /// It changes nothing.
    async fn get(&self, service: &str) -> Result<Vec<Service>, Error>;

    /// The services there are, ordered by name.
    ///
    /// # Errors
    ///
    /// `Unavailable`.
    ///
    /// # Cancel safety
    ///
    /// It changes nothing.
    async fn list(&self) -> Result<Vec<ServiceSummary>, Error>;

    /// Follows a service, one node of it, or everything.
    ///
    /// # Behaviour
    ///
    /// - Does not fail because the engine cannot be reached; the watch starts with
    ///   [`Stale`](crate::Update::Stale) then (6).
    /// - Its first data is a [`Reset`](crate::Update::Reset) with everything now, nothing older than
    ///   what a call of this handle answered before; then deltas, none lost and none from before the
    ///   reset (6).
    /// - When the engine is lost it yields `Stale` once, comes back by itself however long it
    ///   takes, and yields a fresh `Reset`. It ends only when its registry handle is gone (7).
    /// - A [`Remove`](crate::Update::Remove) says why the node left, and an empty `Reset` why there
    ///   is none, as far as the backend can tell (8).
    /// - A slow consumer gets state, not history: at most one pending update per node, in bounded
    ///   memory (9).
    /// - Dropping it stops whatever feeds it, here and in the engine; a thousand names share one
    ///   connection and one watch of the engine where that can (10).
    ///
    /// # Errors
    ///
    /// `Invalid` for a scope whose names cannot be such.
    ///
    /// # Cancel safety
    ///
    /// A dropped future leaves no watch behind. Of the watch itself see [`Watch`].
    async fn watch(&self, scope: Scope) -> Result<Watch, Error>;
}
