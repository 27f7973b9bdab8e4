//! What happens to the directory while the registry is used.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

use micro_registry::{EmptyReason, ErrorKind, Registry, Update, View};
use micro_registry_local::LocalRegistry;

use crate::child::Other;
use crate::{HOUR, config, directory, greeter, ids, kind, next, registration, registry, until};

/// The directory is removed: watches are told that nothing is known, not that nodes left; the next
/// renewal makes all anew, and they are told afresh.
#[tokio::test(flavor = "multi_thread")]
async fn the_directory_is_removed() {
    let directory = directory();
    let (one, two) = (registry(directory.path()), registry(directory.path()));
    let registered = registration("greeter", "a", 1);
    one.register(&registered, HOUR).await.unwrap();
    let mut watch = two.watch(greeter()).await.unwrap();
    assert!(matches!(next(&mut watch).await, Update::Reset { empty: None, .. }));
    fs::remove_dir_all(directory.path().join("micro")).unwrap();
    let first = next(&mut watch).await;
    assert!(
        matches!(&first, Update::Stale { cause, .. } if cause.contains("was removed")),
        "{first:?}"
    );
    assert_eq!(next(&mut watch).await, Update::reset(vec![], EmptyReason::Unknown));
    one.register(&registered, HOUR).await.unwrap();
    assert!(matches!(next(&mut watch).await, Update::Put(_)));
    assert_eq!(ids(&two, "greeter").await, ["a"]);
}

/// An outage is logged once when it begins and once when it ends, however long it lasts.
#[tokio::test(flavor = "multi_thread")]
async fn an_outage_is_logged_once() {
    let directory = directory();
    let path = directory.path().to_owned();
    tokio::task::spawn_blocking(move || Other::start("log", &path, HOUR)).await.unwrap();
}

/// A damaged file is warned of once, however often it is written and read, with what would be right.
#[tokio::test(flavor = "multi_thread")]
async fn damaged_files_are_logged_once() {
    let directory = directory();
    let path = directory.path().to_owned();
    tokio::task::spawn_blocking(move || Other::start("damage", &path, HOUR)).await.unwrap();
}

/// The directory is removed and made anew by a renewal at once: nobody is told that a node left.
#[tokio::test(flavor = "multi_thread")]
async fn the_directory_is_replaced() {
    let directory = directory();
    let (one, two) = (registry(directory.path()), registry(directory.path()));
    let registered = registration("greeter", "a", 1);
    one.register(&registered, HOUR).await.unwrap();
    let mut watch = two.watch(greeter()).await.unwrap();
    next(&mut watch).await;
    fs::rename(directory.path().join("micro/default"), directory.path().join("away")).unwrap();
    one.register(&registered, HOUR).await.unwrap();
    loop {
        match next(&mut watch).await {
            Update::Stale { .. } => {}
            Update::Reset { empty: None, .. } => break,
            other => panic!("{other:?}"),
        }
    }
    let mut changed = registered;
    changed.node.weight = 3;
    one.register(&changed, HOUR).await.unwrap();
    assert!(matches!(next(&mut watch).await, Update::Put(_)));
}

/// A file in the place of the directory makes calls unavailable and watches stale, until it goes.
#[tokio::test]
async fn the_directory_becomes_a_file() {
    let directory = directory();
    let registry = registry(directory.path());
    let registered = registration("greeter", "a", 1);
    registry.register(&registered, HOUR).await.unwrap();
    let mut watch = registry.watch(greeter()).await.unwrap();
    next(&mut watch).await;
    let root = directory.path().join("micro");
    fs::remove_dir_all(&root).unwrap();
    // The feeder may have made it again in between.
    while fs::write(&root, "in the way").is_err() {
        let _ = fs::remove_dir_all(&root);
    }
    assert_eq!(kind(registry.register(&registered, HOUR).await), ErrorKind::Unavailable);
    assert_eq!(kind(registry.deregister(&registered).await), ErrorKind::Unavailable);
    assert_eq!(kind(registry.get("greeter").await), ErrorKind::Unavailable);
    assert_eq!(kind(registry.list().await), ErrorKind::Unavailable);
    while !matches!(next(&mut watch).await, Update::Stale { .. }) {}
    let mut late = registry.watch(greeter()).await.unwrap();
    assert!(matches!(next(&mut late).await, Update::Stale { .. }));
    fs::remove_file(&root).unwrap();
    registry.register(&registered, HOUR).await.unwrap();
    for watch in [&mut watch, &mut late] {
        until(watch, &mut View::new(), |view| view.len() == 1).await;
    }
}

