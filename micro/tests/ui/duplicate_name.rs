//! Names on the wire are unique.

#[micro::service]
pub trait Greeter {
    async fn hello(&self) -> String;
    #[rpc(name = "hello")]
    async fn greet(&self) -> String;
}

fn main() {}
