//! Servers and clients as processes: what callers notice when servers die, stop and join, and when
//! the registry goes away.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

#[cfg(feature = "etcd")]
mod over_etcd;
mod processes;
mod registries;

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use greeter::{GreeterClient, NODE};
use micro::registry::{NodeState, Registry, RemoveReason, Scope, Update, Watch};
use micro::{CallError, Client, Code, Settings};
use testbed::{PATIENCE, Process, Scene, Signal, eventually};
use tokio::time::{sleep, timeout};

use crate::processes::{Greeters, SERVER, Server};

/// Callers of idempotent methods notice neither that a server is killed nor that one joins, save
/// that the one that joined answers as well.
#[tokio::test]
async fn a_killed_server_fails_no_idempotent_call() {
    let scene = Scene::new();
    let [first, second, third] = scene.servers(&[]).await;
    let mut client = scene.client(&[]);
    sleep(Duration::from_secs(3)).await;
    first.process.signal(Signal::KILL);
    sleep(Duration::from_secs(2)).await;
    let fourth = scene.server("server-4", &[]).await;
    let report = Report::of(&mut client).await;
    report.assert_all_answered_by([&first, &second, &third, &fourth]);
}

/// A server that is told to stop finishes what it has accepted and ends by itself: not even calls
/// that must not be repeated fail.
#[tokio::test]
async fn a_stopped_server_fails_no_call_at_all() {
    let scene = Scene::new();
    let [mut first, second, third] = scene.servers(&[]).await;
    let mut client = scene.client(&["--idempotent", "false"]);
    sleep(Duration::from_secs(4)).await;
    first.process.signal(Signal::TERM);
    let status = first.process.ended().await;
    assert_eq!(status.code(), Some(0), "{status}");
    let fourth = scene.server("server-4", &[]).await;
    let report = Report::of(&mut client).await;
    report.assert_all_answered_by([&first, &second, &third, &fourth]);
}

/// Replacing all servers, one after the other and again and again, fails no call either.
#[tokio::test]
async fn rolling_restarts_fail_no_call_at_all() {
    let scene = Scene::new();
    let start = async |round: usize, place: usize| {
        let delay = [("MICRO_DRAIN_DELAY", OsStr::new("200ms"))];
        scene.server_with(&format!("server-{place}-{round}"), &[], &delay).await
    };
    let mut servers = Vec::new();
    for place in 0..3 {
        servers.push(start(0, place).await);
    }
    registered(&scene, &servers).await;
    let mut client = scene.load(600, &["--idempotent", "false"]);
    let mut nodes: Vec<_> = servers.iter().map(|server| server.node.clone()).collect();
    for round in 1..=10 {
        for place in 0..3 {
            let old = &mut servers[place];
            old.process.signal(Signal::TERM);
            let status = old.process.ended().await;
            assert_eq!(status.code(), Some(0), "{status}");
            servers[place] = start(round, place).await;
            nodes.push(servers[place].node.clone());
            registered(&scene, &servers).await;
        }
    }
    client.signal(Signal::INT);
    let report = Report::of(&mut client).await;
    let calls: u64 = report.by_node.values().sum();
    assert_eq!(report.summary, format!("calls={calls} ok={calls} failed=0"));
    let answered = nodes.iter().filter(|node| report.by_node.contains_key(*node)).count();
    assert!(answered > 20, "of {} nodes only {answered} answered", nodes.len());
}

/// A second signal ends a server at once, with an error, whatever it still has to do.
#[tokio::test]
async fn a_second_signal_forces_the_end() {
    let scene = Scene::new();
    let delay = [("MICRO_DRAIN_DELAY", OsStr::new("5m"))];
    let mut server = scene.server_with("server", &[], &delay).await;
    registered(&scene, [&server]).await;
    server.process.signal(Signal::TERM);
    let registry = registry_of(&scene).await;
    eventually("it drains", async || {
        let services = registry.get("greeter").await.ok()?;
        (services[0].nodes[0].state == NodeState::Draining).then_some(())
    })
    .await;
    server.process.signal(Signal::INT);
    let status = server.process.ended().await;
    assert_eq!(status.code(), Some(1), "{status}");
    let said = server.process.stderr();
    assert!(said.contains("stopped at once by a second signal, SIGINT"), "{said}");
}

