//! Lines 3 and 4: epochs keep the past from harming the present.

use micro_registry::{ErrorKind, RemoveReason, Update, View};

use crate::Line;
use crate::follower::ensure_only;
use crate::sample::{registration, scope, view, with_epoch, with_weight};
use crate::stage::{LONG, Stage, Verdict, ensure, ensure_kind};

/// A slow old process says goodbye after its successor came: the successor stays.
pub(super) async fn deregister_leaves_the_successor(stage: &Stage<'_>) -> Verdict {
    deregister_leaves(stage, 2, 1).await
}

/// A goodbye of an epoch that has not come yet removes nobody.
pub(super) async fn deregister_leaves_the_predecessor(stage: &Stage<'_>) -> Verdict {
    deregister_leaves(stage, 1, 2).await
}

/// A goodbye takes one node, not those beside it or under the same id elsewhere.
pub(super) async fn deregister_leaves_the_neighbours(stage: &Stage<'_>) -> Verdict {
    let registry = stage.open().await;
    let (goes, beside) = (registration("shop", "a"), registration("shop", "b"));
    let elsewhere = registration("greeter", "a");
    for node in [&goes, &beside, &elsewhere] {
        stage.register(&registry, node, LONG).await?;
    }
    stage.deregister(&registry, &goes).await?;
    stage.until_nodes(Line::Deregister, &registry, "shop", &[&beside]).await?;
    stage.until_nodes(Line::Deregister, &registry, "greeter", &[&elsewhere]).await
}

/// Removing what is not there, or not there any more, is fine.
pub(super) async fn deregister_twice_is_fine(stage: &Stage<'_>) -> Verdict {
    let registry = stage.open().await;
    let node = registration("shop", "a");
    stage.deregister(&registry, &node).await?;
    stage.register(&registry, &node, LONG).await?;
    stage.deregister(&registry, &node).await?;
    stage.deregister(&registry, &node).await?;
    stage.until_nodes(Line::Deregister, &registry, "shop", &[]).await
}

/// What names a node is its id and epoch, whatever else changed since.
pub(super) async fn a_changed_node_can_be_deregistered(stage: &Stage<'_>) -> Verdict {
    let (owner, other) = (stage.open().await, stage.open().await);
    stage.register(&owner, &with_weight("shop", "a", 7), LONG).await?;
    stage.deregister(&other, &with_weight("shop", "a", 3)).await?;
    stage.until_nodes(Line::Deregister, &owner, "shop", &[]).await
}

/// An older process that registers under the id is told so.
pub(super) async fn a_lower_epoch_is_refused(stage: &Stage<'_>) -> Verdict {
    let (old, new) = (stage.open().await, stage.open().await);
    stage.register(&new, &with_epoch("shop", "a", 2), LONG).await?;
    let refused = old.register(&with_epoch("shop", "a", 1), LONG).await;
    let error = ensure_kind(Line::Fence, "register", refused, ErrorKind::Fenced)?;
    ensure(Line::Errors, !error.is_retryable(), || format!("{error:?} is retryable"))?;
    // The owner itself may go on.
    stage.register(&new, &with_epoch("shop", "a", 2), LONG).await
}

/// Nobody sees what an older process wrote.
pub(super) async fn a_lower_epoch_is_not_seen(stage: &Stage<'_>) -> Verdict {
    let (old, new) = (stage.open().await, stage.open().await);
    let (owner, marker) = (with_epoch("shop", "a", 2), registration("shop", "marker"));
    stage.register(&new, &owner, LONG).await?;
    let mut follower = stage.watch(&new, scope("shop")).await?;
    follower.until(Line::Watch, "the node", |view| view.len() == 1).await?;
    // Who fences by its readers may accept it.
    let _ = old.register(&with_epoch("shop", "a", 1), LONG).await;
    stage.register(&old, &marker, LONG).await?;
    let read = follower.until(Line::Watch, "a second node", |view| view.len() == 2).await?;
    ensure_only(Line::Fence, &read, "marker")?;
    stage.until_nodes(Line::Fence, &new, "shop", &[&owner, &marker]).await
}

/// A process that was stopped, expired and was replaced finds out when it goes on, and can neither
/// take its place back nor remove who has it.
pub(super) async fn an_owner_that_continues_is_refused(stage: &Stage<'_>) -> Verdict {
    let (stopped, new) = (stage.open().await, stage.open().await);
    let (old, ttl) = (with_epoch("shop", "a", 1), stage.profile.min_ttl);
    stage.register(&stopped, &old, ttl).await?;
    let patience = stage.expiry_patience(ttl);
    stage.until_nodes_within(patience, Line::Expiry, &new, "shop", &[]).await?;
    let successor = with_epoch("shop", "a", 2);
    stage.register(&new, &successor, LONG).await?;
    let refused = stopped.register(&old, LONG).await;
    ensure_kind(Line::Fence, "register", refused, ErrorKind::Fenced)?;
    stage.deregister(&stopped, &old).await?;
    stage.until_nodes(Line::Deregister, &new, "shop", &[&successor]).await
}

/// The dead fence nobody: once a lease has ended a lower epoch may follow, and everybody sees it.
pub(super) async fn a_lower_epoch_follows_the_dead(stage: &Stage<'_>) -> Verdict {
    let (dead, living) = (stage.open().await, stage.open().await);
    let ttl = stage.profile.min_ttl;
    stage.register(&dead, &with_epoch("shop", "a", 9), LONG).await?;
    let mut follower = stage.watch(&living, scope("shop")).await?;
    follower.until(Line::Watch, "the node", |view| view.len() == 1).await?;
    stage.register(&dead, &with_epoch("shop", "a", 9), ttl).await?;
    let patience = stage.expiry_patience(ttl);
    stage.until_nodes_within(patience, Line::Expiry, &living, "shop", &[]).await?;
    follower.until(Line::Expiry, "the removal of the dead", View::is_empty).await?;
    let follows = with_epoch("shop", "a", 3);
    let done = living.register(&follows, LONG).await;
    ensure(Line::Fence, done.is_ok(), || format!("register after a dead one: {done:?}"))?;
    stage.until_nodes(Line::Fence, &living, "shop", &[&follows]).await?;
    let expected = view([&follows]);
    follower.until(Line::Fence, "the lower epoch", |view| *view == expected).await?;
    Ok(())
}

async fn deregister_leaves(stage: &Stage<'_>, stored: u64, goodbye: u64) -> Verdict {
    let (slow, owner) = (stage.open().await, stage.open().await);
    let (stays, marker) = (with_epoch("shop", "a", stored), registration("shop", "marker"));
    let mut follower = stage.follow(&owner, "shop").await?;
    stage.register(&owner, &stays, LONG).await?;
    stage.deregister(&slow, &with_epoch("shop", "a", goodbye)).await?;
    // Whoever sees the marker has seen what the goodbye did.
    stage.register(&slow, &marker, LONG).await?;
    let is_marked = |view: &View| view.node("shop", "marker").is_some();
    let read = follower.until(Line::Watch, "a second node", is_marked).await?;
    let removed = read.iter().find(|update| is_goodbye(update));
    ensure(Line::Deregister, removed.is_none(), || {
        format!("epoch {goodbye} said goodbye, epoch {stored} left: {removed:?}")
    })?;
    stage.until_nodes(Line::Deregister, &owner, "shop", &[&stays, &marker]).await
}

fn is_goodbye(update: &Update) -> bool {
    matches!(update, Update::Remove { id, reason: RemoveReason::Deregistered, .. } if id == "a")
}
