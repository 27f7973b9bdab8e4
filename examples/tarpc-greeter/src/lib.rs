//! A contract and its implementation, written for tarpc alone: nothing here knows who carries the
//! calls.

use serde::{Deserialize, Serialize};
use tarpc::context::Context;

/// Greets people.
#[tarpc::service]
pub trait Greeter {
    /// Greets someone by name.
    async fn hello(name: String) -> String;
    /// Greets several people at once.
    async fn hello_all(names: Vec<String>) -> Result<String, Nobody>;
}

/// There is nobody to greet.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
#[error("nobody to greet")]
pub struct Nobody;

/// Greets in English.
#[derive(Clone, Debug)]
pub struct English;

impl Greeter for English {
    async fn hello(self, _: Context, name: String) -> String {
        format!("Hello, {name}!")
    }

    async fn hello_all(self, _: Context, names: Vec<String>) -> Result<String, Nobody> {
        match names.split_last() {
            None => Err(Nobody),
            Some((last, [])) => Ok(format!("Hello, {last}!")),
            Some((last, others)) => Ok(format!("Hello, {} and {last}!", others.join(", "))),
        }
    }
}
