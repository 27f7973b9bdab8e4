//! Register, deregister, get, list.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::time::Duration;

use micro_registry::{
    Endpoint, Endpoints, ErrorKind, NodeState, Registry, Scope, Update, View, encoding, validate,
};
use micro_registry_local::LocalRegistry;

use crate::{HOUR, config, directory, eventually, ids, kind, next, registration, registry, until};

fn namespace(directory: &Path) -> PathBuf {
    directory.join("micro/default")
}

fn files(directory: &Path, extension: &str) -> Vec<PathBuf> {
    let entries = fs::read_dir(namespace(directory)).unwrap();
    let paths = entries.map(|entry| entry.unwrap().path());
    paths.filter(|path| path.extension().is_some_and(|found| found == extension)).collect()
}

/// What one handle registers another finds, until it deregisters.
#[tokio::test]
async fn round_trip_between_handles() {
    let directory = directory();
    let (one, two) = (registry(directory.path()), registry(directory.path()));
    assert_eq!(kind(two.get("greeter").await), ErrorKind::NotFound);
    assert!(two.list().await.unwrap().is_empty());
    let registered = registration("greeter", "a", 1);
    one.register(&registered, HOUR).await.unwrap();
    let found = two.get("greeter").await.unwrap();
    assert_eq!(
        (found[0].version.as_str(), &found[0].nodes),
        ("1.0.0", &vec![registered.node.clone()])
    );
    let listed = two.list().await.unwrap();
    assert_eq!((listed[0].name.as_str(), listed[0].nodes), ("greeter", 1));
    one.deregister(&registered).await.unwrap();
    one.deregister(&registered).await.unwrap();
    assert_eq!(kind(two.get("greeter").await), ErrorKind::NotFound);
}

/// A name is never found by a longer or a shorter one.
#[tokio::test]
async fn prefixes_do_not_match() {
    let directory = directory();
    let registry = registry(directory.path());
    registry.register(&registration("hello2", "a", 1), HOUR).await.unwrap();
    for other in ["hello", "hello22", "ello2"] {
        assert_eq!(kind(registry.get(other).await), ErrorKind::NotFound, "{other}");
    }
    let mut watch = registry.watch(Scope::Service("hello".into())).await.unwrap();
    assert!(
        matches!(next(&mut watch).await, Update::Reset { registrations, .. } if registrations.is_empty())
    );
}

/// Handles of different namespaces do not see each other.
#[tokio::test]
async fn namespaces_are_separate() {
    let directory = directory();
    let mut other = config(directory.path());
    other.namespace = "shop".into();
    let (one, other) = (registry(directory.path()), LocalRegistry::new(other).unwrap());
    one.register(&registration("greeter", "a", 1), HOUR).await.unwrap();
    assert_eq!(kind(other.get("greeter").await), ErrorKind::NotFound);
    assert!(other.list().await.unwrap().is_empty());
}

/// An old process can neither replace nor remove its successor, which can replace it.
#[tokio::test]
async fn epochs_fence() {
    let directory = directory();
    let (old, new) = (registry(directory.path()), registry(directory.path()));
    old.register(&registration("greeter", "a", 1), HOUR).await.unwrap();
    new.register(&registration("greeter", "a", 2), HOUR).await.unwrap();
    let refused = old.register(&registration("greeter", "a", 1), HOUR).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Fenced);
    assert!(refused.to_string().contains("epoch 2, newer than 1"), "{refused}");
    old.deregister(&registration("greeter", "a", 1)).await.unwrap();
    assert_eq!(new.get("greeter").await.unwrap()[0].nodes[0].epoch, 2);
}

/// A node that leaves takes nothing from another one at the same address.
#[tokio::test]
async fn an_old_node_leaves_its_successor_at_the_same_address() {
    let directory = directory();
    let (old, new) = (registry(directory.path()), registry(directory.path()));
    old.register(&registration("greeter", "old", 1), HOUR).await.unwrap();
    new.register(&registration("greeter", "new", 2), HOUR).await.unwrap();
    old.deregister(&registration("greeter", "old", 1)).await.unwrap();
    assert_eq!(ids(&new, "greeter").await, ["new"]);
}

