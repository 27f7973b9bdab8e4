//! What watches are told.

use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use micro_registry::{EmptyReason, Registry, RemoveReason, Scope, Update, View};
use micro_registry_local::LocalRegistry;

use crate::{
    HOUR, config, directory, eventually, greeter, ids, next, registration, registry, until,
};

fn empty(reason: EmptyReason) -> Update {
    Update::reset(vec![], reason)
}

/// First everything, then changes; renewals are silent.
#[tokio::test]
async fn everything_then_changes() {
    let directory = directory();
    let (one, two) = (registry(directory.path()), registry(directory.path()));
    let mut early = two.watch(greeter()).await.unwrap();
    assert_eq!(next(&mut early).await, empty(EmptyReason::NeverSeen));
    let mut changing = registration("greeter", "a", 1);
    one.register(&changing, HOUR).await.unwrap();
    one.register(&registration("other", "x", 1), HOUR).await.unwrap();
    assert_eq!(next(&mut early).await, Update::Put(Arc::new(changing.clone())));
    one.register(&changing, HOUR).await.unwrap();
    changing.node.weight = 7;
    one.register(&changing, HOUR).await.unwrap();
    assert_eq!(next(&mut early).await, Update::Put(Arc::new(changing.clone())));
    let mut late = two.watch(greeter()).await.unwrap();
    let everything = Update::reset(vec![Arc::new(changing)], EmptyReason::Unknown);
    assert_eq!(next(&mut late).await, everything);
}

/// A goodbye is told as one, to those who watch and to those who come later.
#[tokio::test]
async fn a_goodbye_is_told() {
    let directory = directory();
    let (one, two) = (registry(directory.path()), registry(directory.path()));
    one.register(&registration("greeter", "a", 4), HOUR).await.unwrap();
    let mut watch = two.watch(greeter()).await.unwrap();
    assert!(matches!(next(&mut watch).await, Update::Reset { empty: None, .. }));
    one.deregister(&registration("greeter", "a", 4)).await.unwrap();
    let goodbye = Update::remove(&registration("greeter", "a", 4), RemoveReason::Deregistered);
    assert_eq!(next(&mut watch).await, goodbye);
    for registry in [&two, &registry(directory.path())] {
        let mut late = registry.watch(greeter()).await.unwrap();
        assert_eq!(next(&mut late).await, empty(EmptyReason::AllDeregistered));
        let mut other = registry.watch(Scope::Service("other".into())).await.unwrap();
        assert_eq!(next(&mut other).await, empty(EmptyReason::NeverSeen));
    }
}

/// Who is not renewed is told as expired, its neighbour in the same process stays.
#[tokio::test]
async fn an_expiry_is_told() {
    let directory = directory();
    let registry = registry(directory.path());
    let mut watch = registry.watch(greeter()).await.unwrap();
    next(&mut watch).await;
    registry.register(&registration("greeter", "stays", 1), HOUR).await.unwrap();
    registry.register(&registration("greeter", "goes", 1), Duration::from_secs(2)).await.unwrap();
    let mut view = View::new();
    until(&mut watch, &mut view, |view| view.len() == 2).await;
    let updates = until(&mut watch, &mut view, |view| view.len() == 1).await;
    assert!(
        matches!(&updates[..], [Update::Remove { id, reason: RemoveReason::Expired, .. }] if id == "goes"),
        "{updates:?}"
    );
}

/// A handle that is dropped takes its nodes with it, and a lower epoch may follow and is seen.
#[tokio::test]
async fn a_handle_that_is_dropped_expires() {
    let directory = directory();
    let (one, two) = (registry(directory.path()), registry(directory.path()));
    one.register(&registration("greeter", "a", 5), HOUR).await.unwrap();
    let mut watch = two.watch(greeter()).await.unwrap();
    next(&mut watch).await;
    drop(one);
    assert!(matches!(next(&mut watch).await, Update::Remove { reason: RemoveReason::Expired, .. }));
    let lower = registration("greeter", "a", 2);
    two.register(&lower, HOUR).await.unwrap();
    assert_eq!(next(&mut watch).await, Update::Put(Arc::new(lower)));
}

/// Without notifications everything is seen all the same, by looking again.
#[tokio::test]
async fn rescans_alone_suffice() {
    let directory = directory();
    let mut config = config(directory.path());
    config.use_notify = false;
    config.rescan_interval = Duration::from_millis(50);
    let (one, two) = (registry(directory.path()), LocalRegistry::new(config).unwrap());
    let mut watch = two.watch(greeter()).await.unwrap();
    let mut view = View::new();
    next(&mut watch).await;
    one.register(&registration("greeter", "a", 1), HOUR).await.unwrap();
    one.register(&registration("greeter", "b", 1), HOUR).await.unwrap();
    until(&mut watch, &mut view, |view| view.len() == 2).await;
    one.deregister(&registration("greeter", "b", 1)).await.unwrap();
    let left = until(&mut watch, &mut view, |view| view.len() == 1).await;
    assert!(
        matches!(left[..], [Update::Remove { reason: RemoveReason::Deregistered, .. }]),
        "{left:?}"
    );
    drop(one);
    let left = until(&mut watch, &mut view, View::is_empty).await;
    assert!(matches!(left[..], [Update::Remove { reason: RemoveReason::Expired, .. }]), "{left:?}");
}

