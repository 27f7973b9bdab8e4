//! Lines 6 and 9: what a watch tells.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use futures::future::join_all;
use micro_registry::{Registration, Scope, Update, View};
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::Line;
use crate::follower::{Follower, ensure_only};
use crate::sample::{fixture, registration, scope, view, with_weight};
use crate::stage::{Handle, LONG, Stage, Verdict, broken, ensure};

/// Everything that is there comes first, in one reset.
pub(super) async fn the_first_data_is_a_reset(stage: &Stage<'_>) -> Verdict {
    let registry = stage.open_furnished().await?;
    let hello: Vec<_> = fixture().into_iter().filter(|r| r.service == "hello").collect();
    let is_stored = async || Ok(stage.nodes(&registry, "hello").await?.len() >= hello.len());
    stage.eventually(Line::Register, "the nodes are found", is_stored).await?;
    let mut follower = stage.follow(&registry, "hello").await?;
    let (found, expected) = (std::mem::take(&mut follower.view), view(&hello));
    ensure(Line::Watch, found == expected, || {
        format!("the first reset tells {found:?}, not {expected:?}")
    })?;
    let reset = stage.watch(&registry, scope("nobody")).await?.first_reset().await?;
    let is_empty = matches!(&reset, Update::Reset { registrations: r, .. } if r.is_empty());
    ensure(Line::Watch, is_empty, || format!("the first reset of an unknown name: {reset:?}"))
}

/// Joins, changes and goodbyes come after the reset, whichever handle makes them.
pub(super) async fn changes_follow_the_reset(stage: &Stage<'_>) -> Verdict {
    let (one, two) = (stage.open().await, stage.open().await);
    let mut follower = stage.follow(&two, "shop").await?;
    for registry in [&one, &two] {
        for weight in [1, 2] {
            let node = with_weight("shop", "a", weight);
            let expected = view([&node]);
            stage.register(registry, &node, LONG).await?;
            follower.until(Line::Watch, "the node", |view| *view == expected).await?;
        }
        stage.deregister(registry, &with_weight("shop", "a", 2)).await?;
        follower.until(Line::Watch, "its goodbye", View::is_empty).await?;
    }
    Ok(())
}

/// A watch of everything tells of services that come into being.
pub(super) async fn all_services_are_followed(stage: &Stage<'_>) -> Verdict {
    let registry = stage.open_furnished().await?;
    let mut follower = stage.watch(&registry, Scope::All).await?;
    let mut expected = fixture();
    let first = view(&expected);
    follower.until(Line::Watch, "all there is", |view| *view == first).await?;
    if stage.profile.writes {
        expected.push(registration("shop", "a"));
        stage.register(&registry, &registration("shop", "a"), LONG).await?;
        let all = view(&expected);
        follower.until(Line::Watch, "another service", |view| *view == all).await?;
    }
    Ok(())
}

/// A watch of one node tells of it, of its changes and why it left, and of no other.
pub(super) async fn a_node_is_followed_alone(stage: &Stage<'_>) -> Verdict {
    let (owner, reader) = (stage.open().await, stage.open().await);
    let (own, neighbour) = (with_weight("shop", "a", 1), with_weight("shop", "a2", 1));
    let namesake = registration("shop2", "a");
    for node in [&own, &neighbour, &namesake] {
        stage.register(&owner, node, LONG).await?;
    }
    let mut follower = stage.watch(&reader, Scope::node(&own)).await?;
    follower.until(Line::Watch, "the node", |view| !view.is_empty()).await?;
    let found = follower.view.clone();
    ensure(Line::Watch, found == view([&own]), || format!("a watch of a node tells {found:?}"))?;
    stage.register(&owner, &with_weight("shop", "a2", 2), LONG).await?;
    stage.deregister(&owner, &namesake).await?;
    let changed = with_weight("shop", "a", 2);
    stage.register(&owner, &changed, LONG).await?;
    let expected = view([&changed]);
    let mut read =
        follower.until(Line::Watch, "the node, changed", |view| *view == expected).await?;
    stage.deregister(&owner, &neighbour).await?;
    stage.deregister(&owner, &changed).await?;
    read.extend(follower.until(Line::Watch, "its goodbye", View::is_empty).await?);
    ensure_only(Line::Watch, &read, "a")?;
    ensure(Line::Watch, matches!(read.last(), Some(Update::Remove { .. })), || {
        format!("a node left by {:?}, not by a removal", read.last())
    })
}

