//! Which method is meant, and what is known of it.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use micro::dynamic::Description;
use micro::registry::{Endpoint, Node, Registration, Scope, StaticRegistry, Update};
use micro::{Client, Settings, dynamic};
use serde_json::{Value, json};

use crate::failure::{End, Failure};
use crate::world::{self, World};

/// A method as people write it: `greeter.hello`, `greeter/hello`, or with the contract
/// `shop/greeter.hello`, `shop/greeter/hello`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct MethodName {
    pub(crate) service: String,
    contract: Option<String>,
    method: String,
}

impl FromStr for MethodName {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let malformed = || "expected SERVICE.METHOD or SERVICE/CONTRACT.METHOD".to_owned();
        let (service, contract, method) = match text.split_once('/') {
            None => {
                let (service, method) = text.rsplit_once('.').ok_or_else(malformed)?;
                (service, None, method)
            }
            Some((service, rest)) => match rest.split_once('/').or(rest.rsplit_once('.')) {
                Some((contract, method)) => (service, Some(contract), method),
                None => (service, None, rest),
            },
        };
        if [service, contract.unwrap_or("x"), method].iter().any(|part| part.is_empty()) {
            return Err(malformed());
        }
        let contract = contract.map(str::to_owned);
        Ok(Self { service: service.to_owned(), contract, method: method.to_owned() })
    }
}

impl fmt::Display for MethodName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.contract {
            Some(contract) => write!(f, "{}/{contract}.{}", self.service, self.method),
            None => write!(f, "{}.{}", self.service, self.method),
        }
    }
}

/// Which node is to be called; any if neither is given.
#[derive(clap::Args, Clone, Debug, Default)]
pub(crate) struct Which {
    /// Address to call, without a registry: host:port or unix:/path
    #[arg(long, value_name = "ADDRESS", conflicts_with = "node")]
    address: Option<String>,
    /// Node to call alone, whatever its state: its id, the beginning of that, or its address
    #[arg(long, value_name = "NODE")]
    node: Option<String>,
}

/// A method that was found, and the client that reaches it.
#[derive(Debug)]
pub(crate) struct Found {
    pub(crate) client: Client,
    pub(crate) service: String,
    pub(crate) endpoint: Endpoint,
}

impl MethodName {
    /// Finds the method; its schemas are known only when `with_schemas` asks for them, which takes
    /// a question to a node.
    pub(crate) async fn find(
        &self,
        world: &World,
        which: &Which,
        with_schemas: bool,
    ) -> Result<Found, Failure> {
        let client = match &which.address {
            Some(address) => client_of(self.at(address)?).await?,
            None => world.client().await?,
        };
        let client = match &which.node {
            Some(node) => client_of(self.only(&client, node).await?).await?,
            None => client,
        };
        let asks = with_schemas || which.address.is_some();
        let descriptions = self.descriptions(&client, asks).await;
        let endpoint = match (descriptions, &self.contract) {
            (Ok(descriptions), _) => self.among(&descriptions)?,
            // Whoever says everything may be believed.
            (Err(failure), Some(contract)) if failure.end() != End::NotFound => {
                Endpoint::new(contract, &self.method)
            }
            (Err(failure), _) => return Err(failure),
        };
        Ok(Found { client, service: self.service.clone(), endpoint })
    }

    /// Waits for a node of the service, for the one that is meant if one is. What has an address
    /// needs nobody to say where it is.
    pub(crate) async fn appears(
        &self,
        world: &World,
        which: &Which,
        patience: Duration,
    ) -> Result<(), Failure> {
        if which.address.is_some() {
            return Ok(());
        }
        let is_meant = |known: &Arc<Registration>| {
            which.node.as_ref().is_none_or(|wanted| is_named(&known.node, wanted))
        };
        let client = world.client().await?;
        let mut watch = client.registry().watch(Scope::Service(self.service.clone())).await?;
        let appears = async {
            while let Some(update) = watch.next().await {
                let is_there = match &update {
                    Update::Put(known) => is_meant(known),
                    Update::Reset { registrations, .. } => registrations.iter().any(is_meant),
                    _ => false,
                };
                if is_there {
                    return Ok(());
                }
            }
            Err(Failure::new(End::Unavailable, "the registry ended the watch"))
        };
        tokio::time::timeout(patience, appears).await.unwrap_or_else(|_| {
            let node = which.node.as_ref().map_or(String::new(), |id| format!(" `{id}`"));
            let message = format!("no node{node} of service `{}` appeared in time", self.service);
            Err(Failure::new(End::Deadline, message))
        })
    }