/// The registry may vanish while calls run: clients go on with the nodes they know and say so
/// once, and servers register again.
#[tokio::test]
async fn a_removed_registry_fails_no_call() {
    let scene = Scene::new();
    let servers: [Server; 3] = scene.servers(&RENEWS_OFTEN).await;
    let mut client = scene.client(&[]);
    sleep(Duration::from_secs(3)).await;
    remove(&scene.registry());
    registered(&scene, &servers).await;
    let report = Report::of(&mut client).await;
    report.assert_all_answered_by(&servers);
    assert_warned_once_of_the_loss(&client);
    registered(&scene, &servers).await;
}

/// The same while for some seconds no registry can be made, since a file is in its place.
#[tokio::test]
async fn a_registry_that_stays_away_fails_no_call() {
    let scene = Scene::new();
    let servers: [Server; 3] = scene.servers(&RENEWS_OFTEN).await;
    let mut client = scene.client(&[]);
    sleep(Duration::from_secs(3)).await;
    replace_by_file(&scene.registry());
    // Longer than their TTL.
    sleep(Duration::from_secs(4)).await;
    fs::remove_file(scene.registry()).unwrap();
    let report = Report::of(&mut client).await;
    report.assert_all_answered_by(&servers);
    assert_warned_once_of_the_loss(&client);
    registered(&scene, &servers).await;
}

/// Who waits for a service gets its answer when the first server appears.
#[tokio::test]
async fn a_client_may_start_before_its_servers() {
    let scene = Scene::new();
    let client = client_of(&scene).await;
    let greeter = GreeterClient::new(&client);
    let call = greeter.hello("Ann").wait_for_ready(true).timeout(PATIENCE);
    let mut asking = tokio::spawn(call.reply());
    // Until it surely waits, and has found no registry at all.
    let early = timeout(Duration::from_secs(1), &mut asking).await;
    assert!(early.is_err(), "answered with no server there: {early:?}");
    let server = scene.server("server", &[]).await;
    let greeting = timeout(PATIENCE, asking).await.unwrap().unwrap().unwrap();
    assert_eq!(greeting.metadata.get(NODE), Some(&*server.node));
    assert_eq!(greeting.value, "Hello, Ann!");
}

/// The death of a process ends its registration, however long its TTL.
#[tokio::test]
async fn a_killed_server_expires_before_its_ttl() {
    let scene = Scene::new();
    let server = scene.server("server", &["--register-ttl", "1h"]).await;
    registered(&scene, [&server]).await;
    let registry = registry_of(&scene).await;
    let mut watch = watch(&registry).await;
    joined(&mut watch, &server.node).await;
    server.process.signal(Signal::KILL);
    assert_eq!(left(&mut watch, &server.node).await, RemoveReason::Expired);
}

/// A process that lives but does nothing is out after its TTL, and back when it goes on.
#[tokio::test]
async fn a_halted_server_expires_and_returns() {
    let scene = Scene::new();
    let timing = ["--register-ttl", "2s", "--register-interval", "1s"];
    let server = scene.server("server", &timing).await;
    registered(&scene, [&server]).await;
    let registry = registry_of(&scene).await;
    let mut watch = watch(&registry).await;
    joined(&mut watch, &server.node).await;
    server.process.signal(Signal::STOP);
    assert_eq!(left(&mut watch, &server.node).await, RemoveReason::Expired);
    server.process.signal(Signal::CONT);
    joined(&mut watch, &server.node).await;
}

/// Calling a service nobody registered fails at once, and says which one it is.
#[tokio::test]
async fn nobody_registered_is_not_found() {
    let scene = Scene::new();
    let client = client_of(&scene).await;
    let greeter = GreeterClient::new(&client);
    let call = greeter.hello("Ann").timeout(2 * PATIENCE);
    let answer = timeout(PATIENCE, call.into_future()).await.expect("it does not wait");
    let Err(CallError::Rpc(error)) = answer else { panic!("{answer:?}") };
    assert_eq!(error.code(), Code::NotFound, "{error}");
    assert_eq!(error.service(), Some("greeter"));
    assert!(error.to_string().contains("no node of service `greeter` is registered"), "{error}");
}

