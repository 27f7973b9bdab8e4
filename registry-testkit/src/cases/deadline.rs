//! Line 12: calls end, whether the store answers or not, and may be cancelled.

use std::fmt::Debug;
use std::future::Future;
use std::time::Duration;

use futures::FutureExt;
use micro_registry::{Error, ErrorKind};

use crate::Line;
use crate::sample::{registration, scope, view, with_weight};
use crate::stage::{LONG, Stage, Verdict, broken, ensure};

/// While the store hangs each call ends within its deadline, and if it failed says `Unavailable`.
pub(super) async fn calls_end_when_the_store_hangs(stage: &Stage<'_>) -> Verdict {
    let faults = stage.faults()?;
    let registry = stage.open_furnished().await?;
    let (joins, leaves) = (registration("hello", "new"), registration("hello2", "a2"));
    faults.hang().await?;
    let calls = futures::join!(
        ends(stage, "register", registry.register(&joins, LONG)),
        ends(stage, "deregister", registry.deregister(&leaves)),
        ends(stage, "get", registry.get("hello")),
        ends(stage, "list", registry.list()),
        ends(stage, "watch", registry.watch(scope("hello"))),
    );
    faults.restore().await?;
    calls.0.and(calls.1).and(calls.2).and(calls.3).and(calls.4)?;
    let registers = async || Ok(registry.register(&joins, LONG).await.is_ok());
    stage.eventually(Line::Deadline, "register works after the store hung", registers).await
}

/// Calls that are dropped half-way leave the registry as before or as after them, and usable.
pub(super) async fn a_cancelled_call_does_no_harm(stage: &Stage<'_>) -> Verdict {
    const CALLS: u16 = 50;
    let registry = stage.open().await;
    for weight in 1..=CALLS {
        let (node, polls) = (with_weight("shop", "a", weight), weight % 5);
        cancelled(polls, registry.register(&node, LONG)).await;
        cancelled(polls, registry.get("shop")).await;
        if weight % 3 == 0 {
            cancelled(polls, registry.deregister(&node)).await;
        }
    }
    let registered = registry.register(&with_weight("shop", "a", CALLS + 1), LONG).await;
    ensure(Line::Deadline, registered.is_ok(), || {
        format!("register after cancelled calls: {registered:?}")
    })?;
    let expected = view([&with_weight("shop", "a", CALLS + 1)]).service("shop");
    let is_found = async || Ok(stage.get(&registry, "shop").await? == expected);
    stage.eventually(Line::Deadline, "what was registered last is found", is_found).await
}

/// Drops a call after it was polled so often; whether it got ready is all the same.
async fn cancelled<T>(polls: u16, call: impl Future<Output = T>) {
    let mut call = std::pin::pin!(call);
    for _ in 0..polls {
        if call.as_mut().now_or_never().is_some() {
            return;
        }
        tokio::time::sleep(Duration::from_micros(100)).await;
    }
}

async fn ends<T: Debug>(
    stage: &Stage<'_>,
    name: &str,
    call: impl Future<Output = Result<T, Error>>,
) -> Verdict {
    let deadline = stage.profile.deadline;
    match tokio::time::timeout(deadline + stage.patience(), call).await {
        Ok(Ok(_)) => Ok(()),
        Ok(Err(error)) if error.kind() == ErrorKind::Unavailable => Ok(()),
        Ok(Err(error)) => {
            broken(Line::Lookup, format!("{name} failed with {error:?} as the store hung"))
        }
        Err(_) => {
            broken(Line::Deadline, format!("{name} did not end, its deadline was {deadline:?}"))
        }
    }
}
