//! What there is to call and who serves it, over what the registry and the nodes tell.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;

use micro::dynamic::Description;
use micro::registry::{Endpoint, RemoveReason, Service, Update, View};
use micro::rpc::Name;
use serde::Serialize;

use crate::Config;

/// Takes in what happens, and says what there is.
#[derive(Debug)]
pub(crate) struct Catalogue {
    config: Config,
    view: View,
    services: Services,
    /// Those of the services that have no nodes any more, the first that left first.
    gone: VecDeque<Arc<str>>,
    /// What nodes said of their versions: registrations have no schemas, and may leave out methods.
    told: HashMap<VersionOf, Told>,
}

/// The services there are; cloning copies the index alone.
#[derive(Clone, Debug, Default)]
pub(crate) struct Services {
    /// Whether the registry has said yet what there is.
    pub(crate) has_answered: bool,
    by_name: BTreeMap<Arc<str>, Arc<Known>>,
}

/// What is known of a service.
#[derive(Debug, Default)]
pub(crate) struct Known {
    /// Its nodes by version; empty when all have left, whose methods are remembered.
    pub(crate) versions: Vec<Service>,
    /// What each of the versions serves, as far as that is known.
    pub(crate) descriptions: Vec<Description>,
    /// Whether the methods of each are known.
    pub(crate) is_described: bool,
    methods: HashMap<String, Vec<Method>>,
    contracts: Vec<Name>,
}

/// A method that can be called.
#[derive(Clone, Debug)]
pub(crate) struct Method {
    pub(crate) contract: Name,
    pub(crate) name: Name,
    /// Whether it is in all versions that have it.
    pub(crate) idempotent: bool,
    /// As the latest version has it; `None` if nobody lists it.
    pub(crate) endpoint: Option<Arc<Endpoint>>,
}

/// A service and one of its versions.
pub(crate) type VersionOf = (String, String);

#[derive(Debug)]
struct Told {
    /// The newest start of a node at that time; a newer one may serve something else.
    epoch: u64,
    description: Description,
}

/// Something that happened to a node.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct Change {
    pub(crate) what: What,
    pub(crate) service: String,
    pub(crate) node: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) reason: Option<&'static str>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum What {
    Joined,
    Changed,
    Left,
}

/// Services without nodes whose methods are remembered, so that a call says what the client knows: a
/// registry that forgets them all for a moment takes nothing away from those who call.
const MAX_GONE: usize = 1_000;

impl Catalogue {
    pub(crate) fn new(config: Config) -> Self {
        let (view, services) = (View::new(), Services::default());
        Self { config, view, services, gone: VecDeque::new(), told: HashMap::new() }
    }

    /// What there is now.
    pub(crate) fn services(&self) -> &Services {
        &self.services
    }

    /// Takes an update in, and says what it changed.
    pub(crate) fn apply(&mut self, update: &Update) -> Vec<Change> {
        let updates = match update {
            Update::Reset { registrations, .. } => {
                self.services.has_answered = true;
                let newer = registrations.iter().cloned().collect();
                self.view.diff(&newer, |_| RemoveReason::Unknown)
            }
            update => vec![update.clone()],
        };
        updates.iter().filter_map(|update| self.change(update)).collect()
    }

    /// Takes in what a node said of its version, and which start of a node was the newest then.
    pub(crate) fn describe(&mut self, version: VersionOf, epoch: u64, description: Description) {
        let service = version.0.clone();
        self.told.insert(version, Told { epoch, description });
        self.renew(&service);
    }

    /// The versions of which no node has told what they serve.
    pub(crate) fn undescribed(&self) -> impl Iterator<Item = &Service> {
        let versions = self.services.by_name.values().flat_map(|known| &known.versions);
        versions.filter(|version| !self.told(version).is_some_and(|told| told.is_of(version)))
    }

