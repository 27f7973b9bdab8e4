//! When a request was handed to a connection, for callers that measure.

use std::sync::{Arc, Mutex};

use tokio::time::Instant;

use crate::outbox::lock;

/// When a request was put on a connection: among the
/// [extensions](crate::Request::extensions) of a request, it learns that of the last attempt.
///
/// What came before was connecting, or waiting for a place on the connection. Clones share it.
#[derive(Clone, Debug, Default)]
pub struct QueuedAt(Arc<Mutex<Option<Instant>>>);

impl QueuedAt {
    /// Returns when that was, `None` while it has not been.
    #[must_use]
    pub fn get(&self) -> Option<Instant> {
        *lock(&self.0)
    }

    /// Forgets it, before another attempt is made.
    pub fn clear(&self) {
        *lock(&self.0) = None;
    }

    pub(crate) fn set(&self, at: Instant) {
        *lock(&self.0) = Some(at);
    }
}
