//! A contract has only methods.

#[micro::service]
pub trait Greeter {
    type Name;
    const LENGTH: usize;
    async fn hello(&self) -> String;
}

fn main() {}
