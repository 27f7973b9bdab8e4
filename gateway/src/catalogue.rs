//! What there is to call and who serves it, over what the registry and the nodes tell.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::sync::Arc;

use micro::dynamic::Description;
use micro::registry::validate::plain_version;
use micro::registry::{Registration, RemoveReason, Service, Update, View};
use semver::Version;

use crate::Config;
use crate::interface::{Found, Interface, Method};

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
    /// Grows whenever something else can be called.
    pub(crate) edition: u64,
    by_name: BTreeMap<Arc<str>, Arc<Known>>,
}

/// What is known of a service.
#[derive(Debug, Default)]
pub(crate) struct Known {
    /// Its nodes by version; empty when all have left, whose methods are remembered.
    pub(crate) versions: Vec<Service>,
    /// What they serve.
    pub(crate) interface: Arc<Interface>,
    /// Whether the methods of each are known, as its newest node has them.
    pub(crate) is_described: bool,
    /// Whether they are, or nodes were asked in vain.
    pub(crate) is_settled: bool,
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

/// Something that happened to a service.
#[derive(Clone, Debug)]
pub(crate) enum Change {
    /// A node joined.
    Joined(Arc<Registration>),
    /// A node says something else of itself.
    Changed(Arc<Registration>),
    /// A node left.
    Left { service: String, node: String, reason: RemoveReason },
    /// This is what it serves now, as far as that is known.
    Described { service: Arc<str>, interface: Arc<Interface> },
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

    /// Takes updates in, and says what they changed. Each service is worked out once. One that nodes
    /// left and joined may have had none in between: what it serves is told again, for those who
    /// forget it with the last node.
    pub(crate) fn apply(&mut self, updates: &[Update]) -> Vec<Change> {
        let mut changes: Vec<_> = updates.iter().flat_map(|update| self.take_in(update)).collect();
        let names: BTreeSet<_> = changes.iter().map(|change| change.service().to_owned()).collect();
        let replaced = replaced(&changes);
        changes.extend(names.iter().filter_map(|name| {
            self.renew(name).or_else(|| replaced.contains(name).then(|| self.serves(name))?)
        }));
        changes
    }

    /// Takes in what came of asking a version's nodes, whose newest had started then: what the node
    /// said that answered, and when that had started. Says what it changed.
    pub(crate) fn describe(
        &mut self,
        (service, version): VersionOf,
        asked: u64,
        answer: Option<(u64, Description)>,
    ) -> Option<Change> {
        let known = self.services.get(&service);
        let mut versions = known.into_iter().flat_map(|known| &known.versions);
        let now = versions.find(|one| one.version == version).map(newest);
        let told = self.told.entry(service.clone()).or_default().entry(version).or_default();
        told.asked = told.asked.max(asked);
        // What a later one said that has left is not so any more.
        if let Some((epoch, description)) = answer
            && (epoch >= told.epoch || told.description.is_none() || Some(epoch) == now)
        {
            (told.epoch, told.description) = (epoch, Some(description));
        }
        self.renew(&service)
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
        let change = match update {
            Update::Put(new) => match self.view.node(&new.service, &new.node.id) {
                Some(_) => Change::Changed(new.clone()),
                None => Change::Joined(new.clone()),
            },
            Update::Remove { service, id, reason, .. } => {
                Change::Left { service: service.clone(), node: id.clone(), reason: *reason }
            }
            _ => return None,
        };
        (self.config.allows(change.service()) && self.view.apply(update)).then_some(change)
    }

    /// Works out anew what is known of a service, and says if it serves something else.
    fn renew(&mut self, name: &str) -> Option<Change> {
        let mut versions = self.view.service(name);
        if versions.is_empty() {
            self.leave(name);
            return None;
        }
        // What is no semantic version, as `latest`, comes first.
        versions
            .sort_by_cached_key(|version| Version::parse(&plain_version(&version.version)).ok());
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
            descriptions
                .extend(with_schemas(listed, told.and_then(|told| told.description.as_ref())));
        }
        let interface = Arc::new(Interface::of(descriptions));
        let before = self.services.by_name.get(name);
        let was_gone = before.is_some_and(|before| before.versions.is_empty());
        let is_new = was_gone || !before.is_some_and(|before| before.interface.is_same(&interface));
        let known = Known { versions, interface: interface.clone(), is_described, is_settled };
        let service = Arc::<str>::from(name);
        self.services.by_name.insert(service.clone(), Arc::new(known));
        if was_gone {
            self.gone.retain(|gone| **gone != *name);
        }
        self.services.edition += u64::from(is_new);
        is_new.then_some(Change::Described { service, interface })
    }

