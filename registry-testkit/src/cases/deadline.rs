//! Line 12: calls end, whether the store answers or not, and may be cancelled.

use std::fmt::Debug;
use std::future::Future;
use std::time::Duration;

use micro_registry::{Error, ErrorKind};

use crate::Line;
use crate::sample::{registration, scope, view, with_weight};
use crate::stage::{LONG, Stage, Verdict, broken, ensure};

/// While the store hangs each call ends within its deadline, and if it failed says `Unavailable`.
pub(super) async fn calls_end_when_the_store_hangs(stage: &Stage<'_>) -> Verdict {
    let faults = stage.faults()?;
    let registry = stage.open_furnished().await?;
    let node = registration("hello", "new");
    faults.hang().await?;
    let calls = futures::join!(
        ends(stage, "register", registry.register(&node, LONG)),
        ends(stage, "deregister", registry.deregister(&node)),
        ends(stage, "get", registry.get("hello")),
        ends(stage, "list", registry.list()),
        ends(stage, "watch", registry.watch(scope("hello"))),
    );
    faults.restore().await?;
    calls.0.and(calls.1).and(calls.2).and(calls.3).and(calls.4)?;
    let registers = async || Ok(registry.register(&node, LONG).await.is_ok());
    stage.eventually(Line::Deadline, "register works after the store hung", registers).await
}

/// Calls that are dropped half-way leave the registry as before or as after them, and usable.
pub(super) async fn a_cancelled_call_does_no_harm(stage: &Stage<'_>) -> Verdict {
    const CALLS: u16 = 50;
    let registry = stage.open().await;
    for weight in 1..=CALLS {
        let patience = Duration::from_micros(u64::from(weight - 1) * 100);
        let node = with_weight("shop", "a", weight);
        // Whether it had the time is all the same.
        let _ = tokio::time::timeout(patience, registry.register(&node, LONG)).await;
        let _ = tokio::time::timeout(patience, registry.get("shop")).await;
        if weight % 5 == 0 {
            let _ = tokio::time::timeout(patience, registry.deregister(&node)).await;
        }
    }
    let registered = registry.register(&with_weight("shop", "a", CALLS + 1), LONG).await;
    ensure(Line::Deadline, registered.is_ok(), || {
        format!("register after cancelled calls: {registered:?}")
    })?;
    let found = stage.get(&registry, "shop").await?;
    let expected = view([&with_weight("shop", "a", CALLS + 1)]).service("shop");
    ensure(Line::Deadline, found == expected, || {
        format!("after cancelled calls get gives {found:?}, not {expected:?}")
    })
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
