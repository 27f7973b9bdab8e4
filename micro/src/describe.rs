//! What a running service says of itself at `/describe`.

use micro_registry::{Endpoint, Registration};
use serde::Serialize;

use crate::Contract;

/// The JSON a node answers at `/describe`.
pub(crate) fn describe(registration: &Registration, contracts: &[Contract]) -> Vec<u8> {
    let description = Description {
        service: &registration.service,
        version: &registration.version,
        node: &registration.node.id,
        contracts: contracts.iter().map(ContractDescription::from).collect(),
    };
    serde_json::to_vec_pretty(&description).expect("strings and JSON values always encode")
}

#[derive(Serialize)]
struct Description<'a> {
    service: &'a str,
    version: &'a str,
    node: &'a str,
    contracts: Vec<ContractDescription<'a>>,
}

#[derive(Serialize)]
struct ContractDescription<'a> {
    name: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    doc: &'static str,
    methods: Vec<Endpoint>,
}

impl<'a> From<&'a Contract> for ContractDescription<'a> {
    fn from(contract: &'a Contract) -> Self {
        Self { name: contract.name(), doc: contract.doc(), methods: contract.endpoints() }
    }
}
