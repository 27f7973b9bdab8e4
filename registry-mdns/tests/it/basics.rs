//! Between handles on the loopback: what is beyond the contract, or why it holds here.

use std::net::UdpSocket;
use std::sync::Arc;
use std::task::{Context, Wake};

use futures::StreamExt;
use micro_registry::{
    Endpoint, Endpoints, ErrorKind, Registry, RegistryUrl, RemoveReason, Scope, Update, View,
};
use micro_registry_mdns::MdnsRegistry;

use crate::{HOUR, config, eventually, greeter, next, registration, registry, until, until_gone};

/// The first lookup of a fresh handle finds what was announced a moment ago, although a record that
/// was just sent is not sent again for a second.
#[tokio::test]
async fn the_first_lookup_waits_for_the_answers() {
    let finds = async || {
        let config = config();
        let (owner, fresh) = (registry(&config), registry(&config));
        owner.register(&registration("greeter", "a", 1), HOUR).await.unwrap();
        fresh.get("greeter").await.is_ok()
    };
    // A host too busy to answer in time does not answer in time; not always, though.
    eventually("a first lookup finds what there is", finds).await;
}

/// Endpoints that do not fit are said to be omitted, to everybody alike; what does not fit without
/// them is refused.
#[tokio::test]
async fn endpoints_are_omitted_when_they_do_not_fit() {
    let config = config();
    let (owner, reader) = (registry(&config), registry(&config));
    let mut large = registration("greeter", "a", 1);
    let mut endpoint = Endpoint::new("greeter", "hello");
    endpoint.doc = "x".repeat(2_000);
    large.endpoints = Endpoints::Listed(vec![endpoint]);
    owner.register(&large, HOUR).await.unwrap();
    eventually("it is found by both", async || {
        owner.get("greeter").await.is_ok() && reader.get("greeter").await.is_ok()
    })
    .await;
    for registry in [&owner, &reader] {
        assert_eq!(registry.get("greeter").await.unwrap()[0].endpoints, Endpoints::Omitted);
    }
    large.metadata.insert("long".into(), "x".repeat(2_000));
    let error = owner.register(&large, HOUR).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Invalid);
}

/// The longest record there may be arrives, and is not taken for somebody else's where it comes from.
#[tokio::test]
async fn the_longest_record_arrives() {
    let config = config();
    let (owner, reader) = (registry(&config), registry(&config));
    let (mut watch, mut view) = (reader.watch(Scope::All).await.unwrap(), View::new());
    let mut node = registration("greeter", "a", 1);
    let mut length = 800;
    let with = |length: usize| [("long".to_owned(), "x".repeat(length))].into();
    node.metadata = with(length);
    while owner.register(&node, HOUR).await.is_ok() {
        length += 1;
        node.metadata = with(length);
    }
    let longest = with(length - 1);
    let is_there = |view: &View| view.iter().any(|r| r.metadata == longest);
    let told = until(&mut watch, &mut view, is_there).await;
    assert!(told.iter().all(|update| !matches!(update, Update::Remove { .. })), "{told:?}");
}

/// More at once than the library takes at once is taken one after the other.
#[tokio::test]
async fn many_at_once() {
    let registry = registry(&config());
    let nodes: Vec<_> = (0..300).map(|i| registration("greeter", &i.to_string(), 1)).collect();
    let register = |node| registry.register(node, HOUR);
    let done = futures::future::join_all(nodes.iter().map(register)).await;
    assert!(done.iter().all(Result::is_ok), "{done:?}");
    assert_eq!(registry.get("greeter").await.unwrap()[0].nodes.len(), 300);
}

/// Who is dropped without a word says goodbye all the same.
#[tokio::test]
async fn dropping_a_handle_is_a_goodbye() {
    let config = config();
    let (owner, reader) = (registry(&config), registry(&config));
    let (mut watch, mut view) = (reader.watch(greeter()).await.unwrap(), View::new());
    owner.register(&registration("greeter", "a", 1), HOUR).await.unwrap();
    until(&mut watch, &mut view, |view| view.len() == 1).await;
    drop(owner);
    assert_eq!(until_gone(&mut watch, &mut view).await, RemoveReason::Deregistered);
}

