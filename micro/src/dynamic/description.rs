//! What a service says about itself, written by a node and read by those who ask it.

use micro_registry::{Endpoint, Endpoints, Registration, Service};
use serde::{Deserialize, Serialize};

use crate::Contract;

/// What the nodes of one version of a service say about it; in JSON it is what `/describe` answers.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Description {
    /// The name it is looked up by.
    pub service: String,
    /// The version described.
    pub version: String,
    /// The node that says so; `None` for what the registry has,
    /// which is without schemas.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node: Option<String>,
    /// What it serves.
    pub contracts: Vec<ContractDescription>,
}

/// What a service says about one of its contracts.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct ContractDescription {
    /// The name callers route by; empty for methods that name no contract.
    pub name: String,
    /// What it is for; the registry does not have it, so it may be empty.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub doc: String,
    /// Its methods.
    pub methods: Vec<Endpoint>,
}

impl Description {
    /// What the registry has of one version; `None` when it says that the nodes themselves tell it.
    pub fn of(service: &Service) -> Option<Self> {
        let Endpoints::Listed(endpoints) = &service.endpoints else { return None };
        let mut contracts = Vec::<ContractDescription>::new();
        for endpoint in endpoints {
            let known = contracts.iter_mut().find(|known| known.name == endpoint.contract);
            match known {
                Some(contract) => contract.methods.push(endpoint.clone()),
                None => contracts.push(ContractDescription {
                    name: endpoint.contract.clone(),
                    doc: String::new(),
                    methods: vec![endpoint.clone()],
                }),
            }
        }
        let (name, version) = (service.name.clone(), service.version.clone());
        Some(Self { service: name, version, node: None, contracts })
    }

    /// Whether it is of this service and version.
    pub(crate) fn is_of(&self, version: &Service) -> bool {
        self.service == version.name && self.version == version.version
    }

    /// All methods, contract by contract.
    pub fn methods(&self) -> impl Iterator<Item = &Endpoint> {
        self.contracts.iter().flat_map(|contract| &contract.methods)
    }

    /// The method of this contract, if it is there.
    pub fn method(&self, contract: &str, method: &str) -> Option<&Endpoint> {
        self.methods().find(|known| known.contract == contract && known.name == method)
    }

    /// What a node that is about to serve says.
    pub(crate) fn of_node(registration: &Registration, contracts: &[Contract]) -> Self {
        Self {
            service: registration.service.clone(),
            version: registration.version.clone(),
            node: Some(registration.node.id.clone()),
            contracts: contracts.iter().map(ContractDescription::from).collect(),
        }
    }

    /// The JSON a node answers at `/describe`.
    pub(crate) fn to_json(&self) -> Vec<u8> {
        serde_json::to_vec_pretty(self).expect("strings and JSON values always encode")
    }
}

impl From<&Contract> for ContractDescription {
    fn from(contract: &Contract) -> Self {
        let (name, doc) = (contract.name().to_owned(), contract.doc().to_owned());
        Self { name, doc, methods: contract.described() }
    }
}