/// Of a thousand writes made while watches open each is in the reset or told after it.
pub(super) async fn nothing_is_lost_while_opening(stage: &Stage<'_>) -> Verdict {
    let (owner, reader) = (stage.open().await, stage.open().await);
    let joins = stage.profile.max_nodes.min(1_000);
    let nodes: Vec<_> =
        (0..joins).map(|i| with_weight("shop", &format!("n{i}"), i as u16)).collect();
    let mut writers = JoinSet::new();
    for part in nodes.chunks(joins.div_ceil(WRITERS)) {
        writers.spawn(write_all(owner.clone(), part.to_vec()));
    }
    // Each followed on its own from the moment it opens, all the while somebody writes.
    let mut followers = vec![];
    while followers.len() < 16 {
        followers.push(stage.watch(&reader, scope("shop")).await?);
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    finish(writers).await?;
    let expected = view(&nodes);
    for follower in &mut followers {
        let what = format!("all {joins} nodes written while it opened");
        follower.until(Line::Watch, &what, |view| *view == expected).await?;
    }
    Ok(())
}

/// While nodes change a watch never goes back to what they were before.
pub(super) async fn nothing_is_older_than_the_reset(stage: &Stage<'_>) -> Verdict {
    let (owner, reader) = (stage.open().await, stage.open().await);
    let mut writers = JoinSet::new();
    for writer in 0..WRITERS {
        let id = format!("n{writer}");
        let history = (1..=LAST).map(|weight| with_weight("shop", &id, weight)).collect();
        writers.spawn(write_all(owner.clone(), history));
    }
    let mut followers = vec![];
    while followers.len() < 8 {
        followers.push(stage.watch(&reader, scope("shop")).await?);
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    let reads = join_all(followers.iter_mut().map(until_last));
    let (written, read) = futures::future::join(finish(writers), reads).await;
    written?;
    read.into_iter().collect::<Verdict>()?;
    // After all the changes there is nothing left to be told.
    let mut late = stage.follow(&reader, "shop").await?;
    stage.register(&owner, &registration("shop", "marker"), LONG).await?;
    let is_marked = |view: &View| view.node("shop", "marker").is_some();
    for follower in followers.iter_mut().chain([&mut late]) {
        follower.until(Line::Watch, "a further node", is_marked).await?;
        let last = |r: &Arc<Registration>| r.node.id == "marker" || r.node.weight == LAST;
        let is_last = follower.view.iter().all(last) && follower.view.len() == WRITERS + 1;
        ensure(Line::Watch, is_last, || "the watch tells what was before its reset".into())?;
    }
    Ok(())
}

/// A watch opened beside another begins with nothing older than what its handle answered before.
pub(super) async fn a_later_watch_is_as_new_as_get(stage: &Stage<'_>) -> Verdict {
    let (owner, reader) = (stage.open().await, stage.open().await);
    let _early = stage.follow(&reader, "shop").await?;
    let start = Instant::now();
    // Who lags does so for a moment, hence so often; a slow backend has longer moments.
    for round in (0..JOINS).take_while(|_| start.elapsed() < ENOUGH) {
        let [joins, changed] = [1, 2].map(|step| with_weight("shop", "a", 2 * round + step));
        for node in [&joins, &changed] {
            stage.register(&owner, node, LONG).await?;
            begins_as_read(stage, Line::Register, &reader, &[node]).await?;
        }
        stage.deregister(&owner, &changed).await?;
        begins_as_read(stage, Line::Deregister, &reader, &[]).await?;
    }
    Ok(())
}

/// Watches of one service, opened at different times through different handles, end up the same.
pub(super) async fn two_watchers_agree(stage: &Stage<'_>) -> Verdict {
    let (one, two) = (stage.open().await, stage.open().await);
    let node = |i: u16, weight| with_weight("shop", &format!("n{i}"), weight);
    for i in 0..10 {
        stage.register(&one, &node(i, 1), LONG).await?;
    }
    let mut early = stage.follow(&one, "shop").await?;
    for i in 10..20 {
        stage.register(&one, &node(i, 1), LONG).await?;
    }
    let mut late = stage.follow(&two, "shop").await?;
    for i in 0..20 {
        match i % 3 {
            0 => stage.deregister(&two, &node(i, 1)).await?,
            1 => stage.register(&two, &node(i, 2), LONG).await?,
            _ => {}
        }
    }
    let kept = (0..20).filter(|i| i % 3 != 0);
    let kept: Vec<_> = kept.map(|i| node(i, if i % 3 == 1 { 2 } else { 1 })).collect();
    let expected = view(&kept);
    for follower in [&mut early, &mut late] {
        follower.until(Line::Watch, "what is true now", |view| *view == expected).await?;
    }
    Ok(())
}

/// Who does not read for a thousand changes is told the outcome, and held up nobody meanwhile.
pub(super) async fn a_slow_consumer_gets_state(stage: &Stage<'_>) -> Verdict {
    const NODES: usize = 5;
    let (owner, reader) = (stage.open().await, stage.open().await);
    let (mut slow, mut fast) =
        (stage.follow(&reader, "shop").await?, stage.follow(&reader, "shop").await?);
    for weight in 1..=SLOW_CHANGES {
        for node in 0..NODES {
            let changed = with_weight("shop", &format!("n{node}"), weight);
            stage.register(&owner, &changed, LONG).await?;
        }
        fast.pending();
    }
    let is_final =
        |view: &View| view.len() == NODES && view.iter().all(|r| r.node.weight == SLOW_CHANGES);
    fast.until(Line::SlowConsumer, "the outcome, beside a slow consumer", is_final).await?;
    let read = slow.until(Line::SlowConsumer, "the outcome of what it missed", is_final).await?;
    let (told, history) = (read.len(), NODES * usize::from(SLOW_CHANGES));
    ensure(Line::SlowConsumer, told <= history / 4, || {
        format!("a consumer that slept was told {told} of {history} changes of {NODES} nodes")
    })
}

/// Reads until there are exactly these nodes of `shop`, and has a watch begin with them.
async fn begins_as_read(
    stage: &Stage<'_>,
    written: Line,
    reader: &Handle,
    nodes: &[&Registration],
) -> Verdict {
    stage.until_nodes(written, reader, "shop", nodes).await?;
    let mut follower = stage.follow(reader, "shop").await?;
    let (found, expected) = (std::mem::take(&mut follower.view), view(nodes.iter().copied()));
    ensure(Line::Watch, found == expected, || {
        format!("get gave {expected:?}, the first reset of a later watch tells {found:?}")
    })
}

/// How often a later watch is opened, three times each, and for how long at most.
const JOINS: u16 = 33;
const ENOUGH: Duration = Duration::from_secs(1);
/// How many write at the same time.
const WRITERS: usize = 10;
/// How often each changes its node.
const LAST: u16 = 100;
/// How often the nodes of a slow consumer change.
const SLOW_CHANGES: u16 = 200;

async fn write_all(owner: Handle, registrations: Vec<Registration>) -> Verdict {
    for registration in registrations {
        if let Err(error) = owner.register(&registration, LONG).await {
            return broken(Line::Register, format!("register failed: {error:?}"));
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    Ok(())
}

async fn finish(mut writers: JoinSet<Verdict>) -> Verdict {
    while let Some(done) = writers.join_next().await {
        match done {
            Ok(verdict) => verdict?,
            Err(error) => return broken(Line::Register, format!("a writer failed: {error}")),
        }
    }
    Ok(())
}

/// Reads to the last change of every node, and sees to it that none ever goes back.
async fn until_last(follower: &mut Follower) -> Verdict {
    let mut seen = HashMap::new();
    let is_last = |view: &View| {
        view.len() == WRITERS && view.iter().all(|registration| registration.node.weight == LAST)
    };
    while !is_last(&follower.view) {
        follower.next(Line::Watch, "the last change of every node").await?;
        for registration in follower.view.iter() {
            let (id, weight) = (registration.node.id.clone(), registration.node.weight);
            let before = seen.insert(id, weight).unwrap_or(0);
            ensure(Line::Watch, before <= weight, || {
                format!("change {weight} of a node was told after its change {before}")
            })?;
        }
    }
    Ok(())
}
