//! Registrations to try things with: the one place that builds them.

use std::sync::Arc;

use micro_registry::{Endpoint, Endpoints, Node, NodeState, Registration, Scope, View};

/// What a backend without writes holds: the nodes of `hello` in two versions, and a service whose
/// name is longer.
pub fn fixture() -> Vec<Registration> {
    let mut hello = [registration("hello", "a"), registration("hello", "b")];
    hello[1].version = "2.0.0".into();
    hello[1].node.address = "127.0.0.1:7001".into();
    let mut longer = registration("hello2", "a2");
    longer.node.address = "127.0.0.1:7002".into();
    hello.into_iter().chain([longer]).collect()
}

pub(crate) fn registration(service: &str, id: &str) -> Registration {
    Registration::new(service, "1.0.0", Node::new(id, "127.0.0.1:7000"))
}

pub(crate) fn with_epoch(service: &str, id: &str, epoch: u64) -> Registration {
    let mut registration = registration(service, id);
    registration.node.epoch = epoch;
    registration
}

pub(crate) fn with_weight(service: &str, id: &str, weight: u16) -> Registration {
    let mut registration = registration(service, id);
    registration.node.weight = weight;
    registration
}

/// A registration with something in every field.
pub(crate) fn full(service: &str, id: &str) -> Registration {
    let mut full = with_epoch(service, id, 7);
    for (_, change) in changes() {
        change(&mut full);
    }
    full
}

/// What is changed, and how.
pub(crate) type Change = (&'static str, fn(&mut Registration));

/// A change of each field.
pub(crate) fn changes() -> Vec<Change> {
    vec![
        ("version", |r| r.version = "1.1.0-rc.1+build.5".into()),
        ("service metadata", |r| drop(r.metadata.insert("team".into(), "väst \"1\"\n".into()))),
        ("list of endpoints", |r| r.endpoints = one_endpoint(|_| {})),
        ("endpoint's schema", |r| {
            let schema = [("type", "object")].into_iter().collect();
            r.endpoints = one_endpoint(|endpoint| endpoint.request = Some(schema));
        }),
        ("endpoint's schema of errors", |r| {
            let schema = [("type", "object")].into_iter().collect();
            r.endpoints = one_endpoint(|endpoint| endpoint.error = Some(schema));
        }),
        ("endpoint's flag", |r| {
            r.endpoints = one_endpoint(|endpoint| endpoint.idempotent = true);
        }),
        ("endpoint's text", |r| r.endpoints = one_endpoint(|endpoint| endpoint.doc = "Ä.".into())),
        ("endpoint's metadata", |r| {
            r.endpoints = one_endpoint(|e| drop(e.metadata.insert("k".into(), "v".into())));
        }),
        ("address", |r| r.node.address = "host-1.local:65535".into()),
        ("state", |r| r.node.state = NodeState::Draining),
        ("weight", |r| r.node.weight = 0),
        ("zone", |r| r.node.zone = Some("north-1".into())),
        ("node metadata", |r| drop(r.node.metadata.insert("k".into(), String::new()))),
        ("epoch", |r| r.node.epoch += 1),
    ]
}

/// The view of who knows these.
pub(crate) fn view<'a>(registrations: impl IntoIterator<Item = &'a Registration>) -> View {
    registrations.into_iter().cloned().map(Arc::new).collect()
}

pub(crate) fn scope(service: &str) -> Scope {
    Scope::Service(service.to_owned())
}

fn one_endpoint(change: impl FnOnce(&mut Endpoint)) -> Endpoints {
    let mut endpoints = [Endpoint::default()];
    endpoints[0].contract = "greeter".into();
    endpoints[0].name = "hello".into();
    change(&mut endpoints[0]);
    Endpoints::Listed(endpoints.into())
}
