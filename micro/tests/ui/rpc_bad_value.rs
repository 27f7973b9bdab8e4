//! Options have values of their own kind.

#[micro::service]
pub trait Greeter {
    #[rpc(idempotent = true, timeout = 200, name)]
    async fn hello(&self) -> String;
}

fn main() {}
