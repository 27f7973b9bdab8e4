//! A registry whose nodes are written down: no engine, no changes.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;

use crate::{
    EmptyReason, Error, ErrorKind, Node, Registration, Registry, RegistryUrl, Scope, Service,
    ServiceSummary, Update, View, Watch, WatchSender, validate,
};

/// A fixed list of nodes.
///
/// A service may register itself when its address is on the list, which changes nothing; anything
/// else is [`Denied`](ErrorKind::Denied), so that a service nobody can find does not look ready.
///
/// Addresses are texts here: whoever connects resolves the names of hosts, at each connect. So
/// `localhost:7801` and `127.0.0.1:7801` are two nodes, and a service that advertises the one is
/// not on a list that has the other.
#[derive(Debug)]
pub struct StaticRegistry {
    view: View,
    /// Kept so that the watches stay open: they end with this registry.
    watchers: Mutex<Vec<WatchSender>>,
}

impl StaticRegistry {
    /// A registry of these nodes.
    ///
    /// # Errors
    ///
    /// `Invalid` when one of them breaks a rule of the model.
    pub fn new(registrations: impl IntoIterator<Item = Registration>) -> Result<Self, Error> {
        let mut view = View::new();
        for registration in registrations {
            validate::registration(&registration, validate::MAX_TTL)?;
            let (service, id) = (&registration.service, &registration.node.id);
            if view.node(service, id).is_some() {
                let message = format!("node `{id}` of `{service}` is listed twice");
                return Err(invalid(message));
            }
            view.apply(&Update::Put(Arc::new(registration)));
        }
        Ok(Self { view, watchers: Mutex::default() })
    }

    /// The registry a URL lists: `static:greeter=10.0.0.1:7000`, as [`parse`](Self::parse) reads it.
    ///
    /// # Errors
    ///
    /// `Invalid` for a host or a query, and for what `parse` refuses.
    pub fn from_url(url: RegistryUrl) -> Result<Self, Error> {
        if url.authority().is_some() {
            return Err(invalid(format!(
                "registry `{url}` names a host: expected static:{EXPECTED}"
            )));
        }
        let registry = Self::parse(url.path())?;
        url.finish(&[])?;
        Ok(registry)
    }

    /// Parses `greeter=10.0.0.1:7000,10.0.0.2:7000;shop=shop.local:80`: services separated by `;`,
    /// addresses by `,`. Nodes take their address as id and are of version `latest`.
    ///
    /// # Errors
    ///
    /// `Invalid`, naming the part that is wrong or listed twice.
    pub fn parse(list: &str) -> Result<Self, Error> {
        let mut known = BTreeSet::new();
        let mut registrations = Vec::new();
        for part in list.split(';').filter(|part| !part.is_empty()) {
            let (service, addresses) = part.split_once('=').ok_or_else(|| malformed(part))?;
            for address in addresses.split(',') {
                check_entry(part, service, address)?;
                if !known.insert((service, address)) {
                    let message = format!("static registry lists {service}={address} twice");
                    return Err(invalid(message));
                }
                let node = Node::new(free_id(&registrations, service, address), address);
                registrations.push(Registration::new(service, "latest", node));
            }
        }
        if registrations.is_empty() {
            return Err(malformed(list));
        }
        Self::new(registrations)
    }

    /// The addresses on the list, for people to read.
    fn addresses(&self, service: &str) -> String {
        let of_service = self.view.iter().filter(|known| known.service == service);
        let addresses: Vec<_> = of_service.map(|known| &*known.node.address).collect();
        if addresses.is_empty() { "nothing".to_owned() } else { addresses.join(", ") }
    }
}

#[async_trait]
impl Registry for StaticRegistry {
    fn name(&self) -> &str {
        "static"
    }

    async fn register(&self, registration: &Registration, ttl: Duration) -> Result<(), Error> {
        validate::registration(registration, ttl)?;
        let listed = |known: &&Arc<Registration>| {
            known.service == registration.service && known.node.address == registration.node.address
        };
        if self.view.iter().any(|known| listed(&known)) {
            return Ok(());
        }
        let (service, address) = (&registration.service, &registration.node.address);
        Err(Error::new(
            ErrorKind::Denied,
            format!(
                "`{service}` at {address} is not on the list of the static registry, which has {} \
                 of that name: expected the same text there and here",
                self.addresses(service)
            ),
        ))
    }

    async fn deregister(&self, registration: &Registration) -> Result<(), Error> {
        validate::identity(registration)
    }

    async fn get(&self, service: &str) -> Result<Vec<Service>, Error> {
        validate::service_name(service)?;
        let services = self.view.service(service);
        if services.is_empty() { Err(Error::not_found(service)) } else { Ok(services) }
    }

    async fn list(&self) -> Result<Vec<ServiceSummary>, Error> {
        Ok(self.view.list())
    }