/// A directory opened to others makes watches stale, until it is private again.
#[tokio::test]
async fn the_directory_becomes_unsafe() {
    let directory = directory();
    let registry = registry(directory.path());
    registry.register(&registration("greeter", "a", 1), HOUR).await.unwrap();
    let mut watch = registry.watch(greeter()).await.unwrap();
    next(&mut watch).await;
    let namespace = directory.path().join("micro/default");
    fs::set_permissions(&namespace, fs::Permissions::from_mode(0o777)).unwrap();
    let stale = next(&mut watch).await;
    assert!(matches!(&stale, Update::Stale { cause, .. } if cause.contains("0777")), "{stale:?}");
    fs::set_permissions(&namespace, fs::Permissions::from_mode(0o700)).unwrap();
    assert!(matches!(next(&mut watch).await, Update::Reset { empty: None, .. }));
}

/// A watch of a directory that cannot be made is stale from the start, and comes good.
#[tokio::test]
async fn the_directory_cannot_be_made() {
    let directory = directory();
    fs::write(directory.path().join("micro"), "in the way").unwrap();
    let registry = registry(directory.path());
    let mut watch = registry.watch(greeter()).await.unwrap();
    assert!(matches!(next(&mut watch).await, Update::Stale { .. }));
    fs::remove_file(directory.path().join("micro")).unwrap();
    assert_eq!(next(&mut watch).await, Update::reset(vec![], EmptyReason::Unknown));
}

/// While a file hangs, as those of a lost network file system do, calls end in time and occupy few
/// threads, renewals go on, and watches are told; then all is as before.
#[cfg(target_os = "linux")]
#[test]
fn a_file_hangs() {
    let directory = directory();
    let mut config = config(directory.path());
    config.use_notify = false;
    config.rescan_interval = Duration::from_millis(50);
    let registry = LocalRegistry::new(config).unwrap();
    // A thread for each kind of call, and one for the watches.
    let mut runtime = tokio::runtime::Builder::new_multi_thread();
    let runtime = runtime.max_blocking_threads(4).enable_all().build().unwrap();
    runtime.block_on(async {
        registry.register(&registration("greeter", "a", 1), HOUR).await.unwrap();
        let mut watch = registry.watch(greeter()).await.unwrap();
        assert!(matches!(next(&mut watch).await, Update::Reset { empty: None, .. }));
        let hanging = HangingFile::new(&directory.path().join("micro/default"));
        let mut calls = tokio::task::JoinSet::new();
        for _ in 0..10 {
            let registry = registry.clone();
            calls.spawn(async move { kind(registry.list().await) });
        }
        assert_eq!(calls.join_all().await, [ErrorKind::Unavailable; 10]);
        registry.register(&registration("greeter", "a", 1), HOUR).await.unwrap();
        let mut late = registry.watch(greeter()).await.unwrap();
        for watch in [&mut watch, &mut late] {
            let stale = next(watch).await;
            let is_told = matches!(&stale, Update::Stale { cause, .. } if cause.contains("5s"));
            assert!(is_told, "{stale:?}");
        }
        drop(hanging);
        for watch in [&mut watch, &mut late] {
            assert!(matches!(next(watch).await, Update::Reset { empty: None, .. }));
        }
        assert_eq!(registry.list().await.unwrap()[0].nodes, 1);
    });
}

/// A lock file that whoever opens it waits for; until it is dropped.
#[cfg(target_os = "linux")]
struct HangingFile(std::path::PathBuf);

#[cfg(target_os = "linux")]
impl HangingFile {
    fn new(namespace: &std::path::Path) -> Self {
        use rustix::fs::{CWD, FileType, Mode, mknodat};
        let path = namespace.join("00000000-0000-0000-0000-000000000000.lock");
        mknodat(CWD, &path, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
        Self(path)
    }
}

#[cfg(target_os = "linux")]
impl Drop for HangingFile {
    /// With a writer nobody waits any more.
    fn drop(&mut self) {
        let _writer = fs::File::options().read(true).write(true).open(&self.0).unwrap();
        // Unless a collector did.
        let _ = fs::remove_file(&self.0);
    }
}

/// A lock removed by force is made anew by the next renewal, and the node was never gone.
#[tokio::test]
async fn the_lock_is_removed() {
    let directory = directory();
    let (one, two) = (registry(directory.path()), registry(directory.path()));
    let registered = registration("greeter", "a", 1);
    one.register(&registered, HOUR).await.unwrap();
    for entry in fs::read_dir(directory.path().join("micro/default")).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|extension| extension == "lock") {
            fs::remove_file(path).unwrap();
        }
    }
    assert!(ids(&two, "greeter").await.is_empty());
    one.register(&registered, HOUR).await.unwrap();
    assert_eq!(ids(&two, "greeter").await, ["a"]);
}