/// An owner that heard of its successor is told that it is fenced, and its record is taken back.
#[tokio::test]
async fn a_known_successor_fences() {
    let config = config();
    let (old, new) = (registry(&config), registry(&config));
    old.register(&registration("greeter", "a", 1), HOUR).await.unwrap();
    let (mut watch, mut view) = (old.watch(Scope::All).await.unwrap(), View::new());
    new.register(&registration("greeter", "a", 2), HOUR).await.unwrap();
    let is_two = |view: &View| view.iter().any(|r| r.node.epoch == 2);
    until(&mut watch, &mut view, is_two).await;
    let fenced = old.register(&registration("greeter", "a", 1), HOUR).await.unwrap_err();
    assert_eq!(fenced.kind(), ErrorKind::Fenced);
    new.deregister(&registration("greeter", "a", 2)).await.unwrap();
    assert_eq!(until_gone(&mut watch, &mut view).await, RemoveReason::Deregistered);
    old.register(&registration("greeter", "a", 1), HOUR).await.unwrap();
}

/// A port that somebody keeps to himself is an error that says so and a watch that is stale; once
/// it is free everything works by itself.
#[tokio::test]
async fn a_taken_port_is_an_outage() {
    let config = config();
    let taken = UdpSocket::bind(("0.0.0.0", config.port)).unwrap();
    let registry = registry(&config);
    let node = registration("greeter", "a", 1);
    let away = [
        registry.register(&node, HOUR).await.unwrap_err(),
        registry.get("greeter").await.unwrap_err(),
        registry.list().await.unwrap_err(),
    ];
    for error in away {
        assert_eq!(error.kind(), ErrorKind::Unavailable);
        assert!(error.to_string().contains("taken by a program that does not share"), "{error}");
    }
    let mut watch = registry.watch(greeter()).await.unwrap();
    assert!(matches!(next(&mut watch).await, Update::Stale { .. }));
    drop(taken);
    assert!(matches!(next(&mut watch).await, Update::Reset { .. }));
    registry.register(&node, HOUR).await.unwrap();
    assert_eq!(registry.get("greeter").await.unwrap().len(), 1);
}

/// A runtime that ends takes the task along; on the next one the same handle works again.
#[test]
fn a_handle_outlives_its_runtime() {
    let registry = registry(&config());
    for _ in 0..2 {
        let builder = &mut tokio::runtime::Builder::new_current_thread();
        builder.enable_all().build().unwrap().block_on(async {
            registry.register(&registration("greeter", "a", 1), HOUR).await.unwrap();
            assert_eq!(registry.get("greeter").await.unwrap().len(), 1);
        });
    }
}

/// A panic in the task is an outage that ends: who watches is told, and then follows again.
#[tokio::test]
async fn a_panic_is_an_outage() {
    let registry = registry(&config());
    let mut panics = registry.watch(greeter()).await.unwrap();
    let mut watch = registry.watch(greeter()).await.unwrap();
    // Whoever watches is woken by the task.
    let waker = Arc::new(Panics).into();
    assert!(panics.poll_next_unpin(&mut Context::from_waker(&waker)).is_pending());
    assert!(matches!(next(&mut watch).await, Update::Stale { .. }));
    assert!(matches!(next(&mut watch).await, Update::Reset { .. }));
    registry.register(&registration("greeter", "a", 1), HOUR).await.unwrap();
    assert!(matches!(next(&mut watch).await, Update::Put(_)));
}

struct Panics;

impl Wake for Panics {
    fn wake(self: Arc<Self>) {
        panic!("by the test");
    }
}

/// A URL says everything there is to say.
#[test]
fn by_url() {
    let url: RegistryUrl = "mdns:?namespace=shop&interface=lo&port=15353".parse().unwrap();
    let shown = format!("{:?}", MdnsRegistry::from_url(url).unwrap());
    for part in ["\"shop\"", "\"lo\"", "15353"] {
        assert!(shown.contains(part), "{shown}");
    }
    assert!(MdnsRegistry::from_url("mdns:?x=1".parse().unwrap()).is_err());
}