    fn change(&mut self, update: &Update) -> Option<Change> {
        let (service, node, what, reason) = match update {
            Update::Put(new) => {
                let known = self.view.node(&new.service, &new.node.id);
                let what = if known.is_some() { What::Changed } else { What::Joined };
                (&new.service, &new.node.id, what, None)
            }
            Update::Remove { service, id, reason, .. } => {
                (service, id, What::Left, Some(words(*reason)))
            }
            _ => return None,
        };
        if !self.config.allows(service) || !self.view.apply(update) {
            return None;
        }
        self.renew(service);
        Some(Change { what, service: service.clone(), node: node.clone(), reason })
    }

    /// Works out anew what is known of a service.
    fn renew(&mut self, name: &str) {
        let versions = self.view.service(name);
        if versions.is_empty() {
            return self.leave(name);
        }
        let (mut is_described, mut descriptions) = (true, Vec::new());
        for version in &versions {
            let told = self.told(version);
            let is_current = told.is_some_and(|told| told.is_of(version));
            let listed = (!is_current).then(|| Description::of(version)).flatten();
            is_described &= is_current || listed.is_some();
            descriptions.extend(listed.or_else(|| Some(told?.description.clone())));
        }
        let known = Known { versions, is_described, ..Known::of(descriptions) };
        self.gone.retain(|gone| **gone != *name);
        self.services.by_name.insert(name.into(), Arc::new(known));
    }

    fn leave(&mut self, name: &str) {
        self.told.retain(|(service, _), _| service != name);
        let Some((name, known)) = self.services.by_name.get_key_value(name) else { return };
        let (methods, contracts) = (known.methods.clone(), known.contracts.clone());
        let known = Known { methods, contracts, is_described: true, ..Known::default() };
        let name = name.clone();
        self.services.by_name.insert(name.clone(), Arc::new(known));
        self.gone.push_back(name);
        if self.gone.len() > MAX_GONE
            && let Some(first) = self.gone.pop_front()
        {
            self.services.by_name.remove(&first);
        }
    }

    fn told(&self, version: &Service) -> Option<&Told> {
        self.told.get(&(version.name.clone(), version.version.clone()))
    }
}

impl Told {
    /// Whether no node has started since.
    fn is_of(&self, version: &Service) -> bool {
        self.epoch >= newest(version)
    }
}

/// When the newest of its nodes started.
pub(crate) fn newest(version: &Service) -> u64 {
    version.nodes.iter().map(|node| node.epoch).max().unwrap_or_default()
}

impl Services {
    /// What is known of a service.
    pub(crate) fn get(&self, name: &str) -> Option<&Known> {
        self.by_name.get(name).map(|known| &**known)
    }

    /// The services that have nodes, by name.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&str, &Known)> {
        let services = self.by_name.iter().map(|(name, known)| (&**name, &**known));
        services.filter(|(_, known)| !known.versions.is_empty())
    }
}

impl Known {
    /// What its versions serve, summed up.
    pub(crate) fn of(descriptions: Vec<Description>) -> Self {
        let mut known = Self { descriptions, ..Self::default() };
        known.learn();
        known
    }

    fn learn(&mut self) {
        for contract in self.descriptions.iter().flat_map(|version| &version.contracts) {
            let name = Name::from(contract.name.clone());
            if !self.contracts.contains(&name) {
                self.contracts.push(name);
            }
        }
        for endpoint in self.descriptions.iter().flat_map(Description::methods) {
            let methods = self.methods.entry(endpoint.name.clone()).or_default();
            let known = methods.iter_mut().find(|method| *method.contract == *endpoint.contract);
            match known {
                Some(method) => {
                    method.idempotent &= endpoint.idempotent;
                    method.endpoint = Some(Arc::new(endpoint.clone()));
                }
                None => methods.push(Method::listed(endpoint)),
            }
        }
    }

