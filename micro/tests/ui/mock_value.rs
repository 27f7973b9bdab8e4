//! A mock is wanted or not.

#[micro::service(mock = true)]
pub trait Greeter {
    async fn hello(&self) -> String;
}

fn main() {}
