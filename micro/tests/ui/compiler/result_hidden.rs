//! The error of a `Result` is written out, even if the alias has another name.

type Answer<T> = Result<T, GreetError>;

#[derive(Debug, thiserror::Error, micro::RpcError, serde::Serialize, serde::Deserialize)]
#[error("no greeting")]
pub struct GreetError;

#[micro::service]
pub trait Greeter {
    async fn hello(&self) -> Answer<String>;
}

fn main() {}