    /// What each version says about itself, or the registry about it.
    async fn descriptions(&self, client: &Client, asks: bool) -> Result<Vec<Description>, Failure> {
        let versions = world::versions(client.registry(), &self.service).await?;
        if asks {
            return Ok(client.describe(&self.service).await?);
        }
        let known: Option<Vec<_>> = versions.iter().map(Description::of).collect();
        match known.filter(|known| known.iter().any(|known| known.methods().next().is_some())) {
            Some(known) => Ok(known),
            None => Ok(client.describe(&self.service).await?),
        }
    }

    /// The method, of whichever version has it.
    fn among(&self, descriptions: &[Description]) -> Result<Endpoint, Failure> {
        let methods = || descriptions.iter().flat_map(Description::methods);
        let mut named = BTreeMap::<_, Endpoint>::new();
        for known in methods().filter(|known| self.is(known)) {
            named
                .entry(&known.contract)
                .and_modify(|earlier| join(earlier, known))
                .or_insert_with(|| known.clone());
        }
        let named: Vec<_> = named.into_values().collect();
        match (&*named, &self.contract) {
            ([only], _) => Ok(only.clone()),
            // Not all that can be called is listed, so what is named in full is tried.
            ([], Some(contract)) => Ok(Endpoint::new(contract, &self.method)),
            ([], None) if methods().next().is_none() => {
                Ok(Endpoint::new(&self.service, &self.method))
            }
            ([], None) => Err(self.unknown(methods())),
            (several, _) => {
                let each = several
                    .iter()
                    .map(|known| format!("{}/{}.{}", self.service, known.contract, known.name));
                let each = each.collect::<Vec<_>>().join(" or ");
                Err(Failure::usage(format!("`{}` is in several contracts: {each}", self.method)))
            }
        }
    }

    /// Whether a description has it.
    pub(crate) fn is_listed(&self, description: &Description) -> bool {
        description.methods().any(|known| self.is(known))
    }

    fn is(&self, endpoint: &Endpoint) -> bool {
        endpoint.name == self.method
            && self.contract.as_ref().is_none_or(|contract| *contract == endpoint.contract)
    }

    /// Says what there is instead.
    pub(crate) fn unknown<'a>(&self, methods: impl Iterator<Item = &'a Endpoint>) -> Failure {
        let mut names: Vec<_> = methods.map(|known| &*known.name).collect();
        names.sort_unstable();
        names.dedup();
        let message = format!("service `{}` has no method `{}`", self.service, self.method);
        let advice = match dynamic::nearest(&self.method, names.iter().copied()) {
            Some(meant) => format!("did you mean `{}.{meant}`?", self.service),
            None => format!("it has {}", names.join(", ")),
        };
        Failure::new(End::Unimplemented, message).and(advice)
    }

    /// A registry of nothing but the service at this address.
    fn at(&self, address: &str) -> Result<StaticRegistry, Failure> {
        let node = Node::new("given", address);
        Ok(StaticRegistry::new([Registration::new(&self.service, "latest", node)])?)
    }

    /// A registry of nothing but one node of the service, as if it wanted calls.
    async fn only(&self, client: &Client, wanted: &str) -> Result<StaticRegistry, Failure> {
        let versions = world::versions(client.registry(), &self.service).await?;
        let nodes = || {
            let of = |version| move |node| (version, node);
            versions.iter().flat_map(move |version| version.nodes.iter().map(of(version)))
        };
        let meant: Vec<_> = nodes().filter(|(_, node)| is_named(node, wanted)).collect();
        let [(version, node)] = &*meant else {
            let ids = nodes().map(|(_, node)| format!("{} at {}", node.id, node.address));
            let ids = ids.collect::<Vec<_>>().join(", ");
            let message = match meant.len() {
                0 => format!("service `{}` has no node `{wanted}`", self.service),
                several => format!("{several} nodes begin with `{wanted}`"),
            };
            return Err(Failure::new(End::NotFound, message).and(format!("there are {ids}")));
        };
        let mut node = (*node).clone();
        node.state = Default::default();
        node.weight = Node::DEFAULT_WEIGHT;
        let mut registration = Registration::new(&self.service, &version.version, node);
        registration.endpoints = version.endpoints.clone();
        Ok(StaticRegistry::new([registration])?)
    }
}

