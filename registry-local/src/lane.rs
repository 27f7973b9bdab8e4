//! Handing file work to threads that may block, one at a time.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use micro_registry::{Error, ErrorKind};
use tokio::sync::Semaphore;

/// Does one piece of work after the other, so that a file system that hangs costs one thread,
/// however often it is asked. Clones are the same lane.
#[derive(Clone, Debug)]
pub(crate) struct Lane(Arc<Semaphore>);

impl Lane {
    pub(crate) fn new() -> Self {
        Self(Arc::new(Semaphore::new(1)))
    }

    /// Runs what blocks where it may, once what came before it is done. What has begun ends by
    /// itself, also when nobody waits for it any more, and only then the next begins.
    pub(crate) fn run<T, W>(&self, work: W) -> impl Future<Output = Result<T, Error>> + use<T, W>
    where
        T: Send + 'static,
        W: FnOnce() -> Result<T, Error> + Send + 'static,
    {
        let turn = self.0.clone().acquire_owned();
        async move {
            let turn = turn.await.map_err(broke_off)?;
            let work = move || {
                let _turn = turn;
                work()
            };
            tokio::task::spawn_blocking(work).await.map_err(broke_off)?
        }
    }
}

/// Waits for a call, as long as a call may take.
pub(crate) async fn in_time<T>(call: impl Future<Output = Result<T, Error>>) -> Result<T, Error> {
    tokio::time::timeout(CALL_TIMEOUT, call).await.unwrap_or_else(|_| Err(unanswered()))
}

/// What a call that took too long ends with.
pub(crate) fn unanswered() -> Error {
    let message = format!("local registry did not answer within {CALL_TIMEOUT:?}");
    Error::new(ErrorKind::Unavailable, message)
}

/// How long a call may take.
pub(crate) const CALL_TIMEOUT: Duration = Duration::from_secs(5);

fn broke_off(error: impl std::error::Error + Send + Sync + 'static) -> Error {
    Error::new(ErrorKind::Internal, "work of the local registry broke off").with_source(error)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::sync::mpsc;

    /// While work hangs, what comes later neither starts nor occupies a thread; then it is done.
    #[tokio::test]
    async fn one_at_a_time() {
        let (lane, begun) = (Lane::new(), Arc::new(AtomicUsize::new(0)));
        let (release, hung) = mpsc::channel::<()>();
        let work = |begun: &Arc<AtomicUsize>| {
            let begun = begun.clone();
            move || Ok(begun.fetch_add(1, Ordering::SeqCst))
        };
        let (first, mut others) = (work(&begun), tokio::task::JoinSet::new());
        let hanging = tokio::spawn(lane.run(move || {
            let _ = hung.recv();
            first()
        }));
        for _ in 0..20 {
            others.spawn(lane.run(work(&begun)));
        }
        assert_eq!(tokio::task::spawn_blocking(|| 7).await.unwrap(), 7, "there are threads");
        assert_eq!(begun.load(Ordering::SeqCst), 0);
        drop(release);
        assert_eq!(hanging.await.unwrap().unwrap(), 0);
        assert!(others.join_all().await.iter().all(Result::is_ok));
        assert_eq!(begun.load(Ordering::SeqCst), 21);
    }
}
