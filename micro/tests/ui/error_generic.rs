//! Both sides know the type of an error.

#[derive(Debug, thiserror::Error, micro::RpcError, serde::Serialize, serde::Deserialize)]
#[error("no greeting")]
pub struct GreetError<T> {
    of: T,
}

fn main() {}
