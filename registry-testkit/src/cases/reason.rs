//! Line 8: why nodes left, and why there are none.

use micro_registry::{EmptyReason, Registration, RemoveReason, Update, View};

use crate::Line;
use crate::sample::{registration, scope, with_epoch};
use crate::stage::{Handle, LONG, Stage, Verdict, broken, ensure};

/// Who says goodbye is removed as deregistered, by the epoch it had.
pub(super) async fn a_goodbye_is_told(stage: &Stage<'_>) -> Verdict {
    let (owner, other) = (stage.open().await, stage.open().await);
    let leaves = with_epoch("shop", "leaves", 7);
    stage.register(&owner, &leaves, LONG).await?;
    let mut follower = stage.watch(&other, scope("shop")).await?;
    follower.until(Line::Watch, "the node", |view| view.len() == 1).await?;
    stage.deregister(&owner, &leaves).await?;
    let read = follower.until(Line::Watch, "its goodbye", View::is_empty).await?;
    is_told(stage, &read, 7, RemoveReason::Deregistered)
}

/// Who is not renewed is removed as expired.
pub(super) async fn an_expiry_is_told(stage: &Stage<'_>) -> Verdict {
    let (owner, other) = (stage.open().await, stage.open().await);
    let leaves = with_epoch("shop", "leaves", 7);
    stage.register(&owner, &leaves, LONG).await?;
    let mut follower = stage.watch(&other, scope("shop")).await?;
    follower.until(Line::Watch, "the node", |view| view.len() == 1).await?;
    stage.register(&owner, &leaves, stage.profile.min_ttl).await?;
    let patience = stage.expiry_patience(stage.profile.min_ttl);
    let what = "the removal of a silent node";
    let read = follower.until_within(patience, Line::Expiry, what, View::is_empty).await?;
    is_told(stage, &read, 7, RemoveReason::Expired)
}

/// A reset without nodes says how the last one left; one with nodes says nothing.
pub(super) async fn an_empty_reset_says_why(stage: &Stage<'_>) -> Verdict {
    let (owner, other) = (stage.open().await, stage.open().await);
    let node = registration("shop", "a");
    is_empty_because(stage, &other, EmptyReason::NeverSeen).await?;
    stage.register(&owner, &node, LONG).await?;
    stage.until_nodes(Line::Register, &other, "shop", &[&node]).await?;
    let reset = stage.watch(&other, scope("shop")).await?.first_reset().await?;
    let says_nothing = matches!(reset, Update::Reset { empty: None, .. });
    ensure(Line::Reason, says_nothing, || format!("a reset with a node says {reset:?}"))?;
    stage.deregister(&owner, &node).await?;
    stage.until_nodes(Line::Deregister, &other, "shop", &[]).await?;
    is_empty_because(stage, &other, EmptyReason::AllDeregistered).await?;
    if stage.profile.expiry {
        is_empty_after_expiry(stage, &owner, &other, &node).await?;
    }
    Ok(())
}

/// A name nobody ever registered is said to be one.
pub(super) async fn an_unknown_name_was_never_seen(stage: &Stage<'_>) -> Verdict {
    let registry = stage.open_furnished().await?;
    is_empty_because(stage, &registry, EmptyReason::NeverSeen).await
}

async fn is_empty_after_expiry(
    stage: &Stage<'_>,
    owner: &Handle,
    other: &Handle,
    node: &Registration,
) -> Verdict {
    let ttl = stage.profile.min_ttl;
    // With time for the other to see it come, so that it sees it go.
    stage.register(owner, node, LONG).await?;
    stage.until_nodes(Line::Register, other, "shop", &[node]).await?;
    stage.register(owner, node, ttl).await?;
    let patience = stage.expiry_patience(ttl);
    stage.until_nodes_within(patience, Line::Expiry, other, "shop", &[]).await?;
    is_empty_because(stage, other, EmptyReason::AllExpired).await
}

fn is_told(stage: &Stage<'_>, read: &[Update], left: u64, expected: RemoveReason) -> Verdict {
    let Some(Update::Remove { epoch, reason, .. }) = read.last() else {
        return broken(Line::Reason, format!("a node left by {:?}, not by a removal", read.last()));
    };
    let may_be = *reason == RemoveReason::Unknown && !stage.profile.reasons;
    ensure(Line::Reason, *reason == expected || may_be, || {
        format!("a node left as {reason:?}, not as {expected:?}")
    })?;
    ensure(Line::Reason, *epoch == left, || format!("epoch {left} left, not {epoch}"))
}

async fn is_empty_because(stage: &Stage<'_>, registry: &Handle, expected: EmptyReason) -> Verdict {
    let reset = stage.watch(registry, scope("shop")).await?.first_reset().await?;
    let Update::Reset { empty: Some(reason), .. } = reset else {
        return broken(Line::Reason, format!("no node is there, the reset says {reset:?}"));
    };
    let tells = stage.profile.reasons && stage.profile.remembers;
    let may_be = reason == EmptyReason::Unknown && !tells;
    ensure(Line::Reason, reason == expected || may_be, || {
        format!("an empty reset says {reason:?}, not {expected:?}")
    })
}