/// The dead do not fence: neither one whose owner is gone, nor one whose time is over.
#[tokio::test]
async fn the_dead_do_not_fence() {
    let directory = directory();
    let gone = registry(directory.path());
    gone.register(&registration("greeter", "a", 9), HOUR).await.unwrap();
    drop(gone);
    let (silent, new) = (registry(directory.path()), registry(directory.path()));
    new.register(&registration("greeter", "a", 3), HOUR).await.unwrap();
    silent.register(&registration("greeter", "b", 9), Duration::from_millis(1)).await.unwrap();
    eventually("b expires", async || ids(&new, "greeter").await == ["a"]).await;
    new.register(&registration("greeter", "b", 3), HOUR).await.unwrap();
    assert_eq!(ids(&new, "greeter").await, ["a", "b"]);
}

/// A renewal writes no data: the file stays the same, only its time moves.
#[tokio::test]
async fn a_renewal_writes_no_data() {
    let directory = directory();
    let registry = registry(directory.path());
    let registered = registration("greeter", "a", 1);
    registry.register(&registered, HOUR).await.unwrap();
    let before = fs::metadata(&files(directory.path(), "json")[0]).unwrap();
    registry.register(&registered, HOUR).await.unwrap();
    let after = fs::metadata(&files(directory.path(), "json")[0]).unwrap();
    assert_eq!(before.ino(), after.ino());
    assert!(before.modified().unwrap() < after.modified().unwrap());
    registry.register(&registered, HOUR * 2).await.unwrap();
    let longer = fs::metadata(&files(directory.path(), "json")[0]).unwrap();
    assert_ne!(longer.ino(), after.ino(), "another ttl is another content");
}

/// A renewal keeps a node beyond its TTL; without one it goes, though its owner lives.
#[tokio::test]
async fn renewals_keep_a_node() {
    let directory = directory();
    let registry = registry(directory.path());
    let ttl = Duration::from_millis(400);
    registry.register(&registration("greeter", "b", 1), ttl).await.unwrap();
    eventually("b goes, a stays", async || {
        registry.register(&registration("greeter", "a", 1), HOUR).await.unwrap();
        ids(&registry, "greeter").await == ["a"]
    })
    .await;
}

/// Changed content in any field is found, with nothing left of the old.
#[tokio::test]
async fn changed_content_is_found() {
    let directory = directory();
    let registry = registry(directory.path());
    let mut changing = registration("greeter", "a", 1);
    registry.register(&changing, HOUR).await.unwrap();
    changing.node.state = NodeState::Draining;
    changing.metadata.insert("k".into(), "v".into());
    registry.register(&changing, HOUR).await.unwrap();
    let found = registry.get("greeter").await.unwrap();
    assert_eq!((&found[0].nodes[0], &found[0].metadata), (&changing.node, &changing.metadata));
}

/// The longest record that is taken is found again; a longer one is refused, not left unreadable.
#[tokio::test]
async fn what_is_registered_can_be_read() {
    let directory = directory();
    let registry = registry(directory.path());
    let with_doc = |length: usize| {
        let mut endpoint = Endpoint::new("greeter", "hello");
        endpoint.doc = "x".repeat(length);
        let mut long = registration("greeter", "a", 1);
        long.endpoints = Endpoints::Listed(vec![endpoint]);
        long
    };
    let room = validate::MAX_RECORD_BYTES - encoding::encode(&with_doc(1)).len() + 1;
    assert_eq!(kind(registry.register(&with_doc(room + 1), HOUR).await), ErrorKind::Invalid);
    assert!(ids(&registry, "greeter").await.is_empty());
    registry.register(&with_doc(room), HOUR).await.unwrap();
    assert_eq!(registry.get("greeter").await.unwrap()[0].endpoints, with_doc(room).endpoints);
}

