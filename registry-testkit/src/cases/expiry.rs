//! Line 2: who is not renewed goes.

use micro_registry::{Scope, Update, View};

use crate::Line;
use crate::follower::Follower;
use crate::sample::{registration, scope, with_weight};
use crate::stage::{LONG, Stage, Verdict, ensure};

/// A node whose process is there and silent leaves `get`, for its own process and for others.
pub(super) async fn a_silent_node_leaves_get(stage: &Stage<'_>) -> Verdict {
    let (owner, other) = (stage.open().await, stage.open().await);
    let ttl = stage.profile.min_ttl;
    let stays = registration("shop", "stays");
    stage.register(&owner, &stays, LONG).await?;
    stage.register(&owner, &registration("shop", "goes"), ttl).await?;
    for registry in [&owner, &other] {
        let patience = stage.expiry_patience(ttl);
        stage.until_nodes_within(patience, Line::Expiry, registry, "shop", &[&stays]).await?;
    }
    Ok(())
}

/// Watchers are told of it, by a removal, whatever they follow.
pub(super) async fn a_silent_node_leaves_watchers(stage: &Stage<'_>) -> Verdict {
    let (owner, other) = (stage.open().await, stage.open().await);
    stage.register(&owner, &registration("shop", "stays"), LONG).await?;
    stage.register(&owner, &registration("shop", "goes"), LONG).await?;
    let mut followers = vec![stage.watch(&owner, scope("shop")).await?];
    followers.push(stage.watch(&other, scope("shop")).await?);
    if stage.profile.watch_all {
        followers.push(stage.watch(&other, Scope::All).await?);
    }
    for follower in &mut followers {
        follower.until(Line::Watch, "two nodes", |view| view.len() == 2).await?;
    }
    // Only now, so that nobody misses it for having read too late.
    stage.register(&owner, &registration("shop", "goes"), stage.profile.min_ttl).await?;
    for follower in &mut followers {
        is_removed(stage, follower).await?;
    }
    Ok(())
}

/// A process that ends without a word takes its nodes along, for `get` and for watchers.
pub(super) async fn a_vanished_handle_leaves(stage: &Stage<'_>) -> Verdict {
    let (owner, other) = (stage.open().await, stage.open().await);
    stage.register(&other, &registration("shop", "stays"), LONG).await?;
    stage.register(&owner, &registration("shop", "goes"), LONG).await?;
    let mut follower = stage.watch(&other, scope("shop")).await?;
    follower.until(Line::Watch, "two nodes", |view| view.len() == 2).await?;
    stage.register(&owner, &registration("shop", "goes"), stage.profile.min_ttl).await?;
    drop(owner);
    is_removed(stage, &mut follower).await?;
    let nodes = stage.nodes(&other, "shop").await?;
    ensure(Line::Expiry, nodes.len() == 1, || format!("get gives {nodes:?}"))
}

/// When many expire together each is told, and nobody else leaves.
pub(super) async fn many_expire_at_once(stage: &Stage<'_>) -> Verdict {
    let (owner, other) = (stage.open().await, stage.open().await);
    let (count, ttl) = (stage.profile.max_nodes.min(1_000) / 2, stage.profile.min_ttl * 2);
    let mut follower = stage.follow(&other, "shop").await?;
    for i in 0..count {
        stage.register(&owner, &with_weight("shop", &format!("stays-{i}"), 1), LONG).await?;
        stage.register(&owner, &with_weight("shop", &format!("goes-{i}"), 0), ttl).await?;
    }
    // One with a long lease, registered last, so that what came before has been seen.
    stage.register(&owner, &registration("shop", "last"), LONG).await?;
    let all_seen = |view: &View| view.node("shop", "last").is_some();
    follower.until(Line::Watch, "the last node", all_seen).await?;
    let what = format!("{count} nodes stay, {count} go");
    let patience = stage.expiry_patience(ttl);
    let is_so = |view: &View| view.len() == count + 1;
    follower.until_within(patience, Line::Expiry, &what, is_so).await?;
    let stayed = follower.view.iter().all(|registration| registration.node.weight > 0);
    ensure(Line::Expiry, stayed, || "nodes with a long lease left".into())
}

async fn is_removed(stage: &Stage<'_>, follower: &mut Follower) -> Verdict {
    let patience = stage.expiry_patience(stage.profile.min_ttl);
    let what = "the removal of a silent node";
    let has_left = |view: &View| view.node("shop", "goes").is_none();
    let read = follower.until_within(patience, Line::Expiry, what, has_left).await?;
    let last = read.last();
    ensure(Line::Expiry, matches!(last, Some(Update::Remove { .. })), || {
        format!("a silent node left by {last:?}, not by a removal")
    })?;
    let stays = follower.view.node("shop", "stays").is_some();
    ensure(Line::Expiry, stays, || "a node with a long lease left".into())
}
