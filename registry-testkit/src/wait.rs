//! Waiting for what a backend does, in tests of its own.
//!
//! Everything here waits for a condition, and panics when it does not come about within
//! [`PATIENCE`]: a test fails for what is wrong, and not for a busy machine.

use std::time::Duration;

use futures::StreamExt;
use micro_registry::{Update, View, Watch};
use tokio::time::{sleep, timeout};

/// Far more than anything takes.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// Waits for a future, and not for ever.
///
/// # Panics
///
/// When that takes too long; `what` says what was waited for.
pub async fn soon<T>(what: &str, future: impl Future<Output = T>) -> T {
    let done = timeout(PATIENCE, future).await;
    done.unwrap_or_else(|_| panic!("not within {PATIENCE:?}: {what}"))
}

/// Looks until it is so.
///
/// # Panics
///
/// As [`soon`].
pub async fn eventually(what: &str, mut is_so: impl AsyncFnMut() -> bool) {
    let looking = async {
        while !is_so().await {
            sleep(Duration::from_millis(20)).await;
        }
    };
    soon(what, looking).await;
}

/// The next update of a watch.
///
/// # Panics
///
/// As [`soon`], and when the watch ends.
pub async fn next(watch: &mut Watch) -> Update {
    soon("an update", watch.next()).await.expect("the watch goes on")
}

/// Applies updates until the view is so; gives all of them.
///
/// # Panics
///
/// As [`next`].
pub async fn until(
    watch: &mut Watch,
    view: &mut View,
    is_so: impl Fn(&View) -> bool,
) -> Vec<Update> {
    let mut updates = vec![];
    while !is_so(view) {
        let update = next(watch).await;
        view.apply(&update);
        updates.push(update);
    }
    updates
}
