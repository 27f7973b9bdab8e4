//! Several services in one process.

use std::collections::BTreeSet;
use std::sync::Mutex;

use futures::StreamExt;

use super::*;
use crate::warnings::Warnings;
use micro::Group;
use micro::registry::{NodeState, Registry, RemoveReason, Scope, Update};

/// What happened, in order.
#[derive(Clone, Default)]
struct Diary(Arc<Mutex<Vec<String>>>);

impl Diary {
    fn note(&self, event: &str) {
        self.0.lock().unwrap().push(event.to_owned());
    }

    fn noted(&self) -> Vec<String> {
        self.0.lock().unwrap().clone()
    }

    /// A service of this name that notes when it starts and stops; `start` is its last step before
    /// it listens.
    fn service<F>(&self, town: &Town, name: &str, start: F) -> Service
    where
        F: Future<Output = Result<(), micro::BoxError>> + Send + 'static,
    {
        let note = |event: &str| {
            let (diary, event) = (self.clone(), format!("{name} {event}"));
            || async move {
                diary.note(&event);
                Ok(())
            }
        };
        town.service(name)
            .name(name)
            .before_start(|| start)
            .after_start(note("starts"))
            .before_stop(note("stops"))
            .after_stop(note("has stopped"))
            .serve(ShopServer::new(Corner { node: name.to_owned(), ..Corner::default() }))
    }

    fn willing(&self, town: &Town, name: &str) -> Service {
        self.service(town, name, async { Ok(()) })
    }
}

async fn is_empty(town: &Town) -> bool {
    town.registry.list().await.unwrap().is_empty()
}

/// Services start in the order of their addition, call each other, and stop in the opposite one, each
/// before the next begins to.
#[tokio::test(start_paused = true)]
async fn starts_in_order_and_stops_in_reverse() {
    let (town, diary) = (Town::default(), Diary::default());
    let group = Group::new().service(diary.willing(&town, "a")).service(diary.willing(&town, "b"));
    let running = group.start().await.unwrap();
    let names = running.services().iter().map(|service| service.registration().service.clone());
    assert_eq!(names.collect::<Vec<_>>(), ["a", "b"]);
    for name in ["a", "b"] {
        let client = town.client().await;
        let shop = ShopClient::named(&client, name);
        assert_eq!(shop.context("key").wait_for_ready(true).await.unwrap().node, name);
    }
    let watched = town.clone();
    running.shutdown().await;
    assert!(is_empty(&watched).await);
    let expected = ["a starts", "b starts", "b stops", "b has stopped", "a stops", "a has stopped"];
    assert_eq!(diary.noted(), expected);
}

/// While the last service still serves out its calls, those before it know nothing of the end.
#[tokio::test(start_paused = true)]
async fn earlier_services_outlive_later_ones() {
    let (town, diary) = (Town::default(), Diary::default());
    let group = Group::new().service(diary.willing(&town, "a")).service(diary.willing(&town, "b"));
    let running = group.start().await.unwrap();
    for service in running.services() {
        let is_registered = |state: &micro::Registered| *state == micro::Registered::Yes;
        service.registered().wait_for(is_registered).await.unwrap();
    }
    let client = town.client().await;
    let slow = tokio::spawn(ShopClient::named(&client, "b").wait(5_000).into_future());
    tokio::time::sleep(Duration::from_millis(100)).await;
    let stopping = tokio::spawn(running.shutdown());
    tokio::time::sleep(Duration::from_secs(3)).await;
    let state = |services: Vec<micro::registry::Service>| services[0].nodes[0].state;
    assert_eq!(state(town.registry.get("b").await.unwrap()), NodeState::Draining);
    assert_eq!(state(town.registry.get("a").await.unwrap()), NodeState::Serving);
    slow.await.unwrap().unwrap();
    stopping.await.unwrap();
    assert!(is_empty(&town).await);
}

/// One that cannot start stops those before it, starts none behind it, and is named.
#[tokio::test(start_paused = true)]
async fn a_failed_start_stops_the_others() {
    let (town, diary) = (Town::default(), Diary::default());
    let group = Group::new()
        .service(diary.willing(&town, "a"))
        .service(diary.service(&town, "b", async { Err("no power".into()) }))
        .service(diary.willing(&town, "c"));
    let error = group.serve_until(std::future::pending()).await.unwrap_err();
    assert_eq!(error.code(), micro::Code::FailedPrecondition);
    assert!(error.to_string().starts_with("service b: "), "{error}");
    assert_eq!(format!("{error:?}").matches("no power").count(), 1, "{error:?}");
    assert_eq!(diary.noted(), ["a starts", "b has stopped", "a stops", "a has stopped"]);
    assert!(is_empty(&town).await);
}

/// Told to stop during the start, it starts no more and stops what there is.
#[tokio::test(start_paused = true)]
async fn stops_in_the_middle_of_the_start() {
    let (town, diary) = (Town::default(), Diary::default());
    let group = Group::new()
        .service(diary.willing(&town, "a"))
        .service(diary.service(&town, "b", std::future::pending()))
        .service(diary.willing(&town, "c"));
    group.serve_until(tokio::time::sleep(Duration::from_secs(5))).await.unwrap();
    assert_eq!(diary.noted(), ["a starts", "b has stopped", "a stops", "a has stopped"]);
    assert!(is_empty(&town).await);
}