    fn leave(&mut self, name: &str) {
        self.told.remove(name);
        let Some((name, known)) = self.services.by_name.get_key_value(name) else { return };
        if known.versions.is_empty() {
            return;
        }
        let (name, interface) = (name.clone(), known.interface.clone());
        let known = Known { versions: Vec::new(), interface, is_described: true, is_settled: true };
        self.services.edition += 1;
        self.services.by_name.insert(name.clone(), Arc::new(known));
        self.gone.push_back(name);
        if self.gone.len() > MAX_GONE
            && let Some(first) = self.gone.pop_front()
        {
            self.services.by_name.remove(&first);
        }
    }

    /// What a service that has nodes serves.
    fn serves(&self, name: &str) -> Option<Change> {
        let (service, known) = self.services.by_name.get_key_value(name)?;
        let (service, interface) = (service.clone(), known.interface.clone());
        (!known.versions.is_empty()).then_some(Change::Described { service, interface })
    }

    fn told(&self, version: &Service) -> Option<&Told> {
        self.told.get(&version.name)?.get(&version.version)
    }
}

/// The services that some nodes left and others joined.
fn replaced(changes: &[Change]) -> BTreeSet<String> {
    let left = |change: &&Change| matches!(change, Change::Left { .. });
    let names = |change: &Change| change.service().to_owned();
    let left: BTreeSet<_> = changes.iter().filter(left).map(names).collect();
    let joined = changes.iter().filter(|change| matches!(change, Change::Joined(_))).map(names);
    joined.filter(|name| left.contains(name)).collect()
}

impl Change {
    fn service(&self) -> &str {
        match self {
            Self::Joined(node) | Self::Changed(node) => &node.service,
            Self::Left { service, .. } => service,
            Self::Described { service, .. } => service,
        }
    }
}

impl Told {
    /// Whether it was said by the newest node there is: an older one may serve something else, and so
    /// may those that are left when a newer one leaves.
    fn is_of(&self, version: &Service) -> bool {
        self.description.is_some() && self.epoch == newest(version)
    }
}

