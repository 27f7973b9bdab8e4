//! The layers over real tower services, on paused time.

mod balance;
mod deadline;
mod ejection;
mod limit;
mod load_shed;
mod retry;
mod throttle;

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::task::{Context, Poll};

use futures::FutureExt;
use futures::future::{BoxFuture, pending};
use micro_selector::Class;
use tower::{Service, ServiceExt};

use super::Broken;

/// What a service is asked to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ask {
    Answer,
    Fail(Class),
    Hang,
    Panic,
    /// Panics in `call`, before there is a future.
    PanicAtOnce,
}

/// Does as it is asked, counts the calls, and is ready only the second time it is asked whether it
/// is.
#[derive(Debug, Default)]
struct Node {
    id: usize,
    calls: Arc<AtomicU32>,
    was_asked: bool,
}

impl Node {
    fn new(id: usize) -> Self {
        Self { id, ..Self::default() }
    }

    fn calls(&self) -> u32 {
        self.calls.load(Relaxed)
    }
}

/// A clone is as unready as the first one.
impl Clone for Node {
    fn clone(&self) -> Self {
        Self { id: self.id, calls: self.calls.clone(), was_asked: false }
    }
}

impl Service<Ask> for Node {
    type Response = usize;
    type Error = Broken;
    type Future = BoxFuture<'static, Result<usize, Broken>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Broken>> {
        if std::mem::replace(&mut self.was_asked, true) {
            return Poll::Ready(Ok(()));
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    fn call(&mut self, ask: Ask) -> Self::Future {
        assert!(self.was_asked, "it is called before it is ready");
        assert!(ask != Ask::PanicAtOnce, "as asked");
        self.calls.fetch_add(1, Relaxed);
        let id = self.id;
        Box::pin(async move {
            match ask {
                Ask::Answer => Ok(id),
                Ask::Fail(class) => Err(Broken(class)),
                Ask::Hang => pending().await,
                Ask::Panic | Ask::PanicAtOnce => panic!("as asked"),
            }
        })
    }
}

/// Makes the call and outlives its panic.
async fn panics<S: Service<Ask>>(service: S, ask: Ask) {
    let call = AssertUnwindSafe(service.oneshot(ask)).catch_unwind();
    assert!(call.await.is_err(), "it panics");
}

/// A layered service is a clone away from any task, and ready at once although what is behind it is
/// not.
fn assert_ready<S>(service: &S)
where
    S: Service<Ask> + Clone + Send + Sync + 'static,
    S::Future: Send,
{
    let mut clone = service.clone();
    assert!(clone.ready().now_or_never().is_some_and(|ready| ready.is_ok()), "it is not ready");
}
