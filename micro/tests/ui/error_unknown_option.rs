//! The only option of an error is its code.

#[derive(Debug, micro::RpcError, serde::Serialize, serde::Deserialize)]
#[rpc(status = 404)]
pub enum GreetError {
    #[rpc(code)]
    Banned,
}

impl std::fmt::Display for GreetError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("no greeting")
    }
}

impl std::error::Error for GreetError {}

fn main() {}
