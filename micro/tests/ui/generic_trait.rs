//! A contract has no type parameters.

#[micro::service]
pub trait Greeter<T> {
    async fn hello(&self, name: T) -> String;
}

fn main() {}
