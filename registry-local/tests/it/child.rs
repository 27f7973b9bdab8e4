//! A second process: this test binary, run again in the role of one that registers.

use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::time::Duration;

use micro_registry::{Registry, Scope, Update};
use micro_registry_local::LocalRegistry;
use rustix::process::{Pid, Signal, kill_process};
use tracing::Level;

use crate::log::Log;
use crate::{config, next, registration, registry};

const ROLE: &str = "MICRO_LOCAL_CHILD_ROLE";
const DIRECTORY: &str = "MICRO_LOCAL_CHILD_DIRECTORY";
const TTL_MS: &str = "MICRO_LOCAL_CHILD_TTL_MS";

/// A process of ours; killed, by its id, when dropped.
pub(crate) struct Other {
    child: Child,
    _stdin: Option<ChildStdin>,
}

impl Other {
    /// Starts a process that registers `greeter` node `other` with epoch 5, and renews it every
    /// third of its TTL; returns when it has done so first.
    pub(crate) fn registers(directory: &Path, ttl: Duration) -> Self {
        Self::start("register", directory, ttl)
    }

    /// Starts a process in this role and waits until it is ready.
    pub(crate) fn start(role: &str, directory: &Path, ttl: Duration) -> Self {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "child::child_role", "--nocapture", "--test-threads", "1"])
            .env(ROLE, role)
            .env(DIRECTORY, directory)
            .env(TTL_MS, ttl.as_millis().to_string())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let (stdin, stdout) = (child.stdin.take(), child.stdout.take().unwrap());
        let other = Self { child, _stdin: stdin };
        let mut lines = BufReader::new(stdout).lines();
        assert!(lines.any(|line| line.unwrap().contains("child is ready")), "{role} failed");
        other
    }

    pub(crate) fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }
}

impl Drop for Other {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Nothing by itself; the other process when started as one.
#[tokio::test(flavor = "multi_thread")]
async fn child_role() {
    let Ok(role) = std::env::var(ROLE) else { return };
    let directory = std::env::var(DIRECTORY).unwrap();
    let ttl = Duration::from_millis(std::env::var(TTL_MS).unwrap().parse().unwrap());
    // Ends with its parent, however that ends.
    std::thread::spawn(|| {
        let _ = std::io::stdin().read(&mut [0]);
        std::process::exit(1);
    });
    match role.as_str() {
        "register" => register(directory.as_ref(), ttl).await,
        "guard" => hold_guard(directory.as_ref()).await,
        "log" => log_an_outage(directory.as_ref()).await,
        "damage" => log_damaged_files(directory.as_ref()).await,
        "watch" => watch_and_drop(directory.as_ref()).await,
        other => panic!("unknown role {other}"),
    }
}

async fn register(directory: &Path, ttl: Duration) {
    let registry = registry(directory);
    let registration = registration("greeter", "other", 5);
    registry.register(&registration, ttl).await.unwrap();
    println!("child is ready");
    loop {
        tokio::time::sleep(ttl / 3).await;
        registry.register(&registration, ttl).await.unwrap();
    }
}

async fn hold_guard(directory: &Path) {
    let path = directory.join("micro/default/.guard");
    let file = std::fs::File::open(path).unwrap();
    file.lock().unwrap();
    println!("child is ready");
    std::future::pending::<()>().await;
}

async fn log_an_outage(directory: &Path) {
    let mut config = config(directory);
    config.use_notify = false;
    let registry = LocalRegistry::new(config).unwrap();
    let log = Log::begin();
    let in_the_way = directory.join("micro");
    std::fs::write(&in_the_way, "in the way").unwrap();
    let mut watch = registry.watch(Scope::All).await.unwrap();
    assert!(matches!(next(&mut watch).await, Update::Stale { .. }));
    // Several attempts fail meanwhile.
    tokio::time::sleep(Duration::from_millis(700)).await;
    std::fs::remove_file(&in_the_way).unwrap();
    assert!(matches!(next(&mut watch).await, Update::Reset { .. }));
    let levels: Vec<_> = log.take().into_iter().map(|(level, _)| level).collect();
    assert_eq!(levels, [Level::DEBUG, Level::DEBUG]);
    println!("child is ready");
    std::future::pending::<()>().await;
}

/// Files that are wrong, each in another way, seen by a watch and by lookups.
async fn log_damaged_files(directory: &Path) {
    let (log, registry) = (Log::begin(), registry(directory));
    registry.register(&registration("greeter", "a", 1), crate::HOUR).await.unwrap();
    let mut watch = registry.watch(Scope::All).await.unwrap();
    next(&mut watch).await;
    let file = |name: &str| directory.join("micro/default").join(name);
    // Renamed into place, so that nobody sees half of it.
    let place = |name: &str, text: &[u8]| {
        std::fs::write(directory.join("new"), text).unwrap();
        std::fs::rename(directory.join("new"), file(name)).unwrap();
    };
    for length in 0..150 {
        std::fs::write(file("greeter@broken.json"), "?".repeat(length)).unwrap();
        registry.get("greeter").await.unwrap();
    }
    let node = std::fs::read(file("greeter@a.json")).unwrap();
    place("greeter@lies.json", &node);
    place("greeter@left.left", b"?");
    place("README", b"hello");
    std::fs::create_dir(file("greeter@directory.json")).unwrap();
    for _ in 0..3 {
        registry.list().await.unwrap();
    }
    let mut warnings = log.take();
    warnings.sort_by(|(_, one), (_, two)| one.cmp(two));
    for ((level, text), (name, why, expected)) in warnings.iter().zip([
        ("README", "its name is not one of ours", "<service>@<node id>.json"),
        ("greeter@broken.json", "does not parse: EOF while parsing", "registering the node again"),
        ("greeter@directory.json", "it is not a regular file", "a regular file that its owner"),
        ("greeter@left.left", "tombstone does not parse", "remove it"),
        ("greeter@lies.json", "about another node, `a` of `greeter`", "the record named as the"),
    ]) {
        assert_eq!(*level, Level::WARN);
        for part in [name, why, expected] {
            assert!(text.contains(part), "no {part}: {text}");
        }
    }
    assert_eq!(warnings.len(), 5, "{warnings:#?}");
    println!("child is ready");
    std::future::pending::<()>().await;
}

/// In a process of its own, where no other test has descriptors.
async fn watch_and_drop(directory: &Path) {
    let registry = registry(directory);
    for _ in 0..2 {
        let mut one = registry.watch(Scope::All).await.unwrap();
        let mut two = registry.watch(Scope::All).await.unwrap();
        next(&mut one).await;
        next(&mut two).await;
        assert_eq!(inotify_instances(), 1, "all watches share one");
        drop(one);
        registry.register(&registration("greeter", "a", 1), crate::HOUR).await.unwrap();
        next(&mut two).await;
        registry.deregister(&registration("greeter", "a", 1)).await.unwrap();
        drop(two);
        crate::eventually("the instance is released", async || inotify_instances() == 0).await;
        assert!(format!("{registry:?}").contains("watching: false"));
    }
    println!("child is ready");
    std::future::pending::<()>().await;
}

fn inotify_instances() -> usize {
    let links = std::fs::read_dir("/proc/self/fd").unwrap();
    let targets = links.filter_map(|link| std::fs::read_link(link.unwrap().path()).ok());
    targets.filter(|target| target.as_os_str() == "anon_inode:inotify").count()
}