/// A flag that makes no sense ends the program, with the value, the flag and what would be right.
#[tokio::test]
async fn flags_that_make_no_sense_are_refused() {
    let cases: [(&[&str], [&str; 3]); 4] = [
        (
            &["--registry", "nosuch:"],
            ["`nosuch:`", "flag --registry", "compiled in are memory:, static:, local:, mdns:"],
        ),
        (
            &["--register-ttl", "1s", "--register-interval", "1s"],
            ["register_ttl 1s", "flag --register-ttl", "expected 2s or more"],
        ),
        (
            &["--register-ttl", "abc"],
            ["\"abc\"", "flag --register-ttl", "expected a number and a unit (us, ms, s, m or h)"],
        ),
        (&["--address", "x"], ["\"x\"", "flag --address", "expected host:port"]),
    ];
    for (number, (flags, expected)) in cases.into_iter().enumerate() {
        let scene = Scene::new();
        let url = scene.url();
        // A flag may be given once.
        let registry = if flags[0] == "--registry" { vec![] } else { vec!["--registry", url] };
        let arguments = [registry, flags.to_vec()].concat();
        let mut server = scene.run(SERVER, &format!("case-{number}"), &arguments);
        let status = server.ended().await;
        assert_eq!(status.code(), Some(1), "{flags:?}: {status}");
        let said = server.stderr();
        for part in expected {
            assert!(said.contains(part), "{flags:?}: {part:?} is not in: {said}");
        }
    }
}

/// A variable that makes no sense ends the program in the same way, and names the variable.
#[tokio::test]
async fn variables_that_make_no_sense_are_refused() {
    let scene = Scene::new();
    let not_utf8 = OsStr::from_bytes(b"\xff");
    let cases: [(&str, &OsStr, [&str; 2]); 6] = [
        ("MICRO_SELECTOR", "foo".as_ref(), ["selector \"foo\"", "round-robin"]),
        ("MICRO_NAMESPACE", "No".as_ref(), ["namespace \"No\"", "expected 1 to 128 of a-z"]),
        ("MICRO_ZONE", not_utf8, ["zone \"\u{fffd}\"", "expected UTF-8"]),
        ("MICRO_CONFIG", "none.toml".as_ref(), ["file \"none.toml\"", "No such file"]),
        ("MICRO_CONFIG", "".as_ref(), ["is empty", "expected the path of a file"]),
        ("MICRO_ADDRESS", "192.0.2.1:1".as_ref(), ["\"192.0.2.1:1\"", "annot assign"]),
    ];
    for (number, (variable, value, expected)) in cases.into_iter().enumerate() {
        let name = format!("case-{number}");
        let arguments = ["--registry", scene.url()];
        let mut server = scene.run_with(SERVER, &name, &arguments, &[(variable, value)]);
        let status = server.ended().await;
        assert_eq!(status.code(), Some(1), "{variable}: {status}");
        let said = server.stderr();
        assert!(said.contains(&format!("environment variable {variable}")), "{said}");
        for part in expected {
            assert_eq!(said.matches(part).count(), 1, "{variable}: {part:?} once in: {said}");
        }
    }
}

/// What is nobody's variable, and a runtime directory that cannot be one, cost one warning each.
#[tokio::test]
async fn odd_variables_are_warned_of() {
    let scene = Scene::new();
    let not_utf8 = OsStr::from_bytes(b"\xff");
    let cases: [(&str, &OsStr, &str); 2] = [
        ("MICRO_NOSUCH", not_utf8, "is unknown and ignored"),
        ("XDG_RUNTIME_DIR", "relative".as_ref(), "not an absolute path"),
    ];
    for (variable, value, expected) in cases {
        // The directory for temporary files is that of the test, as is the registry in it.
        let directory = scene.registry();
        fs::create_dir_all(&directory).unwrap();
        let environment = [(variable, value), ("TMPDIR", directory.as_os_str())];
        let server = scene.run_with(SERVER, variable, &[], &environment);
        eventually("it has started", async || server.stdout().ends_with('\n').then_some(())).await;
        let said = server.stderr();
        let warnings: Vec<_> = said.lines().filter(|line| line.contains("WARN")).collect();
        assert!(matches!(warnings[..], [one] if one.contains(expected)), "{said}");
        assert!(directory.read_dir().unwrap().next().is_some(), "it registers in {directory:?}");
    }
}

/// A runtime directory is a path, whatever its bytes.
#[tokio::test]
async fn a_runtime_directory_need_not_be_utf8() {
    let scene = Scene::new();
    let runtime = scene.registry().join(OsStr::from_bytes(b"\xff"));
    fs::create_dir_all(&runtime).unwrap();
    let environment = [("XDG_RUNTIME_DIR", runtime.as_os_str())];
    let _server = scene.run_with(SERVER, "server", &[], &environment);
    eventually("it registers there", async || runtime.join("micro").exists().then_some(())).await;
}

/// What a client printed when it ended.
struct Report {
    by_node: BTreeMap<String, u64>,
    summary: String,
}

