//! An answer travels from one side to the other: it is written and read.

#[derive(serde::Deserialize)]
pub struct Read;

#[derive(Debug, thiserror::Error, micro::RpcError, serde::Serialize, serde::Deserialize)]
#[error("no greeting")]
pub struct GreetError;

#[micro::service]
pub trait Greeter {
    async fn hello(&self) -> Result<Vec<Read>, GreetError>;
}

fn main() {}
