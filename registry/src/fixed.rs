//! A registry whose nodes are written down: no engine, no changes.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;

use crate::{
    EmptyReason, Error, ErrorKind, Node, Registration, Registry, Scope, Service, ServiceSummary,
    Update, View, Watch, WatchSender, validate,
};

/// A fixed list of nodes.
///
/// A service may register itself when its address is on the list, which changes nothing; anything
/// else is [`Denied`](ErrorKind::Denied), so that a service nobody can find does not look ready.
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
                return Err(Error::new(ErrorKind::Invalid, message));
            }
            view.apply(&Update::Put(Arc::new(registration)));
        }
        Ok(Self { view, watchers: Mutex::default() })
    }

    /// Parses `greeter=10.0.0.1:7000,10.0.0.2:7000;shop=shop.local:80`: services separated by `;`,
    /// addresses by `,`. Nodes take their address as id and are of version `latest`.
    ///
    /// # Errors
    ///
    /// `Invalid`, naming the part that is wrong.
    pub fn parse(list: &str) -> Result<Self, Error> {
        let mut registrations = Vec::new();
        for part in list.split(';').filter(|part| !part.is_empty()) {
            let (service, addresses) = part.split_once('=').ok_or_else(|| malformed(part))?;
            for address in addresses.split(',') {
                let node = Node::new(id_of(address), address);
                registrations.push(Registration::new(service, "latest", node));
            }
        }
        if registrations.is_empty() {
            return Err(malformed(list));
        }
        Self::new(registrations)
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
        Err(Error::new(
            ErrorKind::Denied,
            format!(
                "`{}` at {} is not on the list of the static registry: add it there",
                registration.service, registration.node.address
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
        let in_scope = self.view.iter().filter(|known| scope.contains(&known.service));
        let registrations: Vec<_> = in_scope.cloned().collect();
        let (sender, watch) = Watch::channel(scope);
        sender.send(&Update::Reset { registrations, empty: Some(EmptyReason::NeverSeen) });
        let mut watchers = self.watchers.lock().unwrap_or_else(PoisonError::into_inner);
        watchers.retain(|watcher| !watcher.is_closed());
        watchers.push(sender);
        Ok(watch)
    }
}

/// An address as a node id: what an id may not contain becomes `-`.
fn id_of(address: &str) -> String {
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    let id: String = address.chars().map(|c| if allowed(c) { c } else { '-' }).collect();
    id.chars().take(validate::MAX_ID).collect()
}

fn malformed(part: &str) -> Error {
    Error::new(
        ErrorKind::Invalid,
        format!("static registry {part:?} is invalid: expected name=address[,address][;name=…]"),
    )
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
    }

    /// What is malformed is named.
    #[test]
    fn refuses_what_is_malformed() {
        for bad in
            ["", "greeter", "greeter=", "Greeter=10.0.0.1:1", "greeter=10.0.0.1", "a=h:1,h:1"]
        {
            assert_eq!(StaticRegistry::parse(bad).unwrap_err().kind(), ErrorKind::Invalid, "{bad}");
        }
    }
}
