//! An option is given once.

#[micro::service]
pub trait Greeter {
    #[rpc(timeout = "1s")]
    #[rpc(timeout = "2s")]
    async fn hello(&self) -> String;
}

fn main() {}
