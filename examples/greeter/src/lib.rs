//! The contract `greeter-server` and `greeter-client` share.

use serde::{Deserialize, Serialize};

/// Greets people. To callers it is the greeter of `examples/hello`, so either may answer the other's.
#[micro::service]
pub trait Greeter {
    /// Greets someone by name, and says beside the greeting, as [`NODE`], who did.
    async fn hello(&self, cx: &micro::Context, name: String) -> Result<String, GreetError>;
}

/// The metadata of an answer that holds the id of the node it comes from.
pub const NODE: &str = "node";

/// Why someone is not greeted.
#[derive(Debug, thiserror::Error, micro::RpcError, Serialize, Deserialize)]
pub enum GreetError {
    /// A name is needed to greet by it.
    #[error("nobody to greet: the name is empty")]
    #[rpc(code = invalid_argument)]
    Nobody,
}
