//! Between processes: seen, killed, stopped, continued.

use std::time::Duration;

use micro_registry::{EmptyReason, ErrorKind, Registry, RemoveReason, Update, View};
use rustix::process::Signal;

use crate::child::Other;
use crate::{HOUR, directory, eventually, greeter, ids, kind, next, registration, registry, until};

/// What another process registers is seen here; it is killed, and is gone at once though its TTL
/// is an hour.
#[tokio::test]
async fn a_killed_process_is_told() {
    let directory = directory();
    let registry = registry(directory.path());
    let mut watch = registry.watch(greeter()).await.unwrap();
    let mut view = View::new();
    next(&mut watch).await;
    let mut other = Other::registers(directory.path(), HOUR);
    until(&mut watch, &mut view, |view| view.len() == 1).await;
    assert_eq!(ids(&registry, "greeter").await, ["other"]);
    other.kill();
    let updates = until(&mut watch, &mut view, View::is_empty).await;
    assert!(
        matches!(&updates[..], [Update::Remove { id, epoch: 5, reason: RemoveReason::Expired, .. }] if id == "other"),
        "{updates:?}"
    );
    assert_eq!(kind(registry.get("greeter").await), ErrorKind::NotFound);
    let mut late = registry.watch(greeter()).await.unwrap();
    assert_eq!(next(&mut late).await, Update::reset(vec![], EmptyReason::AllExpired));
}

/// A killed process fences nobody, and what it left is collected by who watches.
#[tokio::test]
async fn a_killed_process_is_collected() {
    let directory = directory();
    let mut other = Other::registers(directory.path(), HOUR);
    other.kill();
    let registry = registry(directory.path());
    let _watch = registry.watch(greeter()).await.unwrap();
    let namespace = directory.path().join("micro/default");
    eventually("its node file is removed", async || {
        !namespace.join("greeter@other.json").exists()
            && namespace.join("greeter@other.left").exists()
    })
    .await;
    registry.register(&registration("greeter", "other", 1), HOUR).await.unwrap();
    assert!(!namespace.join("greeter@other.left").exists());
}

/// A stopped process is gone after its TTL and back when it continues; while it lives it fences.
#[tokio::test]
async fn a_stopped_process_comes_back() {
    let directory = directory();
    let registry = registry(directory.path());
    let mut watch = registry.watch(greeter()).await.unwrap();
    let mut view = View::new();
    let other = Other::registers(directory.path(), Duration::from_millis(1_500));
    until(&mut watch, &mut view, |view| view.len() == 1).await;
    let fenced = registry.register(&registration("greeter", "other", 4), HOUR).await;
    assert_eq!(kind(fenced), ErrorKind::Fenced);
    registry.deregister(&registration("greeter", "other", 4)).await.unwrap();
    other.signal(Signal::STOP);
    let updates = until(&mut watch, &mut view, View::is_empty).await;
    assert!(matches!(updates.last(), Some(Update::Remove { reason: RemoveReason::Expired, .. })));
    assert!(ids(&registry, "greeter").await.is_empty());
    other.signal(Signal::CONT);
    until(&mut watch, &mut view, |view| view.len() == 1).await;
    assert_eq!(ids(&registry, "greeter").await, ["other"]);
}

/// A process stopped while it writes holds up writers, in time and in words, but no renewals.
#[tokio::test]
async fn a_held_guard_lets_renewals_through() {
    let directory = directory();
    let registry = registry(directory.path());
    registry.register(&registration("greeter", "a", 1), HOUR).await.unwrap();
    let mut other = Other::start("guard", directory.path(), HOUR);
    registry.register(&registration("greeter", "a", 1), HOUR).await.unwrap();
    let error = registry.register(&registration("greeter", "b", 1), HOUR).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    assert!(error.to_string().contains("held by another process"), "{error}");
    other.kill();
    registry.register(&registration("greeter", "b", 1), HOUR).await.unwrap();
}

/// With the last watch its feeder ends and releases the inotify instance; the next starts anew.
#[cfg(target_os = "linux")]
#[tokio::test(flavor = "multi_thread")]
async fn the_last_watch_stops_the_feeder() {
    let directory = directory();
    let path = directory.path().to_owned();
    tokio::task::spawn_blocking(move || Other::start("watch", &path, HOUR)).await.unwrap();
}
