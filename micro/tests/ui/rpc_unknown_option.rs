//! Options of methods are known.

#[micro::service]
pub trait Greeter {
    #[rpc(idempotant)]
    async fn hello(&self) -> String;
}

fn main() {}