/// What a version serves: what is listed, with the schemas that an older node told as long as its
/// methods are the same, or else what that told.
fn with_schemas(listed: Option<Description>, told: Option<&Description>) -> Option<Description> {
    let methods = |description: &Description| -> BTreeSet<_> {
        let methods = description.methods();
        methods.map(|one| (one.contract.clone(), one.name.clone(), one.idempotent)).collect()
    };
    match (listed, told) {
        (Some(listed), Some(told)) if methods(&listed) != methods(told) => Some(listed),
        (listed, told) => told.cloned().or(listed),
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
    /// The method of that name, as [`Interface::find`] says; while nobody says what there is, that of
    /// the contract that is called as the service is.
    pub(crate) fn find(&self, service: &str, contract: Option<&str>, name: &str) -> Found {
        match self.interface.find(service, contract, name) {
            Found::Nothing if self.interface.is_empty() && !self.is_described => {
                Found::Method(Method::unlisted(service.to_owned().into(), name))
            }
            found => found,
        }
    }

    /// Its versions that have nodes, by name.
    pub(crate) fn names(&self) -> impl Iterator<Item = &str> {
        self.versions.iter().map(|version| &*version.version)
    }
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use micro::dynamic::ContractDescription;
    use micro::registry::{EmptyReason, Endpoint, Endpoints, Node};

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

    /// What changes is told once: who joined, who changed, who left and why, and what a service
    /// serves, again when nodes were replaced; a reset tells the difference.
    #[test]
    fn changes() {
        let mut catalogue = Catalogue::new(Config::default());
        let (a, b) = (node("1.0.0", "a", &["x"]), node("1.0.0", "b", &["x"]));
        assert!(!catalogue.services().has_answered);
        let told = told(&catalogue.apply(&[reset(std::slice::from_ref(&a))]));
        assert_eq!(told, ["joined a", "s serves x"]);
        assert!(catalogue.services().has_answered);
        let mut tells = |update: Update| self::told(&catalogue.apply(&[update]));
        assert!(tells(Update::Put(a.clone())).is_empty());
        let mut draining = Registration::clone(&a);
        draining.node.weight = 0;
        assert_eq!(tells(Update::Put(draining.into())), ["changed a"]);
        let told = tells(reset(std::slice::from_ref(&b)));
        assert_eq!(told, ["left a: Unknown", "joined b", "s serves x"]);
        assert!(tells(Update::stale(SystemTime::now(), "down")).is_empty());
        assert_eq!(tells(Update::remove(&b, RemoveReason::Expired)), ["left b: Expired"]);
        assert_eq!(tells(Update::Put(b)), ["joined b", "s serves x"]);
        let more = node("2.0.0", "c", &["y"]);
        assert_eq!(tells(Update::Put(more)), ["joined c", "s serves x y"]);
    }

    fn told(changes: &[Change]) -> Vec<String> {
        let one = |change: &Change| match change {
            Change::Joined(node) => format!("joined {}", node.node.id),
            Change::Changed(node) => format!("changed {}", node.node.id),
            Change::Left { node, reason, .. } => format!("left {node}: {reason:?}"),
            Change::Described { service, interface } => {
                let methods: Vec<_> = interface.methods().map(|method| &*method.name).collect();
                format!("{service} serves {}", methods.join(" "))
            }
        };
        changes.iter().map(one).collect()
    }

    /// A new edition is one in which something else can be called, and no other.
    #[test]
    fn editions() {
        let mut catalogue = Catalogue::new(Config::default());
        let a = node("1.0.0", "a", &["x"]);
        let mut edition = |update: Update| {
            catalogue.apply(&[update]);
            catalogue.services().edition
        };
        let first = edition(reset(std::slice::from_ref(&a)));
        let mut draining = Registration::clone(&a);
        draining.node.weight = 0;
        assert_eq!(edition(Update::Put(draining.into())), first);
        assert_eq!(edition(Update::Put(node("1.0.0", "b", &["x"]))), first);
        let second = edition(Update::Put(node("2.0.0", "c", &["x"])));
        assert!(second > first);
        let gone = edition(reset(&[]));
        assert!(gone > second && edition(Update::Put(a)) > gone);
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
        let change = catalogue.describe(version(), 0, Some((0, told.clone())));
        assert_eq!(self::told(&[change.expect("it is news")]), ["s serves x"]);
        assert!(catalogue.describe(version(), 0, Some((0, told.clone()))).is_none());
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

    /// While a newer node is asked, what an older one told of the same methods is kept; who told it is
    /// no news, and other methods are.
    #[test]
    fn schemas_are_kept() {
        let mut catalogue = Catalogue::new(Config::default());
        let started = |epoch: u64, methods: &[&str]| {
            let mut node = Registration::clone(&node("1.0.0", "a", methods));
            node.node.epoch = epoch;
            Update::Put(Arc::new(node))
        };
        let told = |teller: &str| {
            let (mut method, mut contract) =
                (Endpoint::new("c", "x"), ContractDescription::default());
            (method.idempotent, method.doc) = (true, "does x".to_owned());
            contract.methods = vec![method];
            let mut told = Description::default();
            (told.node, told.contracts) = (Some(teller.to_owned()), vec![contract]);
            told
        };
        let doc = |catalogue: &Catalogue| {
            found(catalogue, "x").endpoint.expect("it is listed").doc.clone()
        };
        catalogue.apply(&[started(1, &["x"])]);
        assert!(catalogue.describe(version(), 1, Some((1, told("a")))).is_some());
        let edition = catalogue.services().edition;
        assert_eq!(self::told(&catalogue.apply(&[started(2, &["x"])])), ["changed a"]);
        assert_eq!((catalogue.undescribed().count(), &*doc(&catalogue)), (1, "does x"));
        assert!(catalogue.describe(version(), 2, Some((2, told("b")))).is_none());
        assert_eq!(catalogue.services().edition, edition);
        assert_eq!(
            self::told(&catalogue.apply(&[started(3, &["x", "y"])])),
            ["changed a", "s serves x y"]
        );
        assert_eq!(doc(&catalogue), "");
    }

    /// What the newest node told counts no longer than it is there: then the newest of the others is
    /// asked, and believed.
    #[test]
    fn who_left_is_not_believed() {
        let mut catalogue = Catalogue::new(Config::default());
        let started = |id: &str, epoch: u64| {
            let mut node = Registration::clone(&node("1.0.0", id, &[]));
            (node.node.epoch, node.endpoints) = (epoch, Endpoints::Omitted);
            Arc::new(node)
        };
        let told = |idempotent: bool| {
            let (mut told, mut contract) = (Description::default(), ContractDescription::default());
            let mut method = Endpoint::new("c", "x");
            method.idempotent = idempotent;
            contract.methods = vec![method];
            told.contracts = vec![contract];
            told
        };
        let newer = started("b", 2);
        catalogue.apply(&[reset(&[started("a", 1), newer.clone()])]);
        catalogue.describe(version(), 2, Some((2, told(true))));
        assert_eq!((found(&catalogue, "x").idempotent, catalogue.undescribed().count()), (true, 0));
        catalogue.apply(&[Update::remove(&newer, RemoveReason::Expired)]);
        assert_eq!(catalogue.undescribed().count(), 1);
        catalogue.describe(version(), 1, Some((1, told(false))));
        assert_eq!(
            (found(&catalogue, "x").idempotent, catalogue.undescribed().count()),
            (false, 0)
        );
    }

    fn version() -> VersionOf {
        ("s".into(), "1.0.0".into())
    }

    /// Of the versions that have a method the latest says how it is, and 10 comes after 9.
    #[test]
    fn the_latest_version_counts() {
        let versions = [
            "canary",
            "0.9.0",
            "0.10.0-1",
            "0.10.0-b",
            "0.10.0-b.2",
            "0.10.0",
            "1.0.0",
            "2026.01.05",
            "2026.1.10",
        ];
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
