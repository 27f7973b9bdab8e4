//! The codes are known.

#[derive(Debug, micro::RpcError, serde::Serialize, serde::Deserialize)]
pub enum GreetError {
    #[rpc(code = banned)]
    Banned,
    #[rpc(code = "NotFound")]
    Nobody,
}

impl std::fmt::Display for GreetError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("no greeting")
    }
}

impl std::error::Error for GreetError {}

fn main() {}
