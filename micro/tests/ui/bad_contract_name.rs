//! A contract is named like a service can be.

#[micro::service(name = "The Greeter")]
pub trait Greeter {
    async fn hello(&self) -> String;
}

fn main() {}
