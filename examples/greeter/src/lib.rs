//! The contract `greeter-server` and `greeter-client` share.

use serde::{Deserialize, Serialize};

/// Greets people, and tells who did.
#[micro::service]
pub trait Greeter {
    /// Greets someone by name.
    async fn hello(&self, name: String) -> Result<Greeting, GreetError>;
}

/// A greeting.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Greeting {
    /// What is said.
    pub text: String,
    /// The id of the node that says it.
    pub node: String,
}

/// Why someone is not greeted.
#[derive(Debug, thiserror::Error, micro::RpcError, Serialize, Deserialize)]
pub enum GreetError {
    /// A name is needed to greet by it.
    #[error("nobody to greet: the name is empty")]
    #[rpc(code = invalid_argument)]
    Nobody,
}
