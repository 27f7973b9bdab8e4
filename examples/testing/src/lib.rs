//! A service that calls another one, written so that it can be tested.
//!
//! The tests are the example: `tests/it/main.rs`. Run them: `cargo test -p testing`.

use micro::CallError;
use serde::{Deserialize, Serialize};

/// Somebody else's service, of which we know the contract; the option makes `MockPrices`.
#[micro::service(mock)]
pub trait Prices {
    /// What one of a thing costs, in cents.
    #[rpc(idempotent)]
    async fn price(&self, thing: String) -> Result<u64, PriceError>;
}

/// Why a thing has no price.
#[derive(Debug, PartialEq, thiserror::Error, micro::RpcError, Serialize, Deserialize)]
pub enum PriceError {
    /// Nobody sells it.
    #[error("{thing} is not sold")]
    #[rpc(code = not_found)]
    NotSold {
        /// What was asked for.
        thing: String,
    },
}

/// Our own service.
#[micro::service]
pub trait Checkout {
    /// What all of it costs, in cents.
    #[rpc(idempotent, timeout = "5s")]
    async fn total(&self, things: Vec<String>) -> Result<u64, CheckoutError>;
}

/// Why there is no total.
#[derive(Debug, PartialEq, thiserror::Error, micro::RpcError, Serialize, Deserialize)]
pub enum CheckoutError {
    /// One of the things cannot be bought.
    #[error("{0}")]
    #[rpc(code = failed_precondition)]
    Impossible(String),
    /// The prices could not be had; later they may.
    #[error("no prices now: {0}")]
    #[rpc(code = unavailable)]
    NoPrices(String),
}

/// The implementation. It is given what it calls, so a test decides what that is.
#[derive(Debug)]
pub struct Till {
    prices: PricesClient,
}

impl Till {
    /// A till that asks there for prices.
    #[must_use]
    pub fn new(prices: PricesClient) -> Self {
        Self { prices }
    }
}

impl Checkout for Till {
    async fn total(&self, things: Vec<String>) -> Result<u64, CheckoutError> {
        let mut total = 0;
        for thing in things {
            total += self.prices.price(thing).await?;
        }
        Ok(total)
    }
}

impl From<CallError<PriceError>> for CheckoutError {
    fn from(error: CallError<PriceError>) -> Self {
        match error {
            CallError::App(error) => Self::Impossible(error.to_string()),
            CallError::Rpc(error) => Self::NoPrices(error.to_string()),
        }
    }
}
