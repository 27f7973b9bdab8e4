//! An error travels to the caller.

#[derive(Debug, thiserror::Error, micro::RpcError, serde::Deserialize)]
#[error("no greeting")]
pub struct GreetError;

#[micro::service]
pub trait Greeter {
    async fn hello(&self) -> Result<String, GreetError>;
}

fn main() {}
