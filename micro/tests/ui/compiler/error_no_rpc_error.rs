//! The error of a method has a code, which the derive gives it.

#[derive(Debug, thiserror::Error, serde::Serialize, serde::Deserialize)]
#[error("no greeting")]
pub struct GreetError;

#[micro::service]
pub trait Greeter {
    async fn hello(&self) -> Result<String, GreetError>;
}

fn main() {}