    async fn watch(&self, scope: Scope) -> Result<Watch, Error> {
        scope.validate()?;
        let is_in_scope =
            |known: &&Arc<Registration>| scope.contains(&known.service, &known.node.id);
        let in_scope = self.view.iter().filter(is_in_scope);
        let registrations: Vec<_> = in_scope.cloned().collect();
        let (sender, watch) = Watch::channel(scope);
        sender.send(&Update::reset(registrations, EmptyReason::NeverSeen));
        let mut watchers = self.watchers.lock().unwrap_or_else(PoisonError::into_inner);
        watchers.retain(|watcher| !watcher.is_closed());
        watchers.push(sender);
        Ok(watch)
    }
}

const EXPECTED: &str = "name=address[,address][;name=…]";

/// Says which part of the list breaks a rule.
fn check_entry(part: &str, service: &str, address: &str) -> Result<(), Error> {
    if address.is_empty() {
        return Err(malformed(part));
    }
    validate::service_name(service)
        .and_then(|()| validate::address(address))
        .map_err(|error| invalid(format!("static registry {part:?}: {error}")))
}

/// An id no other node of the service has, made from the address.
fn free_id(registrations: &[Registration], service: &str, address: &str) -> String {
    let is_free = |id: &String| {
        !registrations.iter().any(|known| known.service == service && known.node.id == *id)
    };
    let id = id_of(address);
    let numbered = (2..).map(|number: u32| format!("{id}-{number}"));
    std::iter::once(id.clone()).chain(numbered).find(is_free).unwrap_or(id.clone())
}

/// An address as a node id: what an id may not contain becomes `-`. Leaves room for a number.
fn id_of(address: &str) -> String {
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    let id = address.chars().map(|c| if allowed(c) { c } else { '-' });
    id.take(validate::MAX_ID - 11).collect()
}

fn malformed(part: &str) -> Error {
    invalid(format!("static registry {part:?} is invalid: expected {EXPECTED}"))
}

fn invalid(message: String) -> Error {
    Error::new(ErrorKind::Invalid, message)
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::StreamExt;

    /// A list in text is found by name and watched as one reset.
    #[tokio::test]
    async fn parses_and_serves_its_list() {
        let registry =
            StaticRegistry::parse("greeter=10.0.0.1:7000,[::1]:7000;shop=shop:80").unwrap();
        assert_eq!(registry.get("greeter").await.unwrap()[0].nodes.len(), 2);
        assert_eq!(registry.list().await.unwrap().len(), 2);
        let mut watch = registry.watch(Scope::Service("shop".into())).await.unwrap();
        let Some(Update::Reset { registrations, .. }) = watch.next().await else { panic!() };
        assert_eq!(registrations[0].node.address, "shop:80");
        assert_eq!(registry.get("other").await.unwrap_err().kind(), ErrorKind::NotFound);
    }

    /// A service may announce itself only at an address that is written down.
    #[tokio::test]
    async fn registers_only_what_is_listed() {
        let registry = StaticRegistry::parse("greeter=10.0.0.1:7000").unwrap();
        let at = |address| Registration::new("greeter", "1.0.0", Node::new("a", address));
        let ttl = Duration::from_secs(1);
        registry.register(&at("10.0.0.1:7000"), ttl).await.unwrap();
        let error = registry.register(&at("10.0.0.2:7000"), ttl).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Denied);
        assert!(error.to_string().contains("which has 10.0.0.1:7000 of that name"), "{error}");
    }

    /// What is malformed or listed twice is named, with what would be right.
    #[test]
    fn refuses_what_is_malformed() {
        for (bad, hint) in [
            ("static:", "\"\" is invalid: expected name=address"),
            ("static:greeter", "\"greeter\" is invalid: expected name=address"),
            ("static:greeter=", "\"greeter=\" is invalid: expected name=address"),
            ("static:a=h:1,", "\"a=h:1,\" is invalid: expected name=address"),
            ("static:Greeter=10.0.0.1:1", "\"Greeter=10.0.0.1:1\": service name \"Greeter\""),
            ("static:greeter=10.0.0.1", "\"greeter=10.0.0.1\": address \"10.0.0.1\" is invalid"),
            ("static:a=h:1,h:1", "lists a=h:1 twice"),
            ("static:a=h:1;b=h:1;a=h:2,h:1", "lists a=h:1 twice"),
            ("static://a=h:1", "names a host: expected static:name=address"),
            ("static:a=h:1?ttl=3", "query key `ttl`"),
        ] {
            let error = StaticRegistry::from_url(bad.parse().unwrap()).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Invalid, "{bad}");
            assert!(error.to_string().contains(hint), "{bad}: {error}");
        }
    }

    /// Every address is a node of its own, also where two of them make the same id.
    #[tokio::test]
    async fn every_address_is_a_node() {
        let long = format!("{}:1", "x".repeat(200));
        let list = format!("a=unix:/b/c,unix:/b-c,unix:/b.c,localhost:1,127.0.0.1:1,{long}");
        let registry = StaticRegistry::parse(&list).unwrap();
        let nodes = registry.get("a").await.unwrap().remove(0).nodes;
        let mut ids: Vec<_> = nodes.iter().map(|node| &*node.id).collect();
        ids.retain(|id| id.len() < 20);
        assert_eq!(ids, ["127.0.0.1-1", "localhost-1", "unix--b-c", "unix--b-c-2", "unix--b.c"]);
        assert_eq!(nodes.len(), 6);
    }
}