/// A watch ends with its registry, and only then.
#[tokio::test]
async fn a_watch_ends_with_its_registry() {
    let directory = directory();
    let registry = registry(directory.path());
    let clone = registry.clone();
    let mut watch = registry.watch(Scope::All).await.unwrap();
    next(&mut watch).await;
    drop(registry);
    clone.register(&registration("greeter", "a", 1), HOUR).await.unwrap();
    assert!(matches!(next(&mut watch).await, Update::Put(_)));
    drop(clone);
    let end = tokio::time::timeout(crate::PATIENCE, watch.next()).await.unwrap();
    assert_eq!(end, None);
}

/// Watches that open amid changes miss none: what they tell leads to what is true.
#[tokio::test(flavor = "multi_thread")]
async fn opening_amid_changes() {
    let directory = directory();
    let one = registry(directory.path());
    let writing = tokio::spawn(async move {
        for round in 0..200 {
            let node = registration("greeter", &format!("n{round:03}"), 1);
            one.register(&node, HOUR).await.unwrap();
            if round % 2 == 0 {
                one.deregister(&node).await.unwrap();
            }
        }
        one
    });
    let mut watches = vec![];
    while !writing.is_finished() && watches.len() < 20 {
        // A handle for each, so that each opens the directory.
        let two = registry(directory.path());
        let mut watch = two.watch(greeter()).await.unwrap();
        let mut view = View::new();
        view.apply(&next(&mut watch).await);
        watches.push((two, watch, view));
    }
    let one = writing.await.unwrap();
    let truth = ids(&one, "greeter").await;
    for (_, watch, view) in &mut watches {
        let is_true = |view: &View| view.iter().map(|r| &r.node.id).eq(&truth);
        until(watch, view, is_true).await;
    }
}

/// A thousand watches of names nobody registered share one task, and leave nothing behind.
#[tokio::test]
async fn unknown_names_leave_nothing() {
    let directory = directory();
    let registry = registry(directory.path());
    let mut watches = vec![];
    for name in 0..1_000 {
        let name = format!("s{name}");
        watches.push(registry.watch(Scope::Service(name.clone())).await.unwrap());
        assert!(ids(&registry, &name).await.is_empty());
    }
    let tasks = || tokio::runtime::Handle::current().metrics().num_alive_tasks();
    for watch in &mut watches {
        assert_eq!(next(watch).await, empty(EmptyReason::NeverSeen));
    }
    assert_eq!(tasks(), 1);
    drop(watches);
    eventually("the task ends", async || tasks() == 0).await;
}

/// All that die at once are told of, each, and a node beside them stays.
#[tokio::test]
async fn a_mass_death_is_told_in_full() {
    let directory = directory();
    let (dying, living) = (registry(directory.path()), registry(directory.path()));
    for id in 0..300 {
        dying.register(&registration("greeter", &format!("n{id}"), 1), HOUR).await.unwrap();
    }
    living.register(&registration("greeter", "stays", 1), HOUR).await.unwrap();
    let mut watch = living.watch(greeter()).await.unwrap();
    let mut view = View::new();
    until(&mut watch, &mut view, |view| view.len() == 301).await;
    drop(dying);
    let updates = until(&mut watch, &mut view, |view| view.len() == 1).await;
    let is_expiry = |u: &Update| matches!(u, Update::Remove { reason: RemoveReason::Expired, .. });
    assert!(updates.len() == 300 && updates.iter().all(is_expiry), "{updates:?}");
    assert_eq!(ids(&living, "greeter").await, ["stays"]);
}

/// A thousand changes one after the other end in what is true.
#[tokio::test(flavor = "multi_thread")]
async fn many_changes() {
    let directory = directory();
    let (one, two) = (registry(directory.path()), registry(directory.path()));
    let mut watch = two.watch(Scope::All).await.unwrap();
    let mut view = View::new();
    for round in 0..5u16 {
        for id in 0..200 {
            let mut changing = registration("greeter", &format!("n{id}"), 1);
            changing.node.weight = round;
            one.register(&changing, HOUR).await.unwrap();
        }
    }
    until(&mut watch, &mut view, |view| {
        view.len() == 200 && view.iter().all(|registration| registration.node.weight == 4)
    })
    .await;
}
