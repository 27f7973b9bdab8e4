//! What there is to call and who serves it, over what the registry and the nodes tell.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
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
    /// What nodes said of their versions, by service and version: registrations have no schemas, and
    /// may leave out methods.
    told: HashMap<String, HashMap<String, Told>>,
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
    /// Whether the methods of each are known, as its newest node has them.
    pub(crate) is_described: bool,
    /// Whether they are, or nodes were asked in vain.
    pub(crate) is_settled: bool,
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

/// What came of asking the nodes of a version.
#[derive(Debug, Default)]
struct Told {
    /// The newest start of a node when they were asked.
    asked: u64,
    /// When the node started that answered; a newer one may serve something else.
    epoch: u64,
    description: Option<Description>,
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

    /// Takes updates in, and says what they changed. Each service is worked out once.
    pub(crate) fn apply(&mut self, updates: &[Update]) -> Vec<Change> {
        let changes: Vec<_> = updates.iter().flat_map(|update| self.take_in(update)).collect();
        let names: BTreeSet<_> = changes.iter().map(|change| &change.service).collect();
        names.into_iter().for_each(|name| self.renew(name));
        changes
    }

    /// Takes in what came of asking a version's nodes, whose newest had started then: what the node
    /// said that answered, and when that had started.
    pub(crate) fn describe(
        &mut self,
        (service, version): VersionOf,
        asked: u64,
        answer: Option<(u64, Description)>,
    ) {
        let told = self.told.entry(service.clone()).or_default().entry(version).or_default();
        told.asked = told.asked.max(asked);
        if let Some((epoch, description)) = answer
            && (epoch >= told.epoch || told.description.is_none())
        {
            (told.epoch, told.description) = (epoch, Some(description));
        }
        self.renew(&service);
    }

    /// The versions of which no node has told what they serve as the newest has it.
    pub(crate) fn undescribed(&self) -> impl Iterator<Item = &Service> {
        let versions = self.services.by_name.values().flat_map(|known| &known.versions);
        versions.filter(|version| !self.told(version).is_some_and(|told| told.is_of(version)))
    }

    fn take_in(&mut self, update: &Update) -> Vec<Change> {
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
        Some(Change { what, service: service.clone(), node: node.clone(), reason })
    }

    /// Works out anew what is known of a service.
    fn renew(&mut self, name: &str) {
        let mut versions = self.view.service(name);
        if versions.is_empty() {
            return self.leave(name);
        }
        versions.sort_by_cached_key(|version| Precedence::of(&version.version));
        if let Some(told) = self.told.get_mut(name) {
            told.retain(|told, _| versions.iter().any(|version| version.version == *told));
        }
        let (mut is_described, mut is_settled, mut descriptions) = (true, true, Vec::new());
        for version in &versions {
            let told = self.told(version);
            let is_current = told.is_some_and(|told| told.is_of(version));
            let was_asked = told.is_some_and(|told| told.asked >= newest(version));
            let listed = (!is_current).then(|| Description::of(version)).flatten();
            is_described &= is_current || listed.is_some();
            is_settled &= is_current || listed.is_some() || was_asked;
            descriptions.extend(listed.or_else(|| told?.description.clone()));
        }
        let known = Known { versions, is_described, is_settled, ..Known::of(descriptions) };
        let before = self.services.by_name.insert(name.into(), Arc::new(known));
        if before.is_some_and(|before| before.versions.is_empty()) {
            self.gone.retain(|gone| **gone != *name);
        }
    }

    fn leave(&mut self, name: &str) {
        self.told.remove(name);
        let Some((name, known)) = self.services.by_name.get_key_value(name) else { return };
        if known.versions.is_empty() {
            return;
        }
        let (methods, contracts) = (known.methods.clone(), known.contracts.clone());
        let known = Known { methods, contracts, ..Known::default() };
        let known = Known { is_described: true, is_settled: true, ..known };
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
        self.told.get(&version.name)?.get(&version.version)
    }
}