    /// The method of that name: of the contract that is named, or else of the one that has it, where
    /// several have it of the one that is called as the service is. One that nobody lists is called
    /// all the same as long as it is clear where: a node knows better.
    pub(crate) fn find(&self, service: &str, contract: Option<&str>, name: &str) -> Found {
        let listed = self.methods.get(name).map(Vec::as_slice).unwrap_or_default();
        let of = |contract: &str| listed.iter().find(|method| *method.contract == *contract);
        if let Some(contract) = contract {
            let unlisted = || Method::unlisted(contract.to_owned().into(), name);
            return Found::Method(of(contract).cloned().unwrap_or_else(unlisted));
        }
        match (listed, of(service), &*self.contracts) {
            ([only], _, _) => Found::Method(only.clone()),
            (_, Some(namesake), _) => Found::Method(namesake.clone()),
            ([], _, [only]) => Found::Method(Method::unlisted(only.clone(), name)),
            ([], ..) => Found::Nothing,
            (several, ..) => {
                Found::Several(several.iter().map(|one| one.contract.clone()).collect())
            }
        }
    }

    /// All its methods, by name.
    pub(crate) fn methods(&self) -> impl Iterator<Item = &Method> {
        let mut names: Vec<_> = self.methods.keys().collect();
        names.sort();
        names.into_iter().flat_map(|name| &self.methods[name])
    }
}

/// What a method's name leads to.
#[derive(Debug)]
pub(crate) enum Found {
    Method(Method),
    /// The contracts that have one of the name.
    Several(Vec<Name>),
    Nothing,
}

impl Method {
    fn listed(endpoint: &Endpoint) -> Self {
        Self {
            contract: endpoint.contract.clone().into(),
            name: endpoint.name.clone().into(),
            idempotent: endpoint.idempotent,
            endpoint: Some(Arc::new(endpoint.clone())),
        }
    }

    fn unlisted(contract: Name, name: &str) -> Self {
        Self { contract, name: name.to_owned().into(), idempotent: false, endpoint: None }
    }
}

