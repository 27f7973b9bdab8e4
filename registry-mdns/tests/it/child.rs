//! A second process: this test binary, run again in another role.

use std::io::{BufRead, BufReader, Read};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::Duration;

use micro_registry::{Registry, Update};
use micro_registry_mdns::MdnsConfig;

use crate::{HOUR, config, eventually, greeter, next, registration, registry};

const ROLE: &str = "MICRO_MDNS_CHILD_ROLE";
const PORT: &str = "MICRO_MDNS_CHILD_PORT";
const NAMESPACE: &str = "MICRO_MDNS_CHILD_NAMESPACE";

/// How long a node of another process lives without renewal.
pub(crate) const TTL: Duration = Duration::from_secs(2);

/// A process of ours; killed, by its id, when dropped.
pub(crate) struct Other {
    child: Child,
    lines: std::io::Lines<BufReader<ChildStdout>>,
    _stdin: Option<ChildStdin>,
}

impl Other {
    /// Starts a process in this role and waits until it is ready.
    pub(crate) fn start(role: &str, config: &MdnsConfig) -> Self {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "child::child_role", "--nocapture", "--test-threads", "1"])
            .env(ROLE, role)
            .env(PORT, config.port.to_string())
            .env(NAMESPACE, &config.namespace)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let (stdin, stdout) = (child.stdin.take(), child.stdout.take().unwrap());
        let mut other = Self { child, lines: BufReader::new(stdout).lines(), _stdin: stdin };
        other.until("child is ready");
        other
    }

    /// Reads what it says up to a line with this text, which is given.
    pub(crate) fn until(&mut self, text: &str) -> String {
        let line = self.lines.by_ref().map(Result::unwrap).find(|line| line.contains(text));
        line.unwrap_or_else(|| panic!("the child never said {text:?}"))
    }

    pub(crate) fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    pub(crate) fn signal(&self, signal: &str) {
        let id = self.child.id().to_string();
        assert!(Command::new("kill").args([signal, &id]).status().unwrap().success());
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
    let mut config = config();
    config.port = std::env::var(PORT).unwrap().parse().unwrap();
    config.namespace = std::env::var(NAMESPACE).unwrap();
    // Ends with its parent, however that ends.
    std::thread::spawn(|| {
        let _ = std::io::stdin().read(&mut [0]);
        std::process::exit(1);
    });
    match role.as_str() {
        "register" => register(&config).await,
        "watch" => watch(&config).await,
        "threads" => threads(&config).await,
        other => panic!("unknown role {other}"),
    }
}

/// Registers `greeter` node `other`, and renews it every third of its TTL.
async fn register(config: &MdnsConfig) {
    let registry = registry(config);
    registry.register(&registration("greeter", "other", 5), TTL).await.unwrap();
    println!("child is ready");
    loop {
        tokio::time::sleep(TTL / 3).await;
        registry.register(&registration("greeter", "other", 5), TTL).await.unwrap();
    }
}

/// Says what a watch tells, once it told of a node.
async fn watch(config: &MdnsConfig) {
    let registry = registry(config);
    let mut watch = registry.watch(greeter()).await.unwrap();
    let tells_a_node = |update: &Update| match update {
        Update::Reset { empty, .. } => empty.is_none(),
        Update::Put(_) => true,
        _ => false,
    };
    while !tells_a_node(&next(&mut watch).await) {}
    println!("child is ready");
    loop {
        match next(&mut watch).await {
            Update::Reset { registrations, .. } => println!("reset {}", registrations.len()),
            Update::Put(_) => println!("put"),
            Update::Remove { reason, .. } => println!("remove {reason:?}"),
            Update::Stale { .. } => println!("stale"),
            _ => println!("something else"),
        }
    }
}

/// Counts the threads of daemons while handles come and go.
async fn threads(config: &MdnsConfig) {
    let (one, two) = (registry(config), registry(config));
    assert_eq!(daemons(), 0);
    for registry in [&one, &one.clone(), &two] {
        registry.register(&registration("greeter", "a", 1), HOUR).await.unwrap();
        registry.get("greeter").await.unwrap();
        drop(registry.watch(greeter()).await.unwrap());
    }
    assert_eq!(daemons(), 2, "one of each handle");
    drop(one);
    eventually("the thread of a dropped handle ends", async || daemons() == 1).await;
    drop(two);
    eventually("the last thread ends", async || daemons() == 0).await;
    println!("child is ready");
}

fn daemons() -> usize {
    let tasks = std::fs::read_dir("/proc/self/task").unwrap();
    let names = tasks.map(|task| std::fs::read_to_string(task.unwrap().path().join("comm")));
    names.filter(|name| name.as_ref().is_ok_and(|name| name.starts_with("mDNS_daemon"))).count()
}
