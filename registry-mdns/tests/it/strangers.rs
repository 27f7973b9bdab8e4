//! Others in the network: those that take our names, flood us, or know only DNS-SD.

use std::collections::HashMap;
use std::sync::mpsc;
use std::time::Duration;

use mdns_sd::{IfKind, ServiceDaemon, ServiceEvent, ServiceInfo};
use micro_registry::{Registry, RemoveReason, Scope, Service, Update, View};
use micro_registry_mdns::MdnsConfig;

use crate::{HOUR, config, eventually, greeter, next, registration, registry, until, until_gone};

const TYPE: &str = "_micro._tcp.local.";

/// Somebody who speaks multicast DNS, and knows nothing of us. Ends when dropped.
struct Stranger(ServiceDaemon);

impl Stranger {
    fn new(config: &MdnsConfig) -> Self {
        let daemon = ServiceDaemon::new_with_port(config.port).unwrap();
        daemon.disable_interface(IfKind::All).unwrap();
        daemon.enable_interface(IfKind::LoopbackV4).unwrap();
        Self(daemon)
    }

    fn announce(&self, name: &str, text: &[(&str, &str)]) {
        let host = format!("{name}.local.");
        let info = ServiceInfo::new(TYPE, name, &host, "127.0.0.1", 7_000, text);
        let mut info = info.unwrap();
        info.set_requires_probe(false);
        while self.0.register(info.clone()).is_err() {
            std::thread::yield_now();
        }
    }

    /// The first instance it finds, with its text.
    async fn finds(&self) -> (String, HashMap<String, String>) {
        let events = self.0.browse(TYPE).unwrap();
        loop {
            if let ServiceEvent::ServiceResolved(service) = events.recv_async().await.unwrap() {
                let label = service.fullname.split('.').next().unwrap().to_owned();
                return (label, service.txt_properties.into_property_map_str());
            }
        }
    }
}

impl Drop for Stranger {
    fn drop(&mut self) {
        while matches!(self.0.shutdown(), Err(mdns_sd::Error::Again)) {}
    }
}

/// Our name in another's mouth, as of a machine that was cloned while it ran, is given up for a new
/// one, so that the other's goodbye does not take our node along.
#[tokio::test(flavor = "multi_thread")]
async fn a_name_that_is_taken_is_given_up() {
    let config = config();
    let (owner, reader, stranger) = (registry(&config), registry(&config), Stranger::new(&config));
    let (mut watch, mut view) = (reader.watch(greeter()).await.unwrap(), View::new());
    owner.register(&registration("greeter", "a", 1), HOUR).await.unwrap();
    until(&mut watch, &mut view, |view| view.len() == 1).await;
    let (name, mut text) = stranger.finds().await;
    let later = text["stamp"].parse::<u64>().unwrap() + 1_000_000;
    text.insert("stamp".into(), later.to_string());
    let text: Vec<_> = text.iter().map(|(key, value)| (&**key, &**value)).collect();
    stranger.announce(&name, &text);
    let other = Stranger::new(&config);
    eventually("the node has another name", async || other.finds().await.0 != name).await;
    drop(stranger);
    // Whoever sees the marker a while later has seen what the goodbye did.
    tokio::time::sleep(Duration::from_secs(2)).await;
    owner.register(&registration("greeter", "marker", 1), HOUR).await.unwrap();
    let told = until(&mut watch, &mut view, |view| view.node("greeter", "marker").is_some()).await;
    assert!(told.iter().all(|update| !matches!(update, Update::Remove { .. })), "{told:?}");
    assert_eq!(view.len(), 2);
}