fn words(reason: RemoveReason) -> &'static str {
    match reason {
        RemoveReason::Deregistered => "said goodbye",
        RemoveReason::Expired => "died or was not renewed",
        RemoveReason::Fenced => "a newer one took its place",
        RemoveReason::Policy => "taken out by a rule",
        _ => "nobody knows why",
    }
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use micro::dynamic::ContractDescription;
    use micro::registry::{EmptyReason, Endpoints, Node, Registration};

    use super::*;

    /// A node of a version that serves these methods, of contract `c`, the first of them idempotent.
    fn node(version: &str, id: &str, methods: &[&str]) -> Arc<Registration> {
        let mut registration = Registration::new("s", version, Node::new(id, "127.0.0.1:1"));
        let endpoint = |(index, name): (usize, &&str)| {
            let mut endpoint = Endpoint::new("c", *name);
            endpoint.idempotent = index == 0;
            endpoint
        };
        registration.endpoints =
            Endpoints::Listed(methods.iter().enumerate().map(endpoint).collect());
        Arc::new(registration)
    }

    fn reset(nodes: &[Arc<Registration>]) -> Update {
        Update::reset(nodes.to_vec(), EmptyReason::Unknown)
    }

    fn found(catalogue: &Catalogue, method: &str) -> Method {
        match catalogue.services().get("s").expect("it is known").find("s", None, method) {
            Found::Method(method) => method,
            other => panic!("{other:?}"),
        }
    }

    /// What changes is told once: who joined, who changed, who left and why; a reset tells the
    /// difference.
    #[test]
    fn changes() {
        let mut catalogue = Catalogue::new(Config::default());
        let (a, b) = (node("1.0.0", "a", &["x"]), node("1.0.0", "b", &["x"]));
        assert!(!catalogue.services().has_answered);
        let whats = |changes: Vec<Change>| {
            let what = |change: Change| (change.what, change.node, change.reason);
            changes.into_iter().map(what).collect::<Vec<_>>()
        };
        let told = whats(catalogue.apply(&reset(std::slice::from_ref(&a))));
        assert_eq!(told, [(What::Joined, "a".into(), None)]);
        assert!(catalogue.services().has_answered);
        assert_eq!(whats(catalogue.apply(&Update::Put(a.clone()))), []);
        let mut draining = Registration::clone(&a);
        draining.node.weight = 0;
        let told = whats(catalogue.apply(&Update::Put(draining.into())));
        assert_eq!(told, [(What::Changed, "a".into(), None)]);
        let told = whats(catalogue.apply(&reset(std::slice::from_ref(&b))));
        let left = (What::Left, "a".into(), Some("nobody knows why"));
        assert_eq!(told, [left, (What::Joined, "b".into(), None)]);
        assert_eq!(whats(catalogue.apply(&Update::stale(SystemTime::now(), "down"))), []);
        let told = whats(catalogue.apply(&Update::remove(&b, RemoveReason::Expired)));
        assert_eq!(told, [(What::Left, "b".into(), Some("died or was not renewed"))]);
    }

    /// A method is idempotent if it is in every version that has it.
    #[test]
    fn all_versions_count() {
        let mut catalogue = Catalogue::new(Config::default());
        catalogue
            .apply(&reset(&[node("1.0.0", "a", &["x", "y"]), node("2.0.0", "b", &["y", "z"])]));
        assert!(found(&catalogue, "x").idempotent);
        assert!(!found(&catalogue, "y").idempotent);
        assert!(!found(&catalogue, "z").idempotent);
        assert!(found(&catalogue, "w").endpoint.is_none());
    }

    /// The methods of a service that left are remembered, and it is not listed; of those there are
    /// not more than so many.
    #[test]
    fn who_left_is_remembered() {
        let mut catalogue = Catalogue::new(Config::default());
        catalogue.apply(&reset(&[node("1.0.0", "a", &["x"])]));
        catalogue.apply(&reset(&[]));
        assert!(found(&catalogue, "x").idempotent);
        assert_eq!(catalogue.services().iter().count(), 0);
        for number in 0..MAX_GONE {
            let name = format!("s{number}");
            let other = Registration::new(name, "1.0.0", Node::new("a", "127.0.0.1:1"));
            catalogue.apply(&Update::Put(Arc::new(other.clone())));
            catalogue.apply(&Update::remove(&other, RemoveReason::Unknown));
        }
        assert!(catalogue.services().get("s").is_none());
        assert_eq!(catalogue.services().by_name.len(), MAX_GONE);
        catalogue.apply(&Update::Put(node("1.0.0", "a", &["x"])));
        assert_eq!(catalogue.services().iter().count(), 1);
    }

    /// What a registration leaves out is taken from the word of a node, until a newer node starts.
    #[test]
    fn nodes_tell_what_is_left_out() {
        let mut silent = Registration::clone(&node("1.0.0", "a", &[]));
        silent.endpoints = Endpoints::Omitted;
        let mut catalogue = Catalogue::new(Config::default());
        catalogue.apply(&reset(&[Arc::new(silent.clone())]));
        assert_eq!(catalogue.undescribed().count(), 1);
        let mut contract = ContractDescription::default();
        contract.methods = vec![Endpoint::new("c", "x")];
        let mut told = Description::default();
        told.contracts = vec![contract];
        catalogue.describe(("s".into(), "1.0.0".into()), 0, told);
        assert_eq!(catalogue.undescribed().count(), 0);
        assert!(found(&catalogue, "x").endpoint.is_some());
        assert!(catalogue.services().get("s").is_some_and(|known| known.is_described));
        silent.node.epoch = 1;
        catalogue.apply(&Update::Put(Arc::new(silent)));
        assert_eq!(catalogue.undescribed().count(), 1);
        assert!(catalogue.services().get("s").is_some_and(|known| !known.is_described));
        assert!(found(&catalogue, "x").endpoint.is_some());
    }
}
