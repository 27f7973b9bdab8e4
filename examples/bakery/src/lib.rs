//! The contracts of a bakery: what its services say to each other.

use serde::{Deserialize, Serialize};

/// Bakes.
#[micro::service]
pub trait Kitchen {
    /// Bakes one piece, and says which oven did.
    async fn bake(&self, kind: String) -> Result<String, KitchenError>;
}

/// Why nothing was baked.
#[derive(Debug, thiserror::Error, micro::RpcError, Serialize, Deserialize)]
pub enum KitchenError {
    /// Nobody has learned it.
    #[error("nobody here knows how to bake {kind}")]
    #[rpc(code = not_found)]
    UnknownKind {
        /// What was ordered.
        kind: String,
    },
}

/// Keeps the takings.
#[micro::service]
pub trait Till {
    /// Adds a sale and returns the takings so far.
    async fn ring_up(&self, cents: u32) -> u64;
}

/// Serves customers.
#[micro::service]
pub trait Counter {
    /// Has one piece baked and paid for.
    async fn order(&self, kind: String) -> Result<Sale, micro::Error>;
}

/// What a customer takes home.
#[derive(Debug, Serialize, Deserialize)]
pub struct Sale {
    /// What was baked, and where.
    pub piece: String,
    /// What the bakery has taken so far, in cents.
    pub takings: u64,
}

/// Prints warnings and errors to standard error.
pub fn log() {
    tracing_subscriber::fmt().with_env_filter("warn").with_writer(std::io::stderr).init();
}