/// What would make all services the same applies to none of several, of which one warning tells; the
/// rest applies to each. A service alone, and settings of a service's own, are taken as they are.
#[tokio::test(start_paused = true)]
async fn identity_is_nobodys_among_several() {
    let town = Town::default();
    let shared = || {
        let variables = ["NAME", "ADDRESS", "ADVERTISE", "VERSION", "ZONE"]
            .map(|key| (format!("MICRO_{key}").into(), "x".into()));
        Settings::from_parts(None, variables).unwrap()
    };
    let service = |id: &str| {
        Service::new()
            .id(id)
            .registry(town.registry.clone())
            .memory_network(town.network.clone())
            .address(format!("memory:{id}"))
            .serve(ShopServer::new(Corner::default()))
    };
    let own = Settings::none().flag("name", "own").unwrap();
    let group = Group::new()
        .settings(shared())
        .service(service("a").name("a"))
        .service(service("b").version("1.2.3"))
        .service(service("c").name("c").settings(own));
    let warnings = Warnings::new();
    let running = group.start().await.unwrap();
    let warned = warnings.lines();
    assert_eq!(warned.len(), 1, "{warned:?}");
    for key in ["NAME", "ADDRESS", "ADVERTISE", "VERSION"] {
        let named = format!("{} from environment variable MICRO_{key}", key.to_lowercase());
        assert!(warned[0].contains(&named), "{warned:?}");
    }
    let seen = running.services().iter().map(|service| {
        let registration = service.registration();
        let node = &registration.node;
        (&*registration.service, &*registration.version, &*node.address, node.zone.as_deref())
    });
    let expected = [
        ("a", "latest", "memory:a", Some("x")),
        ("shop", "1.2.3", "memory:b", Some("x")),
        ("own", "latest", "memory:c", None),
    ];
    assert_eq!(seen.collect::<Vec<_>>(), expected);
    let alone = Group::new().settings(shared()).service(service("d").name("d"));
    let error = alone.start().await.unwrap_err().to_string();
    assert!(error.starts_with("address \"x\" from environment variable MICRO_ADDRESS"), "{error}");
}

/// A group without services is a mistake.
#[tokio::test]
async fn an_empty_group_is_refused() {
    let error = Group::new().start().await.unwrap_err().to_string();
    assert!(error.contains("no services") && error.contains(".service("), "{error}");
}

/// One SIGTERM ends a process of several services, and each of them says goodbye to the registry.
#[cfg(all(unix, feature = "local"))]
#[tokio::test]
async fn a_signal_deregisters_every_service() {
    let directory = tempfile::TempDir::new().unwrap();
    let registry = Client::connect().settings(local(directory.path())).await.unwrap();
    let mut watch = registry.registry().watch(Scope::All).await.unwrap();
    let mut child = tokio::process::Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "groups::a_process_of_three", "--nocapture", "--test-threads", "1"])
        .env(DIRECTORY, directory.path())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let mut view = BTreeSet::new();
    let mut goodbyes = BTreeSet::new();
    let story = async {
        let mut is_told = false;
        while goodbyes.len() < 3 {
            match watch.next().await.unwrap() {
                Update::Reset { registrations, .. } => {
                    view = registrations.iter().map(|node| node.service.clone()).collect();
                }
                Update::Put(node) => drop(view.insert(node.service.clone())),
                Update::Remove { service, reason, .. } => {
                    assert_eq!(reason, RemoveReason::Deregistered, "{service}");
                    goodbyes.insert(service);
                }
                other => panic!("{other:?}"),
            }
            if view.len() == 3 && !is_told {
                let pid = child.id().unwrap().to_string();
                let kill = tokio::process::Command::new("kill").args(["-TERM", &pid]).status();
                is_told = kill.await.unwrap().success();
            }
        }
        child.wait().await.unwrap()
    };
    let patience = Duration::from_secs(60);
    let status = tokio::time::timeout(patience, story).await.expect("it starts and ends");
    assert!(status.success(), "{status}");
}

#[cfg(all(unix, feature = "local"))]
const DIRECTORY: &str = "THREE_DIRECTORY";

/// Nothing by itself; a process that runs three services when it is given a directory for them.
#[cfg(all(unix, feature = "local"))]
#[tokio::test]
async fn a_process_of_three() {
    let Some(directory) = std::env::var_os(DIRECTORY) else { return };
    let services = ["a", "b", "c"].map(|name| {
        let service = Service::new().name(name).drain_delay(Duration::ZERO);
        service.serve(ShopServer::new(Corner::default()))
    });
    let group = Group::new().settings(local(directory.as_ref()));
    services.into_iter().fold(group, Group::service).run().await.unwrap();
}

#[cfg(all(unix, feature = "local"))]
fn local(directory: &std::path::Path) -> Settings {
    let url = format!("local:{}", directory.join("r").display());
    Settings::none().flag("registry", url).unwrap()
}