impl Told {
    /// Whether it was said by a node after which none has started.
    fn is_of(&self, version: &Service) -> bool {
        self.description.is_some() && self.epoch >= newest(version)
    }
}

/// Where a version stands among others: what is none comes first, then as semantic versioning has it.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Precedence(Option<([u64; 3], Vec<Part>)>, String);

/// A part of a version: of a pre-release, numbers come before words, and the end after both.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Part {
    /// Nothing follows, but something could have.
    Cut,
    Number(u64),
    Word(String),
    Release,
}

impl Precedence {
    fn of(version: &str) -> Self {
        Self(Self::parse(version), version.to_owned())
    }

    fn parse(version: &str) -> Option<([u64; 3], Vec<Part>)> {
        let version = version.split_once('+').map_or(version, |(version, _)| version);
        let (core, pre) = match version.split_once('-') {
            Some((core, pre)) => (core, Some(pre)),
            None => (version, None),
        };
        let numbers: Result<Vec<u64>, _> = core.split('.').map(str::parse).collect();
        let core = numbers.ok()?.try_into().ok()?;
        let part = |text: &str| text.parse().map_or_else(|_| Part::Word(text.into()), Part::Number);
        let parts = match pre {
            Some(pre) => pre.split('.').map(part).chain([Part::Cut]).collect(),
            None => vec![Part::Release],
        };
        Some((core, parts))
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
    /// all the same as long as it is clear where, or nobody says what there is: a node knows better.
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
            ([], _, []) if !self.is_described => {
                Found::Method(Method::unlisted(service.to_owned().into(), name))
            }
            ([], ..) => Found::Nothing,
            (several, ..) => {
                Found::Several(several.iter().map(|one| one.contract.clone()).collect())
            }
        }
    }

    /// Its versions that have nodes, by name.
    pub(crate) fn names(&self) -> impl Iterator<Item = &str> {
        self.versions.iter().map(|version| &*version.version)
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
        let told = whats(catalogue.apply(&[reset(std::slice::from_ref(&a))]));
        assert_eq!(told, [(What::Joined, "a".into(), None)]);
        assert!(catalogue.services().has_answered);
        assert_eq!(whats(catalogue.apply(&[Update::Put(a.clone())])), []);
        let mut draining = Registration::clone(&a);
        draining.node.weight = 0;
        let told = whats(catalogue.apply(&[Update::Put(draining.into())]));
        assert_eq!(told, [(What::Changed, "a".into(), None)]);
        let told = whats(catalogue.apply(&[reset(std::slice::from_ref(&b))]));
        let left = (What::Left, "a".into(), Some("nobody knows why"));
        assert_eq!(told, [left, (What::Joined, "b".into(), None)]);
        assert_eq!(whats(catalogue.apply(&[Update::stale(SystemTime::now(), "down")])), []);
        let told = whats(catalogue.apply(&[Update::remove(&b, RemoveReason::Expired)]));
        assert_eq!(told, [(What::Left, "b".into(), Some("died or was not renewed"))]);
    }

    /// A method is idempotent if it is in every version that has it.
    #[test]
    fn all_versions_count() {
        let mut catalogue = Catalogue::new(Config::default());
        catalogue
            .apply(&[reset(&[node("1.0.0", "a", &["x", "y"]), node("2.0.0", "b", &["y", "z"])])]);
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
        catalogue.apply(&[reset(&[node("1.0.0", "a", &["x"])])]);
        catalogue.apply(&[reset(&[])]);
        assert!(found(&catalogue, "x").idempotent);
        assert_eq!(catalogue.services().iter().count(), 0);
        for number in 0..MAX_GONE {
            let name = format!("s{number}");
            let other = Registration::new(name, "1.0.0", Node::new("a", "127.0.0.1:1"));
            catalogue.apply(&[Update::Put(Arc::new(other.clone()))]);
            catalogue.apply(&[Update::remove(&other, RemoveReason::Unknown)]);
        }
        assert!(catalogue.services().get("s").is_none());
        assert_eq!(catalogue.services().by_name.len(), MAX_GONE);
        catalogue.apply(&[Update::Put(node("1.0.0", "a", &["x"]))]);
        assert_eq!(catalogue.services().iter().count(), 1);
    }

    /// What a registration leaves out is taken from the word of a node, until a newer node starts.
    #[test]
    fn nodes_tell_what_is_left_out() {
        let mut silent = Registration::clone(&node("1.0.0", "a", &[]));
        silent.endpoints = Endpoints::Omitted;
        let mut catalogue = Catalogue::new(Config::default());
        catalogue.apply(&[reset(&[Arc::new(silent.clone())])]);
        assert_eq!(catalogue.undescribed().count(), 1);
        let mut contract = ContractDescription::default();
        contract.methods = vec![Endpoint::new("c", "x")];
        let mut told = Description::default();
        told.contracts = vec![contract];
        catalogue.describe(version(), 0, Some((0, told.clone())));
        assert_eq!(catalogue.undescribed().count(), 0);
        assert!(found(&catalogue, "x").endpoint.is_some());
        assert!(catalogue.services().get("s").is_some_and(|known| known.is_described));
        silent.node.epoch = 1;
        catalogue.apply(&[Update::Put(Arc::new(silent.clone()))]);
        assert_eq!(catalogue.undescribed().count(), 1);
        let known = |catalogue: &Catalogue| {
            let known = catalogue.services().get("s").expect("it is known");
            (known.is_described, known.is_settled)
        };
        assert_eq!(known(&catalogue), (false, false));
        assert!(found(&catalogue, "x").endpoint.is_some());
        // The word of an old node is not that of the newest, but nobody waits for more.
        catalogue.describe(version(), 1, Some((0, told.clone())));
        assert_eq!((known(&catalogue), catalogue.undescribed().count()), ((false, true), 1));
        catalogue.describe(version(), 1, Some((1, told.clone())));
        assert_eq!((known(&catalogue), catalogue.undescribed().count()), ((true, true), 0));
        // Nothing is kept of what is gone, even if its nodes answer late.
        catalogue.apply(&[Update::remove(&silent, RemoveReason::Expired)]);
        catalogue.describe(version(), 1, Some((1, told)));
        assert!(catalogue.told.is_empty());
        assert_eq!(catalogue.gone.len(), 1);
    }

    fn version() -> VersionOf {
        ("s".into(), "1.0.0".into())
    }

    /// Of the versions that have a method the latest says how it is, and 10 comes after 9.
    #[test]
    fn the_latest_version_counts() {
        let versions = ["canary", "0.9.0", "0.10.0-1", "0.10.0-b", "0.10.0-b.2", "0.10.0", "1.0.0"];
        let mut nodes: Vec<_> =
            versions.iter().map(|version| node(version, version, &[])).collect();
        nodes.sort_by_key(|node| node.version.clone());
        let mut catalogue = Catalogue::new(Config::default());
        catalogue.apply(&[reset(&nodes)]);
        let known = catalogue.services().get("s").expect("it is known");
        let sorted: Vec<_> = known.versions.iter().map(|version| &*version.version).collect();
        assert_eq!(sorted, versions);
    }

    /// What was said of a version that is gone is forgotten, while others are there.
    #[test]
    fn versions_that_are_gone_are_forgotten() {
        let mut catalogue = Catalogue::new(Config::default());
        let (old, new) = (node("1.0.0", "a", &["x"]), node("2.0.0", "b", &["x"]));
        catalogue.apply(&[reset(&[old.clone(), new])]);
        catalogue.describe(version(), 0, Some((0, Description::default())));
        assert_eq!(catalogue.told["s"].len(), 1);
        catalogue.apply(&[Update::remove(&old, RemoveReason::Expired)]);
        assert!(catalogue.told["s"].is_empty());
    }
}