impl Report {
    /// Waits for the client to end, without a failed call.
    async fn of(client: &mut Process) -> Self {
        let status = client.ended().await;
        let stdout = client.stdout();
        assert_eq!(status.code(), Some(0), "{status}: {stdout}");
        let mut by_node = BTreeMap::new();
        let mut summary = Vec::new();
        for line in stdout.lines() {
            match line.strip_prefix("node=").and_then(|line| line.split_once(" calls=")) {
                Some((node, calls)) => {
                    by_node.insert(node.to_owned(), calls.parse().unwrap());
                }
                None => summary.push(line),
            }
        }
        let [summary] = summary[..] else { panic!("one summary expected: {stdout}") };
        Self { by_node, summary: summary.to_owned() }
    }

    /// Every server answered calls, nobody else did, and none failed.
    fn assert_all_answered_by<'a>(&self, servers: impl IntoIterator<Item = &'a Server>) {
        let expected: BTreeSet<_> = servers.into_iter().map(|server| &*server.node).collect();
        let answered = self.by_node.iter().filter(|(_, calls)| **calls > 0);
        let answered: BTreeSet<_> = answered.map(|(node, _)| &**node).collect();
        assert_eq!(answered, expected);
        let calls: u64 = self.by_node.values().sum();
        assert_eq!(self.summary, format!("calls={calls} ok={calls} failed=0"));
    }
}

const RENEWS_OFTEN: [&str; 4] = ["--register-ttl", "3s", "--register-interval", "1s"];

fn assert_warned_once_of_the_loss(client: &Process) {
    let stderr = client.stderr();
    let warnings: Vec<_> = stderr.lines().filter(|line| line.contains("WARN")).collect();
    assert!(matches!(warnings[..], [one] if one.contains("registry lost")), "{stderr}");
}

/// Waits until these and no others are registered.
async fn registered<'a>(scene: &Scene, servers: impl IntoIterator<Item = &'a Server>) {
    let registry = registry_of(scene).await;
    let expected: BTreeSet<_> = servers.into_iter().map(|server| server.node.clone()).collect();
    eventually(&format!("{expected:?} are registered"), async || {
        let services = registry.get("greeter").await.ok()?;
        let nodes = services.into_iter().flat_map(|service| service.nodes);
        let ids: BTreeSet<_> = nodes.map(|node| node.id).collect();
        (ids == expected).then_some(())
    })
    .await;
}

async fn client_of(scene: &Scene) -> Client {
    let settings = Settings::none().flag("registry", scene.url()).unwrap();
    Client::connect().settings(settings).await.unwrap()
}

async fn registry_of(scene: &Scene) -> Arc<dyn Registry> {
    client_of(scene).await.registry().clone()
}

async fn watch(registry: &Arc<dyn Registry>) -> Watch {
    registry.watch(Scope::Service("greeter".to_owned())).await.unwrap()
}

/// Waits until the watch tells of this node.
async fn joined(watch: &mut Watch, node: &str) {
    follow(watch, &format!("{node} joins"), |update| match update {
        Update::Reset { registrations, .. } => {
            registrations.iter().any(|registration| registration.node.id == node).then_some(())
        }
        Update::Put(registration) => (registration.node.id == node).then_some(()),
        _ => None,
    })
    .await;
}

/// Waits until the watch tells that this node left, and why.
async fn left(watch: &mut Watch, node: &str) -> RemoveReason {
    follow(watch, &format!("{node} leaves"), |update| match update {
        Update::Remove { id, reason, .. } if id == node => Some(reason),
        _ => None,
    })
    .await
}

async fn follow<T>(watch: &mut Watch, what: &str, mut found: impl FnMut(Update) -> Option<T>) -> T {
    let follow = async {
        loop {
            let update = watch.next().await.expect("the registry lives, and so does its watch");
            if let Some(found) = found(update) {
                return found;
            }
        }
    };
    timeout(PATIENCE, follow).await.unwrap_or_else(|_| panic!("gave up waiting: {what}"))
}

/// Removes a directory into which others write meanwhile.
fn remove(directory: &Path) {
    while let Err(error) = fs::remove_dir_all(directory) {
        if error.kind() == io::ErrorKind::NotFound {
            return;
        }
        assert_eq!(error.kind(), io::ErrorKind::DirectoryNotEmpty, "{error}");
    }
}

/// Puts a file where a directory is that others make again when it is gone.
fn replace_by_file(directory: &Path) {
    loop {
        remove(directory);
        match fs::File::create_new(directory) {
            Ok(_) => return,
            Err(error) => assert_eq!(error.kind(), io::ErrorKind::AlreadyExists, "{error}"),
        }
    }
}