/// A program that knows only DNS-SD is found by the service it names, for as long as it is there.
#[tokio::test]
async fn plain_announcements_are_nodes() {
    let config = config();
    let (reader, stranger) = (registry(&config), Stranger::new(&config));
    let till = Scope::Service("till".into());
    let (mut watch, mut view) = (reader.watch(till).await.unwrap(), View::new());
    let text = [("ns", &*config.namespace), ("service", "till"), ("version", "1.2.0")];
    stranger.announce("Till 1", &text);
    until(&mut watch, &mut view, |view| view.len() == 1).await;
    let found = &reader.get("till").await.unwrap()[0];
    assert_eq!((&*found.version, &*found.nodes[0].id), ("1.2.0", "Till-1"));
    assert_eq!(found.nodes[0].address, "127.0.0.1:7000");
    drop(stranger);
    assert_eq!(until_gone(&mut watch, &mut view).await, RemoveReason::Deregistered);
}

/// What cannot be read hides itself and nothing else.
#[tokio::test]
async fn nonsense_hides_only_itself() {
    let config = config();
    let (owner, reader) = (registry(&config), registry(&config));
    let stranger = Stranger::new(&config);
    let (ns, long) = (("ns", &*config.namespace), "x".repeat(200));
    for (name, text) in [
        ("empty", &[][..]),
        ("incomplete", &[ns, ("service", "greeter"), ("stamp", "1"), ("ttl", "9"), ("parts", "9")]),
        ("damaged", &[ns, ("service", "greeter"), ("stamp", "1"), ("parts", "1"), ("r0", "{")]),
        ("wrong", &[ns, ("service", "Not A Name")]),
        ("long", &[ns, ("service", &*long)]),
    ] {
        stranger.announce(name, text);
    }
    let good = registration("greeter", "good", 1);
    owner.register(&good, HOUR).await.unwrap();
    let is_alone = |services: &[Service]| services.iter().flat_map(|s| &s.nodes).eq([&good.node]);
    let found = async || reader.get("greeter").await.is_ok_and(|found| is_alone(&found));
    eventually("the good one is found, alone", found).await;
    assert_eq!(reader.list().await.unwrap().len(), 1);
}

/// Who cannot keep up with the news is told that it is stale, and then what there is.
#[tokio::test(flavor = "multi_thread")]
async fn lost_news_are_asked_for_again() {
    let config = config();
    let stranger = Stranger::new(&config);
    let (block, blocked) = mpsc::channel::<()>();
    let (tell, told) = mpsc::channel();
    let reader = registry(&config);
    let thread = std::thread::spawn(move || {
        let builder = &mut tokio::runtime::Builder::new_current_thread();
        builder.enable_all().build().unwrap().block_on(async {
            let mut watch = reader.watch(Scope::All).await.unwrap();
            let mut view = View::new();
            view.apply(&next(&mut watch).await);
            tell.send(()).unwrap();
            // Nothing of this runtime goes on until the flood is over.
            blocked.recv().unwrap();
            let is_stale = |update: &Update| matches!(update, Update::Stale { .. });
            let mut has_been_stale = false;
            while !has_been_stale || view.len() < FLOOD {
                let update = next(&mut watch).await;
                has_been_stale |= is_stale(&update);
                view.apply(&update);
            }
        });
    });
    told.recv().unwrap();
    let events = stranger.0.browse(TYPE).unwrap();
    for version in 0..ROUNDS {
        for node in 0..FLOOD {
            let version = format!("{version}.0.0");
            let text = [("ns", &*config.namespace), ("service", "flood"), ("version", &version)];
            stranger.announce(&format!("n{node}"), &text);
            // A pace that every socket's buffer can take, over before the reader counts as stopped.
            if node % 4 == 0 {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        }
    }
    let last = format!("n{}.{TYPE}", FLOOD - 1);
    let is_last = |event: &ServiceEvent| match event {
        ServiceEvent::ServiceResolved(service) => service.fullname == last,
        _ => false,
    };
    while events.recv_async().await.is_ok_and(|event| !is_last(&event)) {}
    block.send(()).unwrap();
    thread.join().unwrap();
}

/// With so many nodes, each said so often, a queue of a thousand news is full.
const FLOOD: usize = 200;
const ROUNDS: usize = 8;
