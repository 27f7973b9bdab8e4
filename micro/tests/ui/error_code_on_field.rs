//! A variant has a code, its fields have none.

#[derive(Debug, micro::RpcError, serde::Serialize, serde::Deserialize)]
pub enum GreetError {
    Banned(#[rpc(code = not_found)] String),
}

impl std::fmt::Display for GreetError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("no greeting")
    }
}

impl std::error::Error for GreetError {}

fn main() {}
