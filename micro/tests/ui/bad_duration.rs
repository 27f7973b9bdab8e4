//! A duration has a number and a unit.

#[micro::service]
pub trait Greeter {
    #[rpc(timeout = "200")]
    async fn hello(&self) -> String;
}

fn main() {}
