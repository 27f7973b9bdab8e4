//! Lines 5 and 11: what there is, what there is not, and what cannot be told.

use micro_registry::{ErrorKind, View};

use crate::Line;
use crate::sample::{fixture, registration, scope, view};
use crate::stage::{LONG, Stage, Verdict, broken, ensure, ensure_kind};

/// A name nobody registered is `NotFound`, on an empty store and beside others.
pub(super) async fn unknown_is_not_found(stage: &Stage<'_>) -> Verdict {
    let empty = stage.open().await;
    ensure_kind(Line::Lookup, "get", empty.get("nobody").await, ErrorKind::NotFound)?;
    let furnished = stage.open_furnished().await?;
    ensure_kind(Line::Lookup, "get", furnished.get("nobody").await, ErrorKind::NotFound)?;
    Ok(())
}

/// A lookup made too early does not hide the service that comes into being after it.
pub(super) async fn a_miss_is_not_remembered(stage: &Stage<'_>) -> Verdict {
    let (owner, other) = (stage.open().await, stage.open().await);
    let node = registration("shop", "a");
    for registry in [&owner, &other] {
        ensure_kind(Line::Lookup, "get", registry.get("shop").await, ErrorKind::NotFound)?;
    }
    stage.register(&owner, &node, LONG).await?;
    stage.until_nodes(Line::Lookup, &owner, "shop", &[&node]).await?;
    stage.until_nodes(Line::Lookup, &other, "shop", &[&node]).await
}

/// A service whose last node left is `NotFound`, and not in the list.
pub(super) async fn the_last_node_left(stage: &Stage<'_>) -> Verdict {
    let registry = stage.open().await;
    let node = registration("shop", "a");
    stage.register(&registry, &node, LONG).await?;
    stage.until_nodes(Line::Register, &registry, "shop", &[&node]).await?;
    stage.deregister(&registry, &node).await?;
    stage.until_nodes(Line::Deregister, &registry, "shop", &[]).await?;
    ensure_kind(Line::Lookup, "get", registry.get("shop").await, ErrorKind::NotFound)?;
    let list = registry.list().await;
    let is_empty = list.as_ref().is_ok_and(Vec::is_empty);
    ensure(Line::Lookup, is_empty, || format!("list gives {list:?}"))
}

/// The list has every service by name, with its versions and the number of its nodes.
pub(super) async fn the_list_is_complete(stage: &Stage<'_>) -> Verdict {
    let registry = stage.open_furnished().await?;
    let expected = view(&fixture()).list();
    stage
        .eventually(Line::Lookup, &format!("list gives {expected:?}"), async || {
            match registry.list().await {
                Ok(list) => Ok(list == expected),
                Err(error) => broken(Line::Lookup, format!("list failed: {error:?}")),
            }
        })
        .await
}

/// A store that can be reached and holds nothing has an empty list.
pub(super) async fn an_empty_list_is_no_error(stage: &Stage<'_>) -> Verdict {
    let list = stage.open().await.list().await;
    let is_empty = list.as_ref().is_ok_and(Vec::is_empty);
    ensure(Line::Lookup, is_empty, || format!("list of an empty store gives {list:?}"))
}

/// A store that cannot be reached is `Unavailable` for every call, and nothing else.
pub(super) async fn unreachable_is_unavailable(stage: &Stage<'_>) -> Verdict {
    let faults = stage.faults()?;
    let registry = stage.open_furnished().await?;
    let [node, ..] = &fixture()[..] else { return Ok(()) };
    faults.interrupt().await?;
    let away = ErrorKind::Unavailable;
    let error = ensure_kind(Line::Lookup, "get", registry.get("hello").await, away)?;
    ensure(Line::Errors, error.is_retryable(), || format!("{error:?} is not retryable"))?;
    ensure_kind(Line::Lookup, "get of an unknown", registry.get("nobody").await, away)?;
    ensure_kind(Line::Lookup, "list", registry.list().await, away)?;
    ensure_kind(Line::Lookup, "register", registry.register(node, LONG).await, away)?;
    ensure_kind(Line::Lookup, "deregister", registry.deregister(node).await, away)?;
    faults.restore().await?;
    stage
        .eventually(Line::Lookup, "get answers again", async || {
            Ok(registry.get("hello").await.is_ok())
        })
        .await
}