/// What is damaged or not ours is left out, and harms nobody else.
#[tokio::test]
async fn damaged_files_are_skipped() {
    let directory = directory();
    let registry = registry(directory.path());
    registry.register(&registration("greeter", "a", 1), HOUR).await.unwrap();
    let namespace = namespace(directory.path());
    for (name, content) in [
        ("greeter@broken.json", &b"{\"owner\":"[..]),
        ("greeter@binary.json", b"\xff\x00"),
        ("greeter@left.left", b"?"),
        ("README", b"hello"),
        ("not-a-uuid.lock", b""),
    ] {
        fs::write(namespace.join(name), content).unwrap();
    }
    fs::create_dir(namespace.join("greeter@directory.json")).unwrap();
    symlink("greeter@a.json", namespace.join("greeter@symlink.json")).unwrap();
    assert_eq!(ids(&registry, "greeter").await, ["a"]);
    assert_eq!(registry.list().await.unwrap().len(), 1);
    let mut watch = registry.watch(Scope::All).await.unwrap();
    let seen = until(&mut watch, &mut View::new(), |view| view.len() == 1).await;
    assert_eq!(seen.len(), 1);
    registry.register(&registration("greeter", "broken", 1), HOUR).await.unwrap();
    assert_eq!(ids(&registry, "greeter").await, ["a", "broken"]);
}

/// A directory others could reach into is refused by every call, saying what would be right.
#[tokio::test]
async fn unsafe_directories_are_refused() {
    let directory = directory();
    let open = registry(directory.path());
    open.register(&registration("greeter", "a", 1), HOUR).await.unwrap();
    let mode = |mode| fs::Permissions::from_mode(mode);
    fs::set_permissions(directory.path().join("micro"), mode(0o755)).unwrap();
    assert_eq!(
        kind(open.register(&registration("greeter", "a", 1), HOUR).await),
        ErrorKind::Denied
    );
    assert_eq!(kind(open.get("greeter").await), ErrorKind::Denied);
    assert_eq!(kind(open.list().await), ErrorKind::Denied);
    assert_eq!(kind(open.deregister(&registration("greeter", "a", 1)).await), ErrorKind::Denied);
    let text = open.get("greeter").await.unwrap_err().to_string();
    assert!(text.contains("micro is open to other users (mode 0755): expected 0700"), "{text}");

    fs::set_permissions(directory.path().join("micro"), mode(0o700)).unwrap();
    symlink(directory.path().join("micro"), directory.path().join("link")).unwrap();
    let mut config = config(directory.path());
    config.directory = directory.path().join("link");
    let linked = LocalRegistry::new(config).unwrap();
    let error = linked.register(&registration("greeter", "a", 1), HOUR).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Denied);
    assert!(error.to_string().contains("link is a symbolic link"), "{error}");
}

/// A thousand nodes of one handle have one lock between them, and are all found.
#[tokio::test]
async fn a_thousand_nodes_have_one_lock() {
    let directory = directory();
    let registry = registry(directory.path());
    for id in 0..1_000 {
        registry.register(&registration("greeter", &format!("n{id}"), 1), HOUR).await.unwrap();
    }
    assert_eq!(ids(&registry, "greeter").await.len(), 1_000);
    assert_eq!(files(directory.path(), "lock").len(), 1);
    let mut watch = registry.watch(Scope::All).await.unwrap();
    until(&mut watch, &mut View::new(), |view| view.len() == 1_000).await;
}

/// Many at once, from several handles, are neither lost nor refused.
#[tokio::test(flavor = "multi_thread")]
async fn concurrent_registrations() {
    let directory = directory();
    let handles: Vec<_> = (0..4).map(|_| registry(directory.path())).collect();
    let mut all = tokio::task::JoinSet::new();
    for id in 0..200 {
        let handle = handles[id % handles.len()].clone();
        all.spawn(async move {
            handle.register(&registration("greeter", &format!("n{id}"), 1), HOUR).await
        });
    }
    while let Some(registered) = all.join_next().await {
        registered.unwrap().unwrap();
    }
    assert_eq!(ids(&handles[0], "greeter").await.len(), 200);
}

/// What the dead left is removed by whoever registers next: nodes, locks; not what lives.
#[tokio::test]
async fn leftovers_are_collected() {
    let directory = directory();
    let dead = registry(directory.path());
    dead.register(&registration("greeter", "dead", 1), HOUR).await.unwrap();
    drop(dead);
    assert_eq!(files(directory.path(), "json").len(), 1);
    let living = registry(directory.path());
    living.register(&registration("greeter", "living", 1), HOUR).await.unwrap();
    let names = |extension| files(directory.path(), extension).len();
    assert_eq!((names("json"), names("lock"), names("left")), (1, 1, 1));
    assert_eq!(ids(&living, "greeter").await, ["living"]);
}
