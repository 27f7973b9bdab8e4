//! Line 1: `register` is an idempotent upsert with a TTL, and the only heartbeat.

use std::time::Duration;

use micro_registry::{Registration, View};
use tokio::time::Instant;

use crate::Line;
use crate::follower::ensure_only;
use crate::sample::{changes, full, registration, view, with_epoch};
use crate::stage::{Handle, LONG, Stage, Stop, Verdict, broken, ensure};

/// What one handle registers another finds, with every field as it was.
pub(super) async fn round_trip(stage: &Stage<'_>) -> Verdict {
    let (writer, reader) = (stage.open().await, stage.open().await);
    let registered = full("shop", "a");
    stage.register(&writer, &registered, LONG).await?;
    stage.until_nodes(Line::Register, &reader, "shop", &[&registered]).await?;
    let (found, expected) =
        (stage.get(&reader, "shop").await?, view([&registered]).service("shop"));
    ensure(Line::Register, found == expected, || format!("get gives {found:?}, not {expected:?}"))
}

/// Nodes of several versions are grouped by version, and the newest speaks for its version.
pub(super) async fn versions_are_grouped(stage: &Stage<'_>) -> Verdict {
    let registry = stage.open().await;
    let mut nodes = [with_epoch("shop", "a", 2), with_epoch("shop", "b", 1), full("shop", "c")];
    nodes[0].metadata.insert("from".into(), "a".into());
    nodes[1].metadata.insert("from".into(), "b".into());
    for node in &nodes {
        stage.register(&registry, node, LONG).await?;
    }
    let [a, b, c] = &nodes;
    stage.until_nodes(Line::Register, &registry, "shop", &[a, b, c]).await?;
    let (found, expected) = (stage.get(&registry, "shop").await?, view(&nodes).service("shop"));
    ensure(Line::Register, found == expected, || format!("get gives {found:?}, not {expected:?}"))
}

/// Registered again with the same content, watchers hear nothing.
pub(super) async fn a_renewal_is_silent(stage: &Stage<'_>) -> Verdict {
    let (writer, reader) = (stage.open().await, stage.open().await);
    let mut follower = stage.follow(&reader, "shop").await?;
    let renewed = full("shop", "a");
    stage.register(&writer, &renewed, LONG).await?;
    follower.until(Line::Watch, "the node", |view| view.len() == 1).await?;
    for _ in 0..3 {
        stage.register(&writer, &renewed, LONG).await?;
    }
    stage.register(&writer, &registration("shop", "marker"), LONG).await?;
    let read = follower.until(Line::Watch, "a second node", |view| view.len() == 2).await?;
    ensure_only(Line::Register, &read, "marker")
}

/// A change of any field is seen by `get` and by watchers.
pub(super) async fn changed_content_is_seen(stage: &Stage<'_>) -> Verdict {
    let (writer, reader) = (stage.open().await, stage.open().await);
    let mut follower = stage.follow(&reader, "shop").await?;
    let mut changing = registration("shop", "a");
    stage.register(&writer, &changing, LONG).await?;
    for (what, change) in changes() {
        change(&mut changing);
        stage.register(&writer, &changing, LONG).await?;
        let expected = view([&changing]);
        let told = format!("the node with its {what} changed");
        follower.until(Line::Register, &told, |view| *view == expected).await?;
        let found = stage.get(&reader, "shop").await?;
        let is_seen = found == expected.service("shop");
        ensure(Line::Register, is_seen, || format!("{told} is not what get gives: {found:?}"))?;
    }
    Ok(())
}

/// A process that is started again under its id, its predecessor's lease still running, takes its
/// place.
pub(super) async fn a_restart_replaces_at_once(stage: &Stage<'_>) -> Verdict {
    let (old, new) = (stage.open().await, stage.open().await);
    stage.register(&old, &with_epoch("shop", "a", 1), LONG).await?;
    let mut follower = stage.follow(&new, "shop").await?;
    let mut successor = with_epoch("shop", "a", 2);
    successor.node.address = "127.0.0.1:7001".into();
    stage.register(&new, &successor, LONG).await?;
    stage.until_nodes(Line::Register, &new, "shop", &[&successor]).await?;
    let expected = view([&successor]);
    follower.until(Line::Register, "the successor", |view| *view == expected).await?;
    Ok(())
}

/// A node that is renewed in time stays, for several TTLs.
pub(super) async fn renewals_keep_a_node(stage: &Stage<'_>) -> Verdict {
    let registry = stage.open().await;
    let kept = registration("shop", "a");
    in_time(stage, async |ttl| {
        stage.register(&registry, &kept, LONG).await?;
        let mut follower = stage.follow(&registry, "shop").await?;
        let start = Instant::now();
        let is_over = async || Ok(start.elapsed() > ttl * 3);
        let renewed = renew_until(stage, &registry, &kept, ttl, is_over).await?;
        let read = follower.pending();
        let stayed = read.is_empty() && stage.nodes(&registry, "shop").await?.len() == 1;
        judge(renewed, ttl, stayed, || format!("a renewed node did not stay: {read:?}"))
    })
    .await
}