/// A record that cannot be read hides its node and nothing else, and is healed by the next
/// registration.
pub(super) async fn a_corrupt_record_hides_only_itself(stage: &Stage<'_>) -> Verdict {
    let (registry, faults) = (stage.open().await, stage.faults()?);
    let (bad, good) = (registration("shop", "bad"), registration("shop", "good"));
    stage.register(&registry, &bad, LONG).await?;
    stage.register(&registry, &good, LONG).await?;
    faults.corrupt("shop", "bad").await?;
    stage.until_nodes(Line::Lookup, &registry, "shop", &[&good]).await?;
    let mut follower = stage.watch(&registry, scope("shop")).await?;
    let expected = view([&good]);
    follower.until(Line::Lookup, "the intact node", |view| *view == expected).await?;
    stage.register(&registry, &bad, LONG).await?;
    stage.until_nodes(Line::Register, &registry, "shop", &[&bad, &good]).await?;
    follower.until(Line::Register, "both nodes", |view| view.len() == 2).await?;
    Ok(())
}

/// A name is not found by a part of it, nor by a longer one.
pub(super) async fn a_prefix_is_another_name(stage: &Stage<'_>) -> Verdict {
    let registry = stage.open_furnished().await?;
    for service in ["hello", "hello2"] {
        let expected = view(&fixture()).service(service);
        let what = format!("get of {service:?} gives its own nodes and no other's");
        stage
            .eventually(Line::Names, &what, async || {
                Ok(stage.get(&registry, service).await? == expected)
            })
            .await?;
        let mut follower = stage.watch(&registry, scope(service)).await?;
        let is_told = |view: &View| view.service(service) == expected;
        follower.until(Line::Watch, "its own nodes", is_told).await?;
        let found = follower.view.list();
        ensure(Line::Names, found.len() == 1, || {
            format!("a watch of {service:?} tells {found:?}")
        })?;
    }
    for part in ["hell", "ello", "hello.", "hello22", "hello-2", "h"] {
        let found = stage.get(&registry, part).await?;
        ensure(Line::Names, found.is_empty(), || format!("get of {part:?} gives {found:?}"))?;
    }
    Ok(())
}

/// Node ids of which one begins like the other are two nodes.
pub(super) async fn an_id_is_not_its_prefix(stage: &Stage<'_>) -> Verdict {
    let registry = stage.open().await;
    let nodes = ["a", "a.b", "a2", "A"].map(|id| registration("shop", id));
    for node in &nodes {
        stage.register(&registry, node, LONG).await?;
    }
    let [a, dotted, longer, upper] = &nodes;
    stage.until_nodes(Line::Names, &registry, "shop", &[upper, a, dotted, longer]).await?;
    stage.deregister(&registry, a).await?;
    stage.until_nodes(Line::Names, &registry, "shop", &[upper, dotted, longer]).await
}

/// Handles of different namespaces see nothing of each other, one name a part of the other or not.
pub(super) async fn namespaces_are_apart(stage: &Stage<'_>) -> Verdict {
    let (one, longer) = (stage.open_in("team").await, stage.open_in("team2").await);
    let (here, there) = (registration("shop", "here"), registration("shop", "there"));
    stage.register(&one, &here, LONG).await?;
    stage.register(&longer, &there, LONG).await?;
    stage.until_nodes(Line::Names, &one, "shop", &[&here]).await?;
    stage.until_nodes(Line::Names, &longer, "shop", &[&there]).await?;
    let mut follower = stage.watch(&one, scope("shop")).await?;
    follower.until(Line::Watch, "its own node", |view| !view.is_empty()).await?;
    stage.deregister(&longer, &here).await?;
    stage.until_nodes(Line::Names, &one, "shop", &[&here]).await?;
    let found = &follower.view;
    ensure(Line::Names, *found == view([&here]), || format!("a watch tells {found:?}"))
}
