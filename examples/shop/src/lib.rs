//! The contracts of three services that call each other: storefront → orders → stock.
//!
//! Each has two ways to fail. `buy`, `place` and `take` have errors of their own, typed, which each
//! service turns into what its callers understand. `available`, `free` and `count` return
//! `micro::Error`: whatever goes wrong below is passed up with `?` and tells its own story.

use micro::{CallError, Context};
use serde::{Deserialize, Serialize};

/// What customers call.
#[micro::service]
pub trait Storefront {
    /// Buys so many of a thing, for the tenant in `baggage.tenant`.
    async fn buy(&self, thing: String, count: u32) -> Result<Receipt, BuyError>;
    /// How many of a thing can be bought.
    #[rpc(idempotent)]
    async fn available(&self, thing: String) -> Result<u32, micro::Error>;
}

/// What the storefront calls.
#[micro::service]
pub trait Orders {
    /// Places an order.
    async fn place(&self, thing: String, count: u32) -> Result<Receipt, OrderError>;
    /// How many of a thing are not promised to anybody.
    #[rpc(idempotent)]
    async fn free(&self, thing: String) -> Result<u32, micro::Error>;
}

/// What orders call; the leaf.
#[micro::service]
pub trait Stock {
    /// Takes things out of the shelf and tells for whom.
    async fn take(&self, cx: &Context, thing: String, count: u32) -> Result<Taken, StockError>;
    /// How many of a thing there are.
    #[rpc(idempotent)]
    async fn count(&self, thing: String) -> Result<u32, micro::Error>;
}

/// What was bought.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
pub struct Receipt {
    /// For whom.
    pub tenant: String,
    /// What.
    pub thing: String,
    /// How many.
    pub count: u32,
}

/// What was taken out of the shelf.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
pub struct Taken {
    /// For whom: the tenant that came with the first call.
    pub tenant: String,
}

/// Why nothing was bought.
#[derive(Debug, PartialEq, thiserror::Error, micro::RpcError, Serialize, Deserialize)]
pub enum BuyError {
    /// There are fewer; some alternatives might do.
    #[error("only {left} left")]
    #[rpc(code = failed_precondition)]
    SoldOut {
        /// How many there are.
        left: u32,
    },
    /// The shop cannot sell at present.
    #[error("closed: {why}")]
    #[rpc(code = unavailable)]
    Closed {
        /// For the shop's people.
        why: String,
    },
}

/// Why an order was not placed.
#[derive(Debug, thiserror::Error, micro::RpcError, Serialize, Deserialize)]
pub enum OrderError {
    /// The stock says no.
    #[error("refused: {0}")]
    #[rpc(code = failed_precondition)]
    Refused(StockError),
    /// The stock says nothing.
    #[error("no stock: {0}")]
    #[rpc(code = unavailable)]
    NoStock(String),
}

/// Why nothing was taken.
#[derive(Debug, thiserror::Error, micro::RpcError, Serialize, Deserialize)]
pub enum StockError {
    /// There are fewer.
    #[error("only {left} there")]
    #[rpc(code = failed_precondition)]
    TooFew {
        /// How many there are.
        left: u32,
    },
}

impl From<CallError<StockError>> for OrderError {
    fn from(error: CallError<StockError>) -> Self {
        match error {
            CallError::App(error) => Self::Refused(error),
            CallError::Rpc(error) => Self::NoStock(error.to_string()),
        }
    }
}

impl From<CallError<OrderError>> for BuyError {
    fn from(error: CallError<OrderError>) -> Self {
        match error {
            CallError::App(OrderError::Refused(StockError::TooFew { left })) => {
                Self::SoldOut { left }
            }
            CallError::App(error) => Self::Closed { why: error.to_string() },
            CallError::Rpc(error) => Self::Closed { why: error.to_string() },
        }
    }
}
