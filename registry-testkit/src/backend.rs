//! What a backend brings to be judged.

use std::error::Error as StdError;
use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use micro_registry::Registry;

/// One fresh, empty store, and how to get at it.
///
/// Each case makes its own, on a tokio runtime of its own, and drops it at its end: that is where
/// what was started for it is stopped and what was written is deleted.
#[async_trait]
pub trait Backend: Send + Sync {
    /// A new handle on the store, as another process would have; handles of one namespace see the
    /// same. A panic here fails the case.
    async fn open(&self, namespace: &str) -> Arc<dyn Registry>;

    /// How to hurt the store. Default: it cannot be hurt, and the cases on that are skipped.
    fn faults(&self) -> Option<&dyn Faults> {
        None
    }

    /// How many watches the store serves at this moment. Default: it cannot tell.
    async fn watches(&self) -> Option<usize> {
        None
    }

    /// A password the handles were opened with, which must never be shown. Default: none.
    fn secret(&self) -> Option<&str> {
        None
    }
}

/// What can go wrong with a store, on purpose.
///
/// Whatever a backend cannot do stays [`Unsupported`], the default, and the case that needs it is
/// skipped, which the report says. A fault has happened when its method returns; whether the
/// handles notice is what the cases are about.
#[async_trait]
pub trait Faults: Send + Sync {
    /// The store cannot be reached: its server is killed, the connection is cut.
    async fn interrupt(&self) -> Result<(), Unsupported> {
        Err(Unsupported)
    }

    /// The store hangs: it can be reached and does not answer, as after SIGSTOP.
    async fn hang(&self) -> Result<(), Unsupported> {
        Err(Unsupported)
    }

    /// Ends [`interrupt`](Self::interrupt) and [`hang`](Self::hang); what was stored and did not
    /// expire meanwhile is there.
    async fn restore(&self) -> Result<(), Unsupported> {
        Err(Unsupported)
    }

    /// All leases are lost at once, as when somebody revokes them by hand; the store goes on.
    async fn lose_leases(&self) -> Result<(), Unsupported> {
        Err(Unsupported)
    }

    /// The stored record of a node of the namespace `default` becomes unreadable.
    async fn corrupt(&self, service: &str, id: &str) -> Result<(), Unsupported> {
        let _ = (service, id);
        Err(Unsupported)
    }
}

/// The fault cannot be made to happen to this backend.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unsupported;

impl fmt::Display for Unsupported {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the backend has no such fault")
    }
}

impl StdError for Unsupported {}