/// Joins what two versions say of a method, as a call may go to either: it takes the arguments that
/// one of them knows, and may be repeated only if both say so.
fn join(one: &mut Endpoint, other: &Endpoint) {
    one.idempotent &= other.idempotent;
    let (Some(known), Some(more)) = (&mut one.request, &other.request) else {
        one.request = one.request.take().or_else(|| other.request.clone());
        return;
    };
    for key in ["properties", "$defs"] {
        let (Some(known), Some(Value::Object(more))) = (known.as_object_mut(), more.get(key))
        else {
            continue;
        };
        let known = known.entry(key).or_insert_with(|| json!({}));
        let Some(known) = known.as_object_mut() else { continue };
        for (name, schema) in more {
            known.entry(name).or_insert_with(|| schema.clone());
        }
    }
}

/// Whether a node is what `--node` says.
fn is_named(node: &Node, wanted: &str) -> bool {
    node.id.starts_with(wanted) || node.address == wanted
}

/// A client of this registry, which the settings of the process would put theirs above.
async fn client_of(registry: StaticRegistry) -> Result<Client, Failure> {
    Ok(Client::connect().settings(Settings::none()).registry(registry).await?)
}

#[cfg(test)]
mod tests {
    use micro::dynamic::ContractDescription;

    use super::*;

    fn parts(text: &str) -> Option<(String, Option<String>, String)> {
        let MethodName { service, contract, method } = text.parse().ok()?;
        Some((service, contract, method))
    }

    fn version(contract: &str, argument: &str, idempotent: bool) -> Description {
        let mut method = Endpoint::new(contract, "pay");
        method.request = Some(json!({ "properties": { (argument): { "type": "string" } } }));
        method.idempotent = idempotent;
        let mut description = Description::default();
        let mut contract = ContractDescription::default();
        contract.methods.push(method);
        description.contracts.push(contract);
        description
    }

    /// Of several versions, a method takes what any of them knows, and is idempotent if all say so.
    #[test]
    fn versions_have_one_method() {
        let name: MethodName = "shop.pay".parse().unwrap();
        let versions = [("a", "card", true), ("b", "card", true), ("a", "cash", false)]
            .map(|(contract, argument, idempotent)| version(contract, argument, idempotent));
        let told = name.among(&versions).unwrap_err().to_string();
        assert_eq!(told, "`pay` is in several contracts: shop/a.pay or shop/b.pay");
        let [a, _, later] = versions;
        let method = name.among(&[a, later]).unwrap();
        assert!(!method.idempotent);
        dynamic::arguments(&method, [("card", "1"), ("cash", "2")]).unwrap();
    }

    /// A service's name may have dots, and the contract comes in between if it is named.
    #[test]
    fn names_of_methods() {
        for (text, service, contract, method) in [
            ("greeter.hello", "greeter", None, "hello"),
            ("eu.shop.buy", "eu.shop", None, "buy"),
            ("greeter/hello", "greeter", None, "hello"),
            ("eu.shop/till.pay", "eu.shop", Some("till"), "pay"),
            ("eu.shop/till/pay", "eu.shop", Some("till"), "pay"),
        ] {
            let expected = (service.to_owned(), contract.map(str::to_owned), method.to_owned());
            assert_eq!(parts(text), Some(expected), "{text}");
        }
        for text in ["greeter", "greeter.", ".hello", "greeter/", "/hello", "a//b", ""] {
            assert_eq!(parts(text), None, "{text}");
        }
    }
}
