//! What a service serves, as its versions say together.

use std::collections::HashMap;
use std::sync::Arc;

use micro::dynamic::Description;
use micro::registry::Endpoint;
use micro::rpc::Name;

/// What the versions of a service serve, summed up.
#[derive(Debug, Default)]
pub(crate) struct Interface {
    /// What each of them serves, as far as that is known; the latest comes last.
    pub(crate) descriptions: Vec<Description>,
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

/// What a method's name leads to.
#[derive(Debug)]
pub(crate) enum Found {
    Method(Method),
    /// The contracts that have one of the name.
    Several(Vec<Name>),
    Nothing,
}

impl Interface {
    pub(crate) fn of(descriptions: Vec<Description>) -> Self {
        let mut interface = Self { descriptions, ..Self::default() };
        interface.learn();
        interface
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

    /// All methods, by name.
    pub(crate) fn methods(&self) -> impl Iterator<Item = &Method> {
        let mut names: Vec<_> = self.methods.keys().collect();
        names.sort();
        names.into_iter().flat_map(|name| &self.methods[name])
    }

    /// Whether the same is served, whoever says so.
    pub(crate) fn is_same(&self, other: &Self) -> bool {
        let (these, those) = (&self.descriptions, &other.descriptions);
        let same = |(this, that): (&Description, &Description)| {
            this.version == that.version && this.contracts == that.contracts
        };
        these.len() == those.len() && these.iter().zip(those).all(same)
    }

    /// Whether nobody says what there is.
    pub(crate) fn is_empty(&self) -> bool {
        self.contracts.is_empty()
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

    pub(crate) fn unlisted(contract: Name, name: &str) -> Self {
        Self { contract, name: name.to_owned().into(), idempotent: false, endpoint: None }
    }
}