/// A node nobody renews goes, though its neighbour in the same process is renewed and stays.
pub(super) async fn a_lease_is_its_own(stage: &Stage<'_>) -> Verdict {
    let registry = stage.open().await;
    let (stays, goes) = (registration("shop", "stays"), registration("shop", "goes"));
    in_time(stage, async |ttl| {
        stage.register(&registry, &goes, ttl).await?;
        let deadline = Instant::now() + stage.expiry_patience(ttl);
        let has_gone = async || {
            let nodes = stage.nodes(&registry, "shop").await?;
            let is_late = || format!("a node nobody renews is there: {nodes:?}");
            ensure(Line::Register, Instant::now() < deadline, is_late)?;
            Ok(nodes.iter().all(|node| node.id != "goes"))
        };
        let renewed = renew_until(stage, &registry, &stays, ttl, has_gone).await?;
        let nodes = stage.nodes(&registry, "shop").await?;
        let stayed = nodes.iter().any(|node| node.id == "stays");
        judge(renewed, ttl, stayed, || format!("the renewed neighbour went as well: {nodes:?}"))
    })
    .await
}

/// A renewal with another TTL counts from then on.
pub(super) async fn a_renewal_sets_the_ttl(stage: &Stage<'_>) -> Verdict {
    let (registry, ttl) = (stage.open().await, stage.profile.min_ttl);
    let (longer, shorter) = (registration("shop", "longer"), registration("shop", "shorter"));
    stage.register(&registry, &longer, ttl).await?;
    stage.register(&registry, &longer, LONG).await?;
    stage.register(&registry, &shorter, LONG).await?;
    stage.register(&registry, &shorter, ttl).await?;
    let patience = stage.expiry_patience(ttl);
    stage.until_nodes_within(patience, Line::Register, &registry, "shop", &[&longer]).await
}

/// A lease that ran out is made anew by the next registration, and everybody sees the node again.
pub(super) async fn an_expired_node_comes_back(stage: &Stage<'_>) -> Verdict {
    let (writer, reader) = (stage.open().await, stage.open().await);
    let (node, ttl) = (registration("shop", "a"), stage.profile.min_ttl);
    let mut follower = stage.follow(&reader, "shop").await?;
    // Followed through its disappearance, so that its return is one.
    stage.register(&writer, &node, LONG).await?;
    follower.until(Line::Watch, "the node", |view| view.len() == 1).await?;
    stage.register(&writer, &node, ttl).await?;
    let patience = stage.expiry_patience(ttl);
    stage.until_nodes_within(patience, Line::Expiry, &reader, "shop", &[]).await?;
    follower.until(Line::Expiry, "the removal of a silent node", View::is_empty).await?;
    stage.register(&writer, &node, LONG).await?;
    stage.until_nodes(Line::Register, &reader, "shop", &[&node]).await?;
    follower.until(Line::Register, "the node, again", |view| view.len() == 1).await?;
    Ok(())
}

/// Leases that are taken away by force are made anew by the next registration.
pub(super) async fn lost_leases_are_made_anew(stage: &Stage<'_>) -> Verdict {
    let (writer, reader) = (stage.open().await, stage.open().await);
    let (faults, node) = (stage.faults()?, full("shop", "a"));
    let mut follower = stage.follow(&reader, "shop").await?;
    stage.register(&writer, &node, LONG).await?;
    faults.lose_leases().await?;
    stage.register(&writer, &node, LONG).await?;
    stage.until_nodes(Line::Register, &reader, "shop", &[&node]).await?;
    stage.register(&writer, &registration("shop", "marker"), LONG).await?;
    follower.until(Line::Register, "the node, again", |view| view.len() == 2).await?;
    Ok(())
}

/// Renews a node until it is so; answers when it did last, or `None` when one renewal came so late
/// that the node may have gone rightly.
async fn renew_until(
    stage: &Stage<'_>,
    registry: &Handle,
    registration: &Registration,
    ttl: Duration,
    mut is_so: impl AsyncFnMut() -> Verdict<bool>,
) -> Verdict<Option<Instant>> {
    let mut renewed = Instant::now();
    stage.register(registry, registration, ttl).await?;
    while renewed.elapsed() < ttl / 2 {
        tokio::time::sleep(ttl / 8).await;
        let is_so = is_so().await?;
        let before = std::mem::replace(&mut renewed, Instant::now());
        stage.register(registry, registration, ttl).await?;
        if before.elapsed() >= ttl / 2 {
            return Ok(None);
        }
        if is_so {
            return Ok(Some(renewed));
        }
    }
    Ok(None)
}

/// What a round came to: `None` when the machine was too busy for it to mean anything.
fn judge(
    renewed: Option<Instant>,
    ttl: Duration,
    holds: bool,
    what: impl FnOnce() -> String,
) -> Verdict<Option<()>> {
    if renewed.is_none_or(|renewed| renewed.elapsed() >= ttl / 2) {
        return Ok(None);
    }
    if holds { Ok(Some(())) } else { broken(Line::Register, what()) }
}

/// Tries a round with ever longer TTLs until the machine keeps up.
async fn in_time(
    stage: &Stage<'_>,
    mut round: impl AsyncFnMut(Duration) -> Verdict<Option<()>>,
) -> Verdict {
    for doublings in 0..4 {
        if round(stage.profile.min_ttl * (1 << doublings)).await?.is_some() {
            return Ok(());
        }
    }
    Err(Stop::Skipped("the machine is too busy to renew in time".into()))
}
