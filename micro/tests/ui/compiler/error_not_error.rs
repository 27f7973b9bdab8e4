//! An error says what it is.

#[derive(Debug, micro::RpcError, serde::Serialize, serde::Deserialize)]
pub struct GreetError;

fn main() {}
