//! Line 14: size.

use futures::{StreamExt, stream};
use micro_registry::{Registration, View};

use crate::Line;
use crate::sample::{fixture, scope, view, with_weight};
use crate::stage::{Handle, LONG, Stage, Verdict, broken, ensure};

/// As many nodes as are promised are all in `get`, in the list, in a reset, and a thousand changes
/// and goodbyes of them are all told.
pub(super) async fn many_nodes(stage: &Stage<'_>) -> Verdict {
    let (owner, reader) = (stage.open().await, stage.open().await);
    let count = stage.profile.max_nodes;
    let changed = count.min(1_000);
    let mut nodes: Vec<_> =
        (0..count).map(|i| with_weight("shop", &format!("n{i:05}"), 1)).collect();
    let mut early = stage.follow(&reader, "shop").await?;
    register_all(&owner, &nodes).await?;
    is_there(stage, &reader, &nodes).await?;
    let expected = view(&nodes);
    let what = format!("{count} nodes");
    early.until(Line::Scale, &what, |view| *view == expected).await?;
    let mut late = stage.follow(&reader, "shop").await?;
    late.until(Line::Scale, &what, |view| *view == expected).await?;

    for node in &mut nodes[..changed] {
        node.node.weight = 2;
    }
    register_all(&owner, &nodes[..changed]).await?;
    let expected = view(&nodes);
    for follower in [&mut early, &mut late] {
        follower.until(Line::Scale, "a thousand changes", |view| *view == expected).await?;
    }
    for node in nodes.drain(..changed.min(count / 2)) {
        stage.deregister(&owner, &node).await?;
    }
    let left = nodes.len();
    for follower in [&mut early, &mut late] {
        follower.until(Line::Scale, "a thousand goodbyes", |view| view.len() == left).await?;
    }
    is_there(stage, &reader, &nodes).await
}

/// As many watches as are promised on one handle each tell what is theirs.
pub(super) async fn many_watches(stage: &Stage<'_>) -> Verdict {
    let registry = stage.open_furnished().await?;
    let mut followers = vec![];
    for i in 0..stage.profile.max_watches {
        let service = if i % 2 == 0 { "hello".to_owned() } else { format!("s{i}") };
        followers.push((stage.watch(&registry, scope(&service)).await?, service));
    }
    let hello = view(fixture().iter().filter(|r| r.service == "hello"));
    for (follower, service) in &mut followers {
        follower.first_reset().await?;
        let expected = if service == "hello" { hello.clone() } else { View::new() };
        follower.until(Line::Scale, "what there is", |view| *view == expected).await?;
    }
    if !stage.profile.writes {
        return Ok(());
    }
    let nodes: Vec<_> = followers.iter().map(|(_, service)| with_weight(service, "n", 1)).collect();
    register_all(&registry, &nodes).await?;
    for (follower, service) in &mut followers {
        let is_told = |view: &View| view.node(service, "n").is_some();
        follower.until(Line::Scale, "a node that joined", is_told).await?;
        let services = follower.view.list().len();
        ensure(Line::Names, services == 1, || {
            format!("a watch of {service:?} tells {services} services")
        })?;
    }
    Ok(())
}

async fn is_there(stage: &Stage<'_>, registry: &Handle, nodes: &[Registration]) -> Verdict {
    let (expected, count) = (view(nodes), nodes.len());
    let what = format!("get and list tell of {count} nodes");
    stage
        .eventually(Line::Scale, &what, async || {
            let found = stage.get(registry, "shop").await?;
            let list = registry.list().await;
            let listed = list.is_ok_and(|list| list == expected.list());
            Ok(listed && found == expected.service("shop"))
        })
        .await
}

/// Many at a time, as many processes would.
async fn register_all(registry: &Handle, registrations: &[Registration]) -> Verdict {
    const AT_ONCE: usize = 64;
    let register = |registration| registry.register(registration, LONG);
    let mut done = stream::iter(registrations).map(register).buffer_unordered(AT_ONCE);
    while let Some(registered) = done.next().await {
        if let Err(error) = registered {
            return broken(Line::Scale, format!("one of many failed to register: {error:?}"));
        }
    }
    Ok(())
}
